"""StreamBody: a stream under a server that gives each request a thread."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..broker.interval import BatchReader
from ..broker.sse import READING_S
from ..broker.states import StreamEnd
from ..broker.stream import SubscriberStream
from ..broker.wakeups import make_wakeup
from ..errors import Unfinished
from .services import Services

clock = time.monotonic

#: Servers that close a connection whose answer raises as if it were reset, and log nothing.
_RESETTING = ("gevent/", "Werkzeug/", "gunicorn/")


def can_reset(environ: Mapping[str, Any]) -> bool:
    """Return true if the server that made a request lets an answer end as a connection that is cut, and is not upset.

    :param environ: the WSGI environment of the request.
    """
    return str(environ.get("SERVER_SOFTWARE", "")).startswith(_RESETTING)


def unfinished(chunks: Iterable[bytes], environ: Mapping[str, Any]) -> Iterator[bytes]:
    """Return the body of a stream whose client has to come back: where that is possible, without an end.

    :param chunks: what it is sent.
    :param environ: the WSGI environment of the request.
    :raises Unfinished: after the last chunk.
    """
    yield from chunks
    if can_reset(environ):
        raise Unfinished


class StreamBody:
    """The body of an answer that is a stream. Taking a chunk blocks until there is something new, or for a heartbeat.

    :meth:`close` may be called at any time, from any thread, any number of times.

    :param services: has the log, and says when the server stops.
    :param feed: the stream.
    :param can_reset: whether to end as a connection that is cut where the client has to come back.
    """

    def __init__(self, services: Services, feed: SubscriberStream, *, can_reset: bool = False) -> None:
        self._services = services
        self._feed, self._batches = feed, BatchReader(feed)
        self._can_reset = can_reset
        self._opened = False
        self._closed = self._bye = False
        self._news = make_wakeup()
        self._remove_waker = services.node.hub.broker.add_waker(self._news.set)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._opened and not self._closed:
            self._opened = True
            return self._feed.opening()
        feed = self._feed
        heartbeat_at = clock() + feed.options.heartbeat_s  # what came before has just been sent
        while not self._closed:
            self._news.clear()
            stopping = self._services.node.stopping
            chunk = b"" if feed.replaced else feed.take() if stopping else self._batches.take()
            if chunk:
                return chunk
            if feed.finished is StreamEnd.DISCONNECTED:
                raise StopIteration
            if feed.finished:
                break
            if stopping:
                self._closed = self._bye = True
                return feed.bye()
            # The news may all be for others: they do not put the heartbeat off.
            left_s, rest_s = heartbeat_at - clock(), self._batches.rest_s
            if left_s <= 0 or not (self._news.wait(min(left_s, rest_s or left_s)) or rest_s):
                return feed.heartbeat()
        if not self._can_reset:
            raise StopIteration
        if self._bye:
            make_wakeup().wait(READING_S)
        raise Unfinished

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        self._remove_waker()
        self._services.node.lifecycle.stream_ended(self._feed, StreamEnd.CLOSED)
        self._news.set()

    def __del__(self) -> None:
        # An answer that no server ever took up (a middleware around us raised) is closed by nobody else.
        if not self._closed:
            self.close()
