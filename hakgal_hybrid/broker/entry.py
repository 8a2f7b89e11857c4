"""What a log holds and what its readers get: entries, gaps, statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .event import Event, Target

Reason = Literal["evicted", "restarted", "malformed", "future", "slow", "cut", "trimmed", "lost"]


class Entry:
    """One event in the log, with its number and the bytes that plain readers share.

    :param seq: its number in the log, 1 or more.
    :param at: the monotonic clock's reading when it was appended, in seconds.
    :param ts: the wall clock's reading, in milliseconds since 1970.
    :param event: the event.
    :param frame: the bytes that plain streams carry.
    :ivar superseded_by: the number of the next event of the same name and target, if that name is conflated; else 0.
    :ivar previous: the number of the event before this one with the same namespace and name; 0 for none.
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
    """What a cursor will not get.

    :ivar upto: the number of the last event that is missing.
    :ivar missed: how many events for this cursor are missing; ``None`` if that cannot be known.
    :ivar reason: why they are missing.
    """

    upto: int
    missed: int | None
    reason: Reason


#: Decides whether an event is for a reader: called with its number, name (``None`` if long dropped) and target.
Wants = Callable[[int, "str | None", Target], bool]


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """Counters of one log.

    :ivar events: how many events are retained now.
    :ivar bytes: how many encoded bytes are retained now.
    :ivar appended: how many events were appended in this epoch.
    :ivar evicted: how many were dropped for newer ones.
    :ivar conflated: how many were left out for newer ones, for all readers together.
    :ivar gaps: how many gaps readers have got.
    """

    events: int
    bytes: int
    appended: int
    evicted: int
    conflated: int
    gaps: int
