"""What the log holds and what it tells its readers: entries, gaps, statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .event import Event, Target

Reason = Literal["evicted", "restarted", "malformed", "future", "slow"]


class Entry:
    """One event in the log, with its number and the bytes that every plain reader shares.

    :ivar at: the monotonic clock's reading when it was appended; ``ts`` the wall clock's, in ms since 1970.
    :ivar superseded_by: number of the next event of the same name and target, if that name is conflated.
    :ivar previous: number of the event before this one with the same namespace and name (0 for none).
    """

    __slots__ = ("at", "event", "frame", "previous", "seq", "superseded_by", "ts")

    def __init__(self, seq: int, at: float, ts: int, event: Event, frame: bytes) -> None:
        self.seq = seq
        self.at = at
        self.ts = ts
        self.event = event
        self.frame = frame
        self.previous = 0
        self.superseded_by = 0


class Gap(NamedTuple):
    """What a cursor will not get: everything up to and including number ``upto``.

    ``missed`` is the exact number of events that were for this cursor, or ``None`` where it cannot be known.
    """

    upto: int
    missed: int | None
    reason: Reason


#: Decides whether an event is for a reader: called with its number, name (``None`` if long dropped) and target.
Wants = Callable[[int, "str | None", Target], bool]


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """Counters of one log, all since it was made, but for ``events`` and ``bytes``, which are held now."""

    events: int
    bytes: int
    appended: int
    evicted: int
    conflated: int
    gaps: int
