"""Pace: how long the writer goes on before it lets the loop look at its sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent

#: A pass lets the loop poll for I/O after so many sends, or so many seconds: beside a thread that burns CPU a single
#: send can cost milliseconds, because it gives up the GIL.
SENDS_PER_TURN = 64
SECONDS_PER_TURN = 0.005
#: While nothing else is to do (no request is being answered, and the loop is back within so many seconds) each turn is
#: twice as long as the last one, up to so many sends: to poll costs what several sends cost.
IDLE_S = 50e-6
MOST_SENDS_PER_TURN = 256

#: A real timer, however short, makes the loop poll; ``sleep(0)`` hardly does. Windows' loop counts in milliseconds.
_PAUSE, _PAUSE_LIBUV = 1e-6, 1e-3

clock = time.monotonic


class Pace:
    """The turns of the writer, on one loop.

    :param busy: true while requests are being answered.
    """

    def __init__(self, loop: Any, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._pause = _PAUSE_LIBUV if "libuv" in type(loop).__module__ else _PAUSE
        self._turn = SENDS_PER_TURN
        self._sends_left, self._least, self._ends = SENDS_PER_TURN, 0.0, 0.0

    def begin(self, least: float = 0.0) -> None:
        """Begin a turn; it lasts for at least so many seconds, if there is so much to do."""
        now = clock()
        self._sends_left, self._least, self._ends = self._turn, now + least, now + SECONDS_PER_TURN

    def sent(self, sends: int) -> None:
        """Let the loop poll if it is time, after so many more sends."""
        self._sends_left -= sends
        now = clock()
        if now > self._ends or (self._sends_left <= 0 and now > self._least):
            gevent.sleep(self._pause)
            took = clock() - now
            idle = took < IDLE_S and not self._busy()
            self._turn = min(2 * self._turn, MOST_SENDS_PER_TURN) if idle else SENDS_PER_TURN
            # Where the others took long, in a storm of connections say, streams get as long: half of the time.
            self.begin(min(took, SECONDS_PER_TURN))
