"""Handoff: what becomes of a request whose thread has opened something: a stream, a WebSocket, a poll that waits."""

from __future__ import annotations

from functools import lru_cache

import gevent

from ..broker.engineio.held import HeldAnswer
from ..broker.sse import stream_headers
from ..broker.states import StreamEnd
from ..broker.stream import SubscriberStream
from ..broker.websocket import Handshake
from .connection import HTTPConnection
from .front import Endpoint, Front
from .http1 import RequestHead
from .response import ResponseWriter
from .wsgi import Head, head_bytes

Opened = SubscriberStream | Handshake | HeldAnswer
#: Headers of a view's answer that are not those of the answer that is held.
_OF_THE_BODY = ("content-type", "content-length")


class Handoff:
    """Goes on with one request without a thread.

    :param front: what all connections share.
    :param endpoint: what is served at the socket that the connection was accepted by.
    :param connection: the connection.
    :param head: the head of the request.
    :param response: what writes the answer.
    """

    def __init__(self, front: Front, endpoint: Endpoint, connection: HTTPConnection, head: RequestHead,
                 response: ResponseWriter) -> None:
        self._front, self._endpoint, self._connection, self._head = front, endpoint, connection, head
        self._response = response

    @staticmethod
    def fits(opened: Opened, message: object) -> bool:
        """Return whether an answer is one for what was opened. Else a middleware has decided otherwise.

        :param opened: what was opened.
        :param message: the first message of the call.
        """
        status = "101" if isinstance(opened, Handshake) else "200"
        return isinstance(message, Head) and message.status.startswith(status)

    def refuse(self, opened: Opened, reason: StreamEnd) -> None:
        """End what was opened: it is not handed over.

        :param opened: what was opened.
        :param reason: why.
        """
        if isinstance(opened, SubscriberStream):
            self._front.stream_ended(opened, reason)
        elif isinstance(opened, Handshake):
            opened.refused(reason)
        else:
            opened.abandon()

    def begin(self, opened: Opened, message: Head) -> bool:
        """Hand over.

        :param opened: what was opened.
        :param message: the head of the answer.
        :return: whether the connection can be used for another request.
        :raises ValueError: if a header holds what no header may; nothing is written then.
        """
        if isinstance(opened, SubscriberStream):
            self._stream(opened, message)
        elif isinstance(opened, Handshake):
            head = head_bytes(message.status, message.headers)
            self._response.status = "101"
            self._websocket(opened, head)
        else:
            return self._hold(opened, message)
        return False

    def _websocket(self, opened: Handshake, head: bytes) -> None:
        connection = self._connection
        opened.early = connection.reader.read(connection.reader.ahead)
        if self._endpoint.secure:
            connection.leave()
            self._front.secure_websockets.serve(connection.sock, opened, head)
        else:
            self._front.websockets.adopt(connection.detach(), opened, head)

    def _stream(self, stream: SubscriberStream, message: Head) -> None:
        """Write a stream's head and hand its socket to the fan-out writer."""
        stream.content.chunked = self._head.version == "HTTP/1.1"
        head = _stream_head(message.status, tuple(message.headers), chunked=stream.content.chunked)
        self._response.status = "200"
        connection = self._connection
        if self._endpoint.secure:
            connection.leave()
            self._front.attached.serve(connection.sock, stream, head)
        else:
            self._front.fanout.adopt(connection.detach(), stream, head)

    def _hold(self, held: HeldAnswer, message: Head) -> bool:
        """Wait for an answer, and write it."""
        connection = self._connection
        answer = self._front.held.await_answer(held, connection.sock.fileno(), connection.reader)
        if answer is None:
            return False
        headers = [header for header in message.headers if header[0].lower() not in _OF_THE_BODY]
        headers.append(("Content-Type", answer.content_type))
        try:
            self._response.begin(Head(answer.status, headers, answer.body))
        except (OSError, gevent.Timeout):
            held.abandon()
            return False
        return self._response.keep_alive


@lru_cache(maxsize=64)  # most streams of a server have the same
def _stream_head(status: str, headers: tuple[tuple[str, str], ...], *, chunked: bool) -> bytes:
    """Return the head of a stream, as it is sent."""
    framing = [("Transfer-Encoding", "chunked")] if chunked else []
    return head_bytes(status, [*stream_headers(list(headers)), *framing, ("Connection", "close")])
