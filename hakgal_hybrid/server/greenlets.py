"""GreenletPool: the greenlets that serve connections, each one connection after the other.

To make a greenlet for each connection would cost more than anything else that a short one needs of the loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gevent


class GreenletPool:
    """Runs calls, each in a greenlet that it has to itself meanwhile. For the loop's thread.

    :param loop: the loop of that thread.
    :param max_spare: how many greenlets are kept that have nothing to do.
    """

    def __init__(self, loop: Any, *, max_spare: int = 32) -> None:
        self._loop, self._max_spare = loop, max_spare
        self._spare: list[Any] = []
        self._all: set[Any] = set()
        self._over = False

    def __len__(self) -> int:
        """Return how many greenlets there are."""
        return len(self._all)

    def spawn(self, call: Callable[..., object], *args: Any) -> None:
        """Run a call in a greenlet, soon.

        :param call: what is called.
        :param args: with what.
        """
        if self._spare:
            self._loop.run_callback(self._give, self._spare.pop(), call, args)
        else:
            self._begin(call, args)

    def _give(self, greenlet: Any, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Switch to a spare greenlet; code of others may have killed it meanwhile."""
        if not greenlet.dead:
            greenlet.switch((call, args))
        elif not self._over:
            self._begin(call, args)

    def _begin(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._all.add(gevent.spawn(self._work, [(call, args)]))

    def _work(self, first: list[tuple[Callable[..., object], tuple[Any, ...]]]) -> None:
        """Run the first call, then others. (It comes in a list: gevent keeps what a greenlet began with.)"""
        greenlet, hub = gevent.getcurrent(), gevent.get_hub()
        call, args = first.pop()
        try:
            while True:
                try:
                    call(*args)
                except Exception:
                    hub.handle_error(call, *sys.exc_info())
                del call, args  # a greenlet that waits must not keep its last connection alive
                if len(self._spare) >= self._max_spare:
                    return
                self._spare.append(greenlet)
                call, args = hub.switch()
        finally:
            self._all.discard(greenlet)

    def kill(self, timeout: float) -> None:
        """End all greenlets, in the middle of whatever they do.

        :param timeout: how long to wait for their ends (seconds).
        """
        self._over = True
        self._spare.clear()
        with gevent.Timeout(timeout, False):
            gevent.killall(list(self._all))
        self._all = {greenlet for greenlet in self._all if not greenlet.dead}  # some had not even begun
