"""Where and by what unmodified clients of Socket.IO come: paths, prefixes, mounts, and the transports of the host."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from flask import Flask
from support.hosts import call, in_a_thread, serving
from support.socketio_clients import client
from support.socketio_clients import socketio as socketio_package
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.socketio import SocketIO

HANDSHAKE = "?EIO=4&transport=polling"
ON = [{"APP_PROFILE": "DUAL"}, {"APP_PROFILE": "HYBRID", "ENABLE_WS_SPECIAL": "true"}]


@pytest.fixture(autouse=True, params=ON, ids=["dual", "hybrid"])
def turned_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of having clients of Socket.IO served: they mean the same."""
    for name in ("ENABLE_SSE", "HYBRID_PREFIX", "ENABLE_WS_SPECIAL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


def made(**options: Any) -> tuple[Flask, SocketIO]:
    """An app that echoes."""
    app = Flask("where")
    app.config["SECRET_KEY"] = "for tests"
    # A ping answers the poll of a client of python-engineio that has lost its goodbye.
    socketio = SocketIO(app, **{"ping_interval": 3, **options})
    socketio.on("echo")(lambda value: [value, socketio.server.transport(flask_sid())])
    return app, socketio


def flask_sid() -> str:
    from flask import request

    return str(request.sid)  # type: ignore[attr-defined]


def ask(port: int, path: str, *transports: str) -> list[Any]:
    """Echo as an unmodified client that was given a path; return the value and the transport that the host names."""
    visitor = client()
    visitor.connect(f"http://127.0.0.1:{port}", socketio_path=path, transports=list(transports) or None)
    try:
        answer: list[Any] = visitor.call("echo", 1, timeout=30)
        return answer
    finally:
        visitor.disconnect()


def under_werkzeug(app: Any) -> AbstractContextManager[int]:
    """Serve a WSGI app by Werkzeug's threaded server; give its port."""
    return in_a_thread(make_server("127.0.0.1", 0, app, threaded=True))


@pytest.mark.parametrize("server", ["ours", "werkzeug"])
@pytest.mark.parametrize(("options", "environ", "path", "stream"), [
    ({}, {}, "/socket.io", "/api/events/stream"),
    ({"path": "/live/socket.io"}, {}, "/live/socket.io", "/live/api/events/stream"),
    ({"resource": "ws"}, {}, "/ws", "/ws/api/events/stream"),
    ({}, {"HYBRID_PREFIX": "/push"}, "/push/socket.io", "/push/api/events/stream"),
    ({"path": "/live/socket.io"}, {"HYBRID_PREFIX": "/push"}, "/live/socket.io", "/push/api/events/stream"),
], ids=["default", "path", "resource", "prefix", "both"])
def test_the_path_is_the_hosts_or_below_our_prefix(
        monkeypatch: pytest.MonkeyPatch, server: str, options: dict[str, str], environ: dict[str, str], path: str,
        stream: str) -> None:
    """Clients are served at ``path`` itself, or else at ``/socket.io`` below the prefix; streams below the prefix."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    app, socketio = made(**options)
    with serving(socketio, app) if server == "ours" else under_werkzeug(app) as port:
        assert ask(port, path, "polling") == [1, "polling"]
        assert ask(port, path, "websocket") == [1, "websocket"]
        if path != "/socket.io":
            assert call(port, "GET", f"/socket.io/{HANDSHAKE}").status == 404
    rules = [route.rule for route in HybridTransport.of(app).routes()]
    assert stream in rules


def test_an_app_that_is_mounted_is_served_where_it_is_mounted() -> None:
    """Below ``DispatcherMiddleware`` the mount comes before the path, for polling and WebSockets."""
    app, _ = made()
    outer = DispatcherMiddleware(Flask("outer").wsgi_app, {"/shop": app.wsgi_app})
    with under_werkzeug(outer) as port:
        assert ask(port, "/shop/socket.io", "polling") == [1, "polling"]
        assert ask(port, "/shop/socket.io", "websocket") == [1, "websocket"]
        assert call(port, "GET", f"/socket.io/{HANDSHAKE}").status == 404


@pytest.fixture
def answers() -> Callable[..., tuple[int, Any]]:
    """A function that makes a host and asks it for a handshake; it returns status and what comes back."""
    def answer(transport: str, **options: Any) -> tuple[int, Any]:
        app, _ = made(**options)
        with under_werkzeug(app) as port:
            found = call(port, "GET", f"/socket.io/?EIO=4&transport={transport}")
            return found.status, found.body if found.status != 200 else json.loads(found.body[1:])["upgrades"]

    return answer


def test_upgrades_are_offered_unless_the_host_says_no(answers: Any) -> None:
    """``allow_upgrades=False`` and ``transports=["polling"]`` offer none; a transport that is left out is unknown."""
    assert answers("polling") == (200, ["websocket"])
    assert answers("polling", allow_upgrades=False) == (200, [])
    assert answers("polling", transports=["polling"]) == (200, [])
    unknown = 400, {"code": 0, "message": "Transport unknown"}
    assert answers("websocket", transports=["polling"]) == unknown
    assert answers("polling", transports="websocket") == unknown


@pytest.mark.parametrize("options", [{"allow_upgrades": False}, {"transports": ["polling"]}])
def test_a_client_that_is_offered_none_stays_with_polling(options: dict[str, Any]) -> None:
    """A client that would change over goes on with polls."""
    app, socketio = made(**options)
    with serving(socketio, app) as port:
        assert ask(port, "/socket.io") == [1, "polling"]


def test_a_host_that_serves_only_websockets_refuses_polls() -> None:
    """A client that begins with polling is refused, one that comes by WebSocket is served."""
    app, socketio = made(transports=["websocket"])
    with serving(socketio, app) as port:
        assert ask(port, "/socket.io", "websocket") == [1, "websocket"]
        with pytest.raises(socketio_package.exceptions.ConnectionError):
            ask(port, "/socket.io", "polling")


def test_without_streams_nobody_is_served(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """``ENABLE_SSE=false`` leaves out everything by which clients connect; the log says so, where it was asked for."""
    monkeypatch.setenv("ENABLE_SSE", "false")
    app, _ = made()
    assert "ENABLE_SSE=false: nobody is served" in caplog.text
    assert app.test_client().get(f"/socket.io/{HANDSHAKE}").status_code == 404
    assert HybridTransport.of(app).statistics().transport == "sse"


def test_versions_that_are_not_served_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each once, and only the first few of those that somebody makes up."""
    app, _ = made()
    for version in ("3", "3", "", *map(str, range(5, 100))):
        answer = app.test_client().get(f"/socket.io/?EIO={version}&transport=polling")
        assert (answer.status_code, answer.get_json()["code"]) == (400, 5)
    said = [record.getMessage() for record in caplog.records if "EIO=4 is served" in record.getMessage()]
    assert len(said) == 5
    assert "EIO='3' and is refused" in said[0]
