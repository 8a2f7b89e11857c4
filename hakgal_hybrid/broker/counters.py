"""Counters: what was delivered, and what was refused."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from .forks import fork_aware
from .states import StreamEnd


class Refusals:
    """Counts everything that was refused or dropped, by the stable code that says why."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Begin with a lock that is free."""
        self._lock = threading.RLock()  # a finalizer may count while it is held

    def count(self, code: str) -> None:
        """Count one refusal.

        :param code: the code of the problem.
        """
        with self._lock:
            self._counts[code] += 1

    def snapshot(self) -> dict[str, int]:
        """Return the counts by code, in alphabetical order."""
        with self._lock:
            return dict(sorted(self._counts.items()))


@dataclass(frozen=True, slots=True)
class DeliveryStatistics:
    """What went out on streams.

    :ivar delivered: how many events, each counted for every stream that got it.
    :ivar bytes: how many bytes.
    :ivar ended: how many streams have ended, by the code of the reason.
    """

    delivered: int
    bytes: int
    ended: dict[str, int]


class DeliveryCounters:
    """Counts what goes out on streams. Any thread may use it."""

    def __init__(self) -> None:
        self._delivered = self._bytes = 0
        self._ended: Counter[str] = Counter()
        self._lock = threading.RLock()  # a stream's finalizer may count while it is held

    def delivered(self, events: int, size: int) -> None:
        """Add what was written to streams.

        :param events: how many events.
        :param size: how many bytes.
        """
        with self._lock:
            self._delivered += events
            self._bytes += size

    def ended(self, reason: StreamEnd) -> None:
        """Count one ended stream.

        :param reason: why it ended.
        """
        with self._lock:
            self._ended[reason.value] += 1

    def snapshot(self) -> DeliveryStatistics:
        """Return what was counted so far."""
        with self._lock:
            return DeliveryStatistics(self._delivered, self._bytes, dict(self._ended))
