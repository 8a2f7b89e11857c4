"""Farewells: how connections are closed whose clients have to read their last event before they see a cut."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ...broker.sse import READING_S
from ...broker.states import StreamEnd
from .connection import Connection

clock = time.monotonic


class Farewells:
    """Closes connections whose last bytes are out. For the loop's thread.

    :param loop: the loop.
    :param close: closes a connection; called with it and why its stream ends.
    """

    def __init__(self, loop: Any, close: Callable[[Connection, StreamEnd], None]) -> None:
        self._close = close
        self._reading = deque[Connection]()
        self._timer = loop.timer(READING_S / 10, READING_S / 10)

    def close(self, connection: Connection, reason: StreamEnd) -> None:
        """Close a connection: at once, or after a farewell, when its client has had time to read it.

        :param connection: the connection.
        :param reason: why its stream ends.
        """
        if reason is not StreamEnd.STOPPED:
            self._close(connection, reason)
            return
        self._reading.append(connection)
        if not self._timer.active:
            self._timer.again(self._look, update=True)

    def _look(self) -> None:
        while self._reading and clock() - self._reading[0].progress_at >= READING_S:
            self._close(self._reading.popleft(), StreamEnd.STOPPED)
        if not self._reading:
            self._timer.stop()

    def stop(self) -> None:
        """Close no more."""
        self._timer.stop()
        self._timer.close()
