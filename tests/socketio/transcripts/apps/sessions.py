"""Sessions that begin with a login over HTTP: each client has its own copy of what was there when it connected."""

from __future__ import annotations

import secrets
from typing import Any

import flask
from flask import Flask
from flask.sessions import SessionInterface, SessionMixin

from transcripts.journal import note


class Kept(dict[str, Any], SessionMixin):
    """A session that the server keeps."""

    def __init__(self, key: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.key = key


class KeptSessions(SessionInterface):
    """Keeps sessions in memory; a cookie names them."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}

    def open_session(self, app: Flask, request: flask.Request) -> Kept:
        key = request.cookies.get("key") or secrets.token_hex()
        return Kept(key, self.values.get(key, {}))

    def save_session(self, app: Flask, session: Any, response: flask.Response) -> None:
        self.values[session.key] = dict(session)
        response.set_cookie("key", session.key)


def create(module: Any, *, kept: bool = False, **options: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``.

    :param kept: true to keep sessions here, false for Flask's own, in a signed cookie.
    """
    app = Flask("sessions")
    app.config["SECRET_KEY"] = "only for tests"
    if kept:
        app.session_interface = KeptSessions()
    socketio = module.SocketIO(app, async_mode="threading", **options)
    session = flask.session

    @app.get("/login")
    def login() -> Any:
        session["user"] = flask.request.args["user"]
        return {"user": session["user"]}

    @app.get("/logout")
    def logout() -> Any:
        session.pop("user", None)
        return {}

    @app.get("/session")
    def tell() -> Any:
        return dict(session)

    @app.get("/set")
    def change() -> Any:
        session.update(flask.request.args)
        return dict(session)

    @socketio.on("connect")
    def connected() -> bool:
        note("connect", user=session.get("user"))
        return "user" in session

    @socketio.on("disconnect")
    def disconnected() -> None:
        note("disconnect", session=dict(session))

    @socketio.on("count")
    def count() -> int:
        session["count"] = session.get("count", 0) + 1
        return int(session["count"])

    @socketio.on("set")
    def set_value(key: str, value: Any) -> None:
        session[key] = value

    @socketio.on("session")
    def my_session() -> dict[str, Any]:
        return dict(session)

    @socketio.on("forget")
    def forget() -> None:
        user = session["user"]
        session.clear()
        session["user"] = user

    @socketio.on("count", namespace="/other")
    def count_elsewhere() -> dict[str, Any]:
        session["elsewhere"] = session.get("elsewhere", 0) + 1
        return dict(session)

    return app, socketio
