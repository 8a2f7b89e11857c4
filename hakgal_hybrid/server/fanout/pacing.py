"""Pace: how long the writer goes on before it lets the loop look at its sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from ...broker.live import Delivery

#: A pass lets the loop poll for I/O after so many sends, or so many seconds: beside a thread that burns CPU a single
#: send can cost milliseconds, because it gives up the GIL.
SENDS_PER_TURN = 64
SECONDS_PER_TURN = 0.005

#: A real timer, however short, makes libev poll; a zero one does every other time, and ``sleep(0)`` hardly does.
_PAUSE_S = 1e-6


def in_turns(deliveries: list[Delivery], most: int = SENDS_PER_TURN) -> Iterator[tuple[Delivery, list[Any]]]:
    """Go through the members of several deliveries, so that none waits for all members of another.

    Members are in the order in which they became live. So those that have been live for long need not wait for many
    that have just come back, whatever these asked for.

    :param deliveries: the deliveries.
    :param most: how many members have a turn at most.
    :return: yields a delivery, and the members that it is to be sent to next.
    """
    longest = max((len(delivery.members) for delivery in deliveries), default=0)
    for start in range(0, longest, most):
        for delivery in deliveries:
            if start < len(delivery.members):
                yield delivery, delivery.members[start:start + most]


class Precedence:
    """What the writer holds, as a context, while others have to wait for it.

    :ivar held: whether it is held.
    :ivar on_free: called when it is held no longer.
    """

    def __init__(self) -> None:
        self.on_free: Callable[[], object] = lambda: None
        self.held = self._wanted = False
        self._freed = threading.Event()

    def want(self) -> None:
        """Have others wait already, because it will be held soon. May be called from any thread, and takes no lock."""
        self._wanted = True

    def __enter__(self) -> None:
        self.held, self._wanted = True, False

    def __exit__(self, *raised: object) -> None:
        self.held = False
        self._freed.set()
        self.on_free()

    def give(self, seconds: float) -> None:
        """Wait while it is held or wanted. May be called from any thread.

        :param seconds: for how long at most.
        """
        if self.held or self._wanted:
            self._freed.clear()
            if self.held or self._wanted:  # else it became free before the line above
                self._freed.wait(seconds)


class Pace:
    """The turns of the writer.

    :param loop: the loop.
    :param clock: monotonic seconds.
    """

    def __init__(self, loop: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._let_poll = _pause_libuv if "libuv" in type(loop).__module__ else _pause_libev
        self._sends_left, self._least, self._ends = SENDS_PER_TURN, 0.0, 0.0

    def begin(self, least_s: float = 0.0) -> None:
        """Begin a turn.

        :param least_s: how long it lasts at least, if there is so much to send (seconds).
        """
        now = self._clock()
        self._sends_left, self._least, self._ends = SENDS_PER_TURN, now + least_s, now + SECONDS_PER_TURN

    def sent(self, sends: int) -> None:
        """Let the loop poll if it is time.

        Where the others have taken long, as in a storm of requests, the next turn is as long: streams get half of the
        time. Otherwise an event for a thousand streams would wait for the requests of 16 turns.

        :param sends: how many sends were made since this was called last.
        """
        self._sends_left -= sends
        now = self._clock()
        if now > self._ends or (self._sends_left <= 0 and now >= self._least):
            self._let_poll()
            self.begin(min(self._clock() - now, SECONDS_PER_TURN))


def _pause_libev() -> None:
    gevent.sleep(_PAUSE_S)


def _pause_libuv() -> None:
    """Wait until the loop has polled once.

    Timers of libuv, the loop of Windows, take a millisecond at least, and up to 15.6 ms where the system's clock is not
    finer. gevent makes a zero timer something that is called right after polling, and that does not wait.
    """
    hub = gevent.get_hub()
    with hub.loop.timer(0) as polled:
        hub.wait(polled)
