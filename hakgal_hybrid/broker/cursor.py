"""Cursor: one reader's position in the log, and what it reads from there: events, conflated events, gaps. Pure.

The rules for lost events and for conflation are here for every reader: for those that have a cursor, and for the live
streams, which share one position (:mod:`.live`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from .entry import Entry, Gap, Reason, Wants
from .epochs import LOSS_MARKER
from .log import EventLog


class Batch(NamedTuple):
    """What one read gives, to be sent in this order: the gap, then the entries.

    :ivar gap: what is missing, or ``None``.
    :ivar entries: the entries.
    :ivar conflated: for an entry's number, how many older ones of its kind it stands for.
    """

    gap: Gap | None
    entries: list[Entry]
    conflated: dict[int, int]


def lost_upto(start: int, entries: list[Entry], min_at: float) -> tuple[int, Reason]:
    """Return up to where a reader has lost events, because they were dropped or are too old.

    :param start: the first number that is retained.
    :param entries: the entries from there on.
    :param min_at: the oldest clock reading that an entry may have.
    :return: the number of the last event that is lost, and why it is.
    """
    upto: int = start - 1
    reason: Reason = "evicted"
    for entry in entries:
        if entry.at >= min_at:
            break
        upto, reason = entry.seq, "slow"
    return upto, reason


class Conflation:
    """Counts the events that one reader does not get because a later one of the same kind stands for them."""

    __slots__ = ("_left_out",)

    def __init__(self) -> None:
        self._left_out: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return sum(self._left_out.values())

    def leave_out(self, entry: Entry) -> None:
        """Count an entry that a later one will stand for.

        :param entry: the entry.
        """
        kind = (entry.event.name, entry.event.target)
        self._left_out[kind] = self._left_out.get(kind, 0) + 1

    def give(self, entry: Entry) -> int:
        """Return how many events were left out for an entry that is sent now, and forget them.

        :param entry: the entry.
        :return: how many events of its kind were left out.
        """
        return self._left_out.pop((entry.event.name, entry.event.target), 0) if self._left_out else 0

    def clear(self) -> None:
        """Forget what was left out."""
        self._left_out.clear()


@dataclass(slots=True)
class Cursor:
    """One reader's position in a log. It is not thread-safe.

    Every event up to ``position`` was read, skipped or reported missing.

    :ivar log: the log.
    :ivar position: the number of the last event that was looked at.
    :ivar wants: true for events that are for this reader.
    :ivar pending_gap: a gap that the next read reports.
    :ivar covers: true if all clients of the reader that get the first of two events get the second too; ``None`` for a
        reader that is one client, for which ``wants`` says it.
    """

    log: EventLog
    position: int
    wants: Wants
    pending_gap: Gap | None = None
    covers: Callable[[Entry, Entry], bool] | None = None
    _conflation: Conflation = field(default_factory=Conflation)

    @property
    def plain(self) -> bool:
        """True if nothing but the position and ``wants`` decides what the next read gives."""
        return self.pending_gap is None and not self._conflation

    def read(self, *, max_bytes: int, min_at: float = float("-inf"), max_entries: int | None = None,
             upto: int | None = None, most: int | None = None) -> Batch:
        """Take what is new, and move on.

        :param max_bytes: how many bytes are taken, about, at most.
        :param min_at: entries older than this clock reading are not given any more; they become a gap.
        :param max_entries: how many entries are looked at, at most.
        :param upto: number of the last event that is looked at.
        :param most: how many entries are given, at most.
        :return: what there is for this reader.
        """
        gap, self.pending_gap = self.pending_gap, None
        start, entries = self.log.since(self.position, upto)
        lost, reason = lost_upto(start, entries, min_at)
        if lost > self.position:
            # One gap at a time is reported: what was lost since a failed resume is added to the gap of that resume.
            missed = self.log.missed(self.position, lost, self.wants)
            if missed is not None:
                # Events left out in favour of one that is lost now are lost as well.
                missed += len(self._conflation)
            self._conflation.clear()
            if missed != 0 or gap:
                gap = Gap(lost, None if gap else missed, gap.reason if gap else reason)
            entries = entries[lost + 1 - start:]
            self.position = lost
        last = self.log.newest if upto is None else upto
        chosen, conflated = self._choose(entries[:max_entries], max_bytes, last, most)
        if gap or conflated:
            self.log.note(gaps=gap is not None, conflated=sum(conflated.values()))
        return Batch(gap, chosen, conflated)

    def _choose(self, entries: list[Entry], max_bytes: int, upto: int,
                most: int | None) -> tuple[list[Entry], dict[int, int]]:
        chosen: list[Entry] = []
        conflated: dict[int, int] = {}
        size = 0
        for entry in entries:
            if size >= max_bytes or len(chosen) == most:
                break
            self.position = entry.seq
            event = entry.event
            if event.name == LOSS_MARKER.name:
                self._conflation.clear()  # its gap covers what was left out before
            if not self.wants(entry.seq, event.name, event.target):
                continue
            if self._superseded(entry, upto):
                self._conflation.leave_out(entry)
                continue
            stands_for = self._conflation.give(entry)
            if stands_for:
                conflated[entry.seq] = stands_for
            chosen.append(entry)
            size += len(entry.frame)
        return chosen, conflated

    def _superseded(self, entry: Entry, upto: int) -> bool:
        """True if a later event of the same kind will reach this reader, so that this one need not.

        One that has come since the read began does not count: a reader that is slow would be given none for ever.
        """
        later = self.log.entry(entry.superseded_by)
        while later is not None and later.seq <= upto:
            if self.covers is not None and self.covers(entry, later):
                return True
            if self.covers is None and self.wants(later.seq, later.event.name, later.event.target):
                return True
            later = self.log.entry(later.superseded_by)
        return False
