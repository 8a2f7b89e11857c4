"""Pace: how long the writer goes on before it lets the loop look at its sockets."""

from __future__ import annotations

import time
from typing import Any

import gevent

#: A pass lets the loop poll for I/O after so many sends, or so many seconds: beside a thread that burns CPU a single
#: send can cost milliseconds, because it gives up the GIL.
SENDS_PER_TURN = 64
SECONDS_PER_TURN = 0.005

#: A real timer, however short, makes the loop poll; ``sleep(0)`` hardly does. Windows' loop counts in milliseconds.
_PAUSE, _PAUSE_LIBUV = 1e-6, 1e-3

clock = time.monotonic


class Pace:
    """The turns of the writer.

    :param loop: the loop.
    """

    def __init__(self, loop: Any) -> None:
        self._pause = _PAUSE_LIBUV if "libuv" in type(loop).__module__ else _PAUSE
        self._sends_left, self._ends = SENDS_PER_TURN, 0.0

    def begin(self) -> None:
        """Begin a turn."""
        self._sends_left, self._ends = SENDS_PER_TURN, clock() + SECONDS_PER_TURN

    def sent(self, sends: int) -> None:
        """Let the loop poll if it is time.

        :param sends: how many sends were made since this was called last.
        """
        self._sends_left -= sends
        if self._sends_left <= 0 or clock() > self._ends:
            gevent.sleep(self._pause)
            self.begin()
