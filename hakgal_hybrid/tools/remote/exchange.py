"""One request for a stream, or for a WebSocket, and what is answered to it: bytes in, bytes out.

:func:`begin` alone touches a socket. The requests of which parts are timed are in ``request.py``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar

import h11
import wsproto
from wsproto.events import AcceptConnection, RejectConnection, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from .request import Base

#: The receive buffer of a client that stops reading, in bytes: little, so that it fills soon.
TINY = 4096
#: The Socket.IO server's WebSocket, and the packet by which a client joins the namespace ``/``.
SOCKET_IO, JOIN = "/socket.io/?EIO=4&transport=websocket", "40"

Parts = TypeVar("Parts", covariant=True)


class Exchange(Protocol[Parts]):
    """What :func:`begin` needs to know; ``accepting`` is the status of an answer that does not refuse."""

    accepting: int
    request: bytes
    status: int | None

    def feed(self, data: bytes) -> Parts:
        """Take bytes that came, and return what they are.

        :param data: not empty.
        """


class HTTPExchange:
    """A GET request and its answer.

    :param base: the host.
    :param target: the path with its query.
    :param headers: sent with the request, besides ``Host``.

    :ivar request: the bytes to send.
    :ivar status: the status of the answer, ``None`` before its head is complete.
    :ivar headers: the headers of the answer by name, in lower case; of several with one name the last.
    :ivar ended: whether the body is complete. One that ends with the connection never is.
    """

    accepting = 200

    def __init__(self, base: Base, target: str, headers: Mapping[str, str]) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.ended = False
        self._http = h11.Connection(h11.CLIENT)
        asked = h11.Request(method="GET", target=target, headers=[("Host", base.netloc), *headers.items()])
        self.request = (self._http.send(asked) or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    @property
    def is_stream(self) -> bool:
        """Whether the answer is an event stream."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return self.status == 200 and kind == "text/event-stream"

    def feed(self, data: bytes) -> bytes:
        """Take bytes that came, in any pieces.

        :param data: not empty.
        :return: the bytes of the body in them.
        :raises ConnectionError: if this is no HTTP.
        """
        try:
            self._http.receive_data(data)
            return b"".join(self._body())
        except h11.RemoteProtocolError as error:
            raise ConnectionError(f"this is no HTTP answer: {error}") from error

    def _body(self) -> Iterator[bytes]:
        while not self.ended:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            self.ended = isinstance(event, h11.EndOfMessage)


class WebSocketExchange:
    """The handshake of a WebSocket, and the messages that follow.

    :param base: the host.
    :param path: the path with its query, below that of ``base``.
    :param headers: sent with the handshake.

    :ivar request: the bytes of the handshake.
    :ivar status: 101 once the host has accepted, the status of its answer once it has refused, ``None`` before.
    """

    accepting = 101

    def __init__(self, base: Base, path: str, headers: Mapping[str, str]) -> None:
        self.status: int | None = None
        self._websocket = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self.request = self._websocket.send(Request(host=base.netloc, target=base.path + path, extra_headers=extra))
        self._unfinished = ""

    def feed(self, data: bytes) -> list[str]:
        """Take bytes that came, in any pieces.

        :param data: not empty.
        :return: the text messages that are complete with them.
        :raises ConnectionError: if this is no WebSocket.
        """
        try:
            self._websocket.receive_data(data)
            return list(self._texts())
        except RemoteProtocolError as error:
            raise ConnectionError(f"this is no WebSocket: {error}") from error

    def _texts(self) -> Iterator[str]:
        for event in self._websocket.events():
            if isinstance(event, AcceptConnection):
                self.status = 101
            elif isinstance(event, RejectConnection):
                self.status = event.status_code
            elif isinstance(event, TextMessage):
                self._unfinished += event.data
                if event.message_finished:
                    yield self._unfinished
                    self._unfinished = ""

    def message(self, text: str) -> bytes:
        """Return the bytes that send a text message.

        :param text: the text of the message.
        """
        return self._websocket.send(TextMessage(data=text))


def begin(sock: socket.socket, exchange: Exchange[Parts]) -> Parts:
    """Send the request of an exchange, and read until it is answered.

    :param sock: a new connection to the host.
    :param exchange: one that has not begun.
    :return: what its ``feed`` made of the bytes behind the head of the answer.
    :raises ConnectionError: if the host refuses.
    :raises OSError: if it does not answer in the time that the socket gives it.
    """
    sock.sendall(exchange.request)
    while data := sock.recv(TINY):
        parts = exchange.feed(data)
        if exchange.status == exchange.accepting:
            return parts
        if exchange.status is not None:
            shown = parts[:300].decode(errors="replace") if isinstance(parts, bytes) else ""
            raise ConnectionError(f"answered with status {exchange.status}: {shown}".rstrip(": "))
    raise ConnectionError("the connection was closed before its answer")
