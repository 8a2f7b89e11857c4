"""What unmodified clients get from each server, as the page about them has it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from support.servers import Server
from support.socketio_clients import Brisk, check_packets_do_not_wait_for_the_change
from support.socketio_clients import socketio as socketio_package

requests = pytest.importorskip("requests", reason="python-socketio's client needs it for polling")

pytestmark = pytest.mark.once


class Kind(NamedTuple):
    """A server: how it is started, and whether it has WebSockets."""

    name: str
    websockets: bool = True
    tls: bool = False

    def __str__(self) -> str:
        return self.name + " with TLS" * self.tls


KINDS = [Kind("ours", tls=True), Kind("waitress", websockets=False),
         *(pytest.param(kind, id=str(kind), marks=pytest.mark.long)
           for kind in (Kind("ours"), Kind("werkzeug"), Kind("gunicorn-gthread"), Kind("gunicorn-gevent")))]


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of them."""
    found: Kind = request.param
    return found


@pytest.fixture
def host(kind: Kind, certificate: tuple[str, str]) -> Iterator[Server]:
    """A host on it."""
    options = ["--certfile", certificate[0], "--keyfile", certificate[1]] if kind.tls else []
    with Server(kind.name, *options, ENABLE_WS_SPECIAL="true") as server:
        yield server


def test_transports_of_each_server(kind: Kind, host: Server, certificate: tuple[str, str],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling everywhere; where there is no WebSocket, nobody is told to change over, and who insists fails."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate[0])
    url = f"{'https' if kind.tls else 'http'}://127.0.0.1:{host.port}"
    expected = {"polling": "polling", "websocket": "websocket" if kind.websockets else None,
                "": "websocket" if kind.websockets else "polling"}
    assert {way: used(host, url, way, certificate[0]) for way in expected} == expected


def used(host: Server, url: str, transport: str, certificate: str) -> str | None:
    """Connect by a transport, have events both ways, and return the transport in the end; ``None`` if it is refused."""
    notes: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with requests.Session() as session:
        client = socketio_package.Client(reconnection=False, http_session=session,
                                         websocket_extra_options={"class_": Brisk, "sslopt": {"ca_certs": certificate}})
        client.on("note", notes.put)
        try:
            client.connect(url, transports=[transport] if transport else None)
        except socketio_package.exceptions.ConnectionError:
            return None
        try:
            assert client.call("echo", {"a": 1}, timeout=30) == {"a": 1}
            host.emit("note", data="hello")
            assert notes.get(timeout=30) == "hello"
            return str(client.transport())
        finally:
            client.disconnect()


@pytest.mark.long
@pytest.mark.parametrize("name", ["gunicorn-gthread", "gunicorn-gevent"])
def test_packets_do_not_wait_for_the_change(name: str) -> None:
    """A poll that waits while its client changes over is answered as soon as there is something."""
    with Server(name, ENABLE_WS_SPECIAL="true") as server:
        check_packets_do_not_wait_for_the_change(server.port, lambda: server.emit("later", data=1))
