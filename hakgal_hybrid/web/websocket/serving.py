"""Serving WebSockets, ours and those of Engine.IO, under every server that hands over its socket.

Our own server serves them without a thread; under the others one thread for each reads and writes.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsproto.utilities import generate_accept_token

from ...broker.environ import HANDOFF, SOCKETS
from ...broker.states import StreamEnd
from ...broker.websocket import Handshake, WebSocket
from ...commands.node import Node
from ...errors import Headers
from ...settings import Settings

#: What the kernel may hold for one slow client (bytes), as for streams.
_SEND_BUFFER = 256 * 1024
#: How long the client may take to answer our close (seconds).
_CLOSE_S = 1.0

clock = time.monotonic


def socket_of(environ: Mapping[str, Any]) -> Any:
    """Return the socket of a request, if it can be read and written at the same time.

    :param environ: the WSGI environment.
    :return: the socket, or ``None``.
    """
    sock = next((environ[key] for key in SOCKETS if key in environ), None)
    return None if isinstance(sock, ssl.SSLSocket) else sock


def serves_websockets(environ: Mapping[str, Any]) -> bool:
    """Return true if the server of a request can serve a WebSocket.

    :param environ: the WSGI environment of any request.
    """
    return socket_of(environ) is not None or HANDOFF in environ


def is_handshake(environ: Mapping[str, Any]) -> bool:
    """Return true if a request is the handshake of a WebSocket (RFC 6455, section 4.2.1).

    :param environ: the WSGI environment.
    """
    tokens = [token.strip().lower() for token in str(environ.get("HTTP_CONNECTION", "")).split(",")]
    return ("upgrade" in tokens and str(environ.get("HTTP_UPGRADE", "")).lower() == "websocket"
            and environ.get("HTTP_SEC_WEBSOCKET_VERSION") == "13" and bool(environ.get("HTTP_SEC_WEBSOCKET_KEY")))


def accepting_headers(environ: Mapping[str, Any]) -> Headers:
    """Return the headers by which a handshake is answered, without any extension.

    :param environ: the WSGI environment.
    """
    token = generate_accept_token(environ["HTTP_SEC_WEBSOCKET_KEY"].encode("latin-1")).decode("ascii")
    return [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", token)]


def accept(sock: Any, environ: Mapping[str, Any]) -> None:
    """Answer the handshake of a WebSocket, without any extension.

    :param sock: the request's socket.
    :param environ: its WSGI environment.
    :raises OSError: if the client is gone.
    """
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in accepting_headers(environ))]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    while head:
        head = head[sock.send(head):]


def serve_websocket(environ: dict[str, Any], start_response: Callable[..., Any], handshake: Handshake,
                    node: Node) -> Iterable[bytes]:
    """Serve a WebSocket: in this thread until it ends, or, under our own server, without it.

    :param environ: the WSGI environment of the handshake, whose server serves WebSockets.
    :param start_response: takes status and headers of the answer.
    :param handshake: the WebSocket.
    :param node: has the settings, wakes it, and says when the server stops.
    :return: no chunks.
    :raises StopIteration: under gunicorn, which so knows that the connection is over.
    """
    sock = socket_of(environ)
    if sock is None:  # our own server serves it
        environ[HANDOFF].append(handshake)
        start_response("101 Switching Protocols", accepting_headers(environ))
        return []
    try:
        accept(sock, environ)
    except OSError:
        handshake.refused()
    else:
        loop = SocketLoop(sock, node.settings, lambda: node.stopping)
        end = handshake.begin(loop.wake)
        remove_waker = node.hub.broker.add_waker(loop.wake)
        try:
            loop.run(end)
        finally:
            remove_waker()
    if "gunicorn.socket" in environ:
        raise StopIteration
    if "werkzeug.socket" in environ:
        start_response("200 OK", [])  # which it asks for, and cannot send any more
    return []


class SocketLoop:
    """Reads and writes one WebSocket, in the calling thread. What its socket does not take is not read from the log.

    :param sock: the socket.
    :param settings: say how long a client may take to accept some bytes, also while the server stops.
    :param stopping: returns true once the server stops.
    """

    def __init__(self, sock: Any, settings: Settings, stopping: Callable[[], bool]) -> None:
        self._sock, self._settings, self._stopping = sock, settings, stopping
        self._woken = False
        self._ear, self._mouth = socket.socketpair()
        for end in (self._ear, self._mouth):
            end.setblocking(False)

    def wake(self) -> None:
        """Have it look for something to send. Any thread may call this; it never waits."""
        if not self._woken:
            self._woken = True
            try:
                self._mouth.send(b"\0")
            except OSError:  # it has ended
                pass

    def run(self, end: WebSocket) -> None:
        """Go on until either side has closed.

        :param end: what comes and goes.
        """
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._ear, selectors.EVENT_READ)
                self._exchange(end, selector)
        except OSError:  # the client is gone
            pass
        finally:
            end.lost()
            self._ear.close()
            self._mouth.close()
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _exchange(self, end: WebSocket, selector: selectors.BaseSelector) -> None:
        left, progress_at, closed_at, watched = memoryview(b""), clock(), 0.0, 0
        patience = self._settings.stall_s
        while True:
            if self._stopping():
                end.stop()
                patience = min(patience, self._settings.drain_s)
            while left or (left := memoryview(end.take())):
                try:
                    left = left[self._sock.send(left):]
                    progress_at = clock()
                except BlockingIOError:
                    break
            if end.over and not left:
                closed_at = closed_at or clock()
            wait = end.wait_s
            if left:
                wait = progress_at + patience - clock()
            elif closed_at:  # until the client has read it: an end that comes sooner could take it away
                wait = closed_at + _CLOSE_S - clock()
            if wait is not None and wait <= 0 and (left or closed_at):
                end.lost(StreamEnd.STALLED)
                return
            wanted = (0 if end.paused else selectors.EVENT_READ) | (selectors.EVENT_WRITE if left else 0)
            watched = self._watch(selector, watched, wanted)
            for key, ready in selector.select(wait):
                if key.fileobj is self._ear:
                    self._ear.recv(64)
                    self._woken = False  # only now: who finds it set may rely on the look that follows
                elif ready & selectors.EVENT_READ and not self._read(end):
                    return

    def _watch(self, selector: selectors.BaseSelector, before: int, wanted: int) -> int:
        if before and not wanted:
            selector.unregister(self._sock)
        elif wanted and not before:
            selector.register(self._sock, wanted)
        elif wanted != before:
            selector.modify(self._sock, wanted)
        return wanted

    def _read(self, end: WebSocket) -> bool:
        """Read some bytes; return false at the end of the connection."""
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return True
        if data and not end.over:
            end.receive(data)
        return bool(data)
