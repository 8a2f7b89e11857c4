"""Limit: how long a greenlet may wait for something that every request waits for."""

from __future__ import annotations

from typing import Any

import gevent


class Limit:
    """Raises :class:`gevent.Timeout` in the calling greenlet if what is inside takes longer.

    That class would do as well, but takes 6 µs, which is much for what nearly always comes at once. This one takes 2.

    :param loop: the loop of the greenlet.
    :param seconds: how long it may take.
    """

    __slots__ = ("_timer",)

    def __init__(self, loop: Any, seconds: float) -> None:
        self._timer = loop.timer(seconds, priority=-1)  # what is ready at the same time comes first

    def __enter__(self) -> None:
        self._timer.start(_interrupt, gevent.getcurrent(), update=True)

    def __exit__(self, *raised: object) -> None:
        self._timer.stop()
        self._timer.close()


def _interrupt(greenlet: Any) -> None:
    greenlet.throw(gevent.Timeout())
