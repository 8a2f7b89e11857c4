"""The same host on Flask-SocketIO itself, on ours, and on ours with what it imports from Flask-SocketIO.

A test that takes the fixture ``hosts`` says what must hold, and it is tried on all three: what differs shows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask

#: Name of a variant: the module of its ``SocketIO``, and the module of the functions and classes beside it.
VARIANTS = {
    "ours": ("hakgal_hybrid.socketio", "hakgal_hybrid.socketio"),
    "swapped": ("hakgal_hybrid.socketio", "flask_socketio"),
    "original": ("flask_socketio", "flask_socketio"),
}


class Host:
    """One app with its ``SocketIO``.

    :ivar api: the module that handlers import ``emit``, ``Namespace`` and so on from.
    :ivar notes: whatever handlers want to remember.
    """

    def __init__(self, variant: str, **options: Any) -> None:
        made_by, api = VARIANTS[variant]
        self.variant = variant
        self.api: Any = importlib.import_module(api)
        self.app = Flask("parity")
        self.app.config["SECRET_KEY"] = "only for tests"
        self.notes: list[Any] = []
        self.socketio: Any = importlib.import_module(made_by).SocketIO(
            self.app, **{"async_mode": "threading", **options})

    @property
    def ours(self) -> bool:
        """True if the ``SocketIO`` is ours."""
        return self.variant != "original"

    def client(self, namespace: str | None = None, **options: Any) -> Any:
        """A new test client."""
        return self.socketio.test_client(self.app, namespace=namespace, **options)

    def sid(self, client: Any, namespace: str = "/") -> str:
        """The ``sid`` of a test client, as tests of hosts find it out."""
        return str(self.socketio.server.manager.sid_from_eio_sid(client.eio_sid, namespace))

    def acknowledge(self, client: Any, *args: Any, namespace: str = "/") -> None:
        """Answer the newest event that a test client shall acknowledge."""
        if self.ours:
            transport = self.socketio.transport
            ack = [entry.event.ack for entry in transport.log.since(0)[1] if entry.event.ack][-1]
            transport.node.acks.answer(ack, transport.hub.client(self.sid(client, namespace)), list(args))
        else:
            manager, sid = self.socketio.server.manager, self.sid(client, namespace)
            manager.trigger_callback(sid, max(manager.callbacks[sid]), list(args))


def event() -> dict[str, Any]:
    """``request.event`` of the handler that is running, with the arguments as a list."""
    told: Any = flask.request.event  # type: ignore[attr-defined]
    return {"message": told["message"], "args": list(told["args"])}


@pytest.fixture(params=list(VARIANTS))
def hosts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    """A function that makes hosts, with the keywords of ``SocketIO``."""
    for name in VARIANTS[request.param]:
        pytest.importorskip(name, reason="Flask-SocketIO is not installed")
    return lambda **options: Host(request.param, **options)


@pytest.fixture
def host(hosts: Callable[..., Host]) -> Host:
    """A host without any keywords."""
    return hosts()
