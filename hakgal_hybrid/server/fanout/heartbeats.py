"""Rounds: when streams are looked after, and when one gets a heartbeat."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import gevent

from ...settings import Settings

#: A round goes through all streams in so many parts at most, each of which takes so many seconds at least: a loop
#: keeps no shorter appointments.
PARTS = 32
LEAST_S = 0.002
#: In what share of the heartbeat's interval, its last, a heartbeat may come.
SPREAD = 0.5

clock = time.monotonic


class Rounds:
    """Goes through all streams again and again, little by little, so that not all heartbeats go out at once."""

    def __init__(self, settings: Settings) -> None:
        self._heartbeat_s = settings.heartbeat_s
        self._planned = min(settings.heartbeat_s / 8, settings.stall_s / 4, 1.0)
        self._parts = max(1, min(PARTS, int(self._planned / LEAST_S)))
        self._took = self._planned

    def parts(self) -> Iterator[slice]:
        """Go once through all streams: give, at its time, each of the slices of a list of them."""
        began = clock()
        for part in range(self._parts):
            gevent.sleep(max(LEAST_S / 2, began + self._planned * (part + 1) / self._parts - clock()))
            yield slice(part, None, self._parts)
        self._took = max(self._planned, clock() - began)

    def is_quiet(self, quiet: float) -> bool:
        """Return true if a stream that was sent nothing for so many seconds may get a heartbeat."""
        return quiet > self._heartbeat_s * (1 - SPREAD)

    def heartbeat_is_due(self, quiet: float) -> bool:
        """Return true if a stream that was sent nothing for so many seconds is to get its heartbeat in this round.

        Or all who got the last event together would get their heartbeats together: each moment is as likely as the
        others, so of those that are left this one is the likelier the fewer they are. (Moments of a stream's own, the
        same each time, fall together again after some heartbeats.)
        """
        left = self._heartbeat_s - quiet
        return self.is_quiet(quiet) and random.random() * (left - self._took) < self._took
