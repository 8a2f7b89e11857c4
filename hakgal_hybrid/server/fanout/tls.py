"""Attached: streams over TLS. Such a socket cannot leave its greenlet, because TLS keeps its state in the object."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ...broker.interval import BatchReader
from ...broker.sse import READING_S
from ...broker.states import StreamEnd
from ...broker.stream import SubscriberStream
from ...settings import Settings
from .connection import SEND_BUFFER, why_lost

#: How much is sent at a time (bytes), as a record of TLS: of so much a slow client must take one in ``HYBRID_STALL_S``.
RECORD = 2**12
#: How long the loop gets (s) while a stream goes through much that is not for it.
MOMENT_S = 0.001
#: How long (s) a client that takes nothing goes unwatched.
LOOK_S = 0.5

clock = time.monotonic


class Attached:
    """Writes streams, each in the greenlet of its connection.

    :param settings: the settings.
    :param on_end: called when a stream has ended, with the stream and the reason.
    :param stopping: true once every stream shall end with a farewell.
    """

    def __init__(self, settings: Settings, on_end: Callable[[SubscriberStream, StreamEnd], None],
                 stopping: Callable[[], bool]) -> None:
        self._settings, self._on_end, self._stopping = settings, on_end, stopping
        self._news: set[Event] = set()

    def __len__(self) -> int:
        return len(self._news)

    def wake(self) -> None:
        """Have every stream look at the log again. For the loop's thread."""
        for news in self._news:
            news.set()

    def serve(self, sock: Any, stream: SubscriberStream, head: bytes) -> None:
        """Write one stream in the calling greenlet, until its client or the server is gone.

        :param sock: the connection's socket.
        :param stream: the stream.
        :param head: what is written before it.
        """
        news = Event()
        self._news.add(news)
        reason = StreamEnd.STOPPED
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._send(sock, stream, head + stream.opening())
            heartbeat_at, batches = clock() + self._settings.heartbeat_s, BatchReader(stream)
            while not self._stopping() and stream.finished is None:
                news.clear()
                data, left = batches.take(), heartbeat_at - clock()
                if not data and left > 0:  # what is new may all be for others: that puts no heartbeat off
                    news.wait(min(left, batches.rest_s or MOMENT_S) if stream.behind else left)
                    continue
                self._send(sock, stream, data or stream.heartbeat())
                heartbeat_at = clock() + self._settings.heartbeat_s
            while stream.behind:
                self._send(sock, stream, stream.take())
                gevent.sleep(MOMENT_S)
            reason = stream.finished or StreamEnd.STOPPED
            self._send(sock, stream, (b"" if stream.finished else stream.bye()) + stream.end(reason))
            if reason is StreamEnd.STOPPED:
                gevent.sleep(READING_S)
        except OSError as error:
            reason = why_lost(error)
        finally:
            self._news.discard(news)
            self._on_end(stream, reason)

    def _send(self, sock: Any, stream: SubscriberStream, data: bytes) -> None:
        """Send all of it, however long that takes, as long as the client goes on taking some and has no other stream.

        (Or it could have many wait for it, each with its socket.)
        """
        rest, progress_at = memoryview(data), clock()
        while rest and not stream.replaced:
            with gevent.Timeout(min(LOOK_S, self._settings.stall_s / 4), False):
                # What is broken off is sent again as it was: so TLS wants it.
                rest = rest[sock.send(rest[:RECORD]):]
                progress_at = clock()
            if clock() - progress_at > self._settings.stall_s:
                raise TimeoutError(errno.ETIMEDOUT, "the client takes nothing")
