"""WatchedCall: a call whose client is watched while it waits, so that one that leaves keeps no thread from others."""

from __future__ import annotations

import socket
import time
from typing import Any

from ..errors import Overloaded
from .connection import HTTPConnection
from .front import Front
from .wsgi import Message, WSGICall

#: After how long without a word of the call (seconds) its thread counts as one that waits, and how often the client is
#: looked at then.
QUIET_S = 0.25


class WatchedCall:
    """A call in a native thread, as the greenlet of its request sees it; used as a context, which ends it.

    :param app: the WSGI app.
    :param environ: the request.
    :param front: what all requests share.
    :param connection: the connection of the client.
    """

    def __init__(self, app: Any, environ: dict[str, Any], front: Front, connection: HTTPConnection) -> None:
        self._call = WSGICall(app, environ, front, connection.cut)
        self._path: str = environ["PATH_INFO"]
        self._front, self._connection = front, connection
        # What is ours does not last. And a stream that was opened must not be lost with its client.
        self._looks = not front.is_ours(self._path)
        self._left = False

    def __enter__(self) -> WatchedCall:
        return self

    def __exit__(self, *raised: object) -> None:
        self._call.end()

    def begin(self, size: int) -> Message | None:
        """Have a thread make the call, and wait for the first message.

        :param size: what the request holds in memory while it waits (bytes).
        :return: as that of :meth:`receive`.
        :raises Overloaded: if too many wait already, or no thread became free in time.
        :raises OSError: as :meth:`receive` does.
        """
        self._call.submit(self._front.pool_of(self._path, size), size)
        seconds = self._front.settings.queue_s
        message = self.receive(seconds)
        if message is None:
            if self._call.cancel():
                raise Overloaded(f"no thread became free within {seconds:g} s (HYBRID_QUEUE_S)",
                                 code="queued_too_long", retry_after=2)
            message = self.receive()
        return message

    def receive(self, seconds: float | None = None) -> Message | None:
        """Wait for the next message.

        :param seconds: for how long at most; by default until it comes.
        :return: the message; ``None`` if it did not come in time.
        :raises OSError: if the client has gone: it has reset the connection, or has closed it before the call began.
        """
        if not self._looks:
            return self._call.receive(seconds)
        short = QUIET_S if seconds is None else min(QUIET_S, seconds)
        message = self._call.receive(short)
        if message is None and (seconds is None or seconds > short):
            message = self._watch(None if seconds is None else time.monotonic() + seconds - short)
        return message

    def check(self) -> None:
        """Raise an error if a client that has closed its side turned out not to read any more.

        :raises OSError: if so.
        """
        if self._left:
            error = self._connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "the client has gone")

    def _watch(self, ends: float | None) -> Message | None:
        """Wait for the next message, or until a time by the monotonic clock, and look at what the client does."""
        while ends is None or time.monotonic() < ends:
            if self._call.producing:
                self._call.may_last()
            self._look()
            message = self._call.receive(QUIET_S if ends is None else min(QUIET_S, ends - time.monotonic()))
            if message is not None:
                return message
        return None

    def _look(self) -> None:
        """Look whether the client has left."""
        try:
            self.check()
            left = self._left or self._connection.reader.look_ahead()
        except OSError:
            self._make_way()
            raise
        if left and not self._left:
            self._left = True
            if self._make_way():
                raise ConnectionAbortedError("the client left before a thread was free")
            self._call.doubt()

    def _make_way(self) -> bool:
        """Take the call back, and return true; if it has begun, let others have a thread in place of its own."""
        if self._call.cancel():
            return True
        self._call.may_last()
        return False
