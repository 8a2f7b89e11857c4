"""Counters: what was delivered, and what was refused."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass


class Refusals:
    """Counts everything that was refused or dropped, by the stable code that says why."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.RLock()  # a finalizer may count while it is held

    def count(self, code: str) -> None:
        """Count one refusal."""
        with self._lock:
            self._counts[code] += 1

    def snapshot(self) -> dict[str, int]:
        """Return the counts by code, in alphabetical order."""
        with self._lock:
            return dict(sorted(self._counts.items()))


@dataclass(frozen=True, slots=True)
class DeliveryStatistics:
    """What went out on streams: events delivered, bytes, and streams by the way they ended."""

    delivered: int
    bytes: int
    ended: dict[str, int]
