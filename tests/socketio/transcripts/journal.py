"""What the apps' handlers write down, and the routes by which a scenario reads it and waits for what is under way."""

from __future__ import annotations

import threading
from typing import Any

import flask
from flask import Flask

_entries: list[dict[str, Any]] = []
_changed = threading.Condition()


def note(what: str, **details: Any) -> None:
    """Write down what a handler does; who it serves, and in which namespace, is added."""
    entry = {"server": what, **details}
    if flask.has_request_context() and hasattr(flask.request, "sid"):
        entry["sid"], entry["namespace"] = flask.request.sid, flask.request.namespace  # type: ignore[attr-defined]
    with _changed:
        _entries.append(shown(entry))
        _changed.notify_all()


def shown(value: Any) -> Any:
    """Return what stands for a value in a transcript, where bytes are told from text."""
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": shown(value.hex())}
    if isinstance(value, str) and len(value) > 1000:
        return {"text": value[:10], "length": len(value)}
    if isinstance(value, dict):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


def serve_journal(app: Flask, socketio: Any) -> None:
    """Add the routes that every app has."""

    @app.get("/health")
    def health() -> Any:
        return {}

    @app.get("/_journal")
    def journal() -> Any:
        """Return what was written from ``since`` on; with ``wait``, not before there is something."""
        since, wait = int(flask.request.args["since"]), "wait" in flask.request.args
        with _changed:
            _changed.wait_for(lambda: not wait or len(_entries) > since, timeout=10)
            return _entries[since:]

    @app.post("/_barrier")
    def barrier() -> Any:
        """Emit an event to everybody: who has got it has got everything that was emitted before."""
        wish = flask.request.get_json()
        for namespace in wish["namespaces"]:
            socketio.emit("_barrier", wish["number"], namespace=namespace)
        return {}
