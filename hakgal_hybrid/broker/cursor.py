"""Cursor: one reader's place in the log, and what it gets from there: events, conflated ones, gaps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from .entry import Entry, Gap, Reason, Wants
from .log import EventLog


class Batch(NamedTuple):
    """What one read gives, to be sent in this order: the gap, then the entries.

    ``conflated`` tells for an entry's number how many older ones of its kind it stands for.
    """

    gap: Gap | None
    entries: list[Entry]
    conflated: dict[int, int]


@dataclass(slots=True)
class Cursor:
    """One reader's place in a log: everything up to ``position`` has been read, skipped or reported missing.

    Not for two threads at once. ``wants`` decides what is for this reader, ``covers`` whether who gets the second of
    two events of a kind can do without the first.
    """

    log: EventLog
    position: int
    wants: Wants
    pending_gap: Gap | None = None
    covers: Callable[[Entry, Entry], bool] | None = None
    _standing_for: dict[Hashable, int] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """True if nothing but the position and ``wants`` decides what the next read gives."""
        return self.pending_gap is None and not self._standing_for

    def read(self, *, max_bytes: int, min_at: float = float("-inf"), max_entries: int | None = None,
             upto: int | None = None) -> Batch:
        """Take what is new, at most about ``max_bytes`` of it, and move on.

        :param max_entries: how many entries are looked at, at most.
        :param upto: number of the last event that is looked at.
        :param min_at: entries older than this clock reading are not given any more; they become a gap.
        """
        gap, self.pending_gap = self.pending_gap, None
        start, entries = self.log.since(self.position, upto)
        lost, reason = self._lost(start, entries, min_at)
        if lost > self.position:
            # A reader hears of one gap at a time: what was lost since a resume that failed adds to it.
            missed = self.log.missed(self.position, lost, self.wants)
            if missed is not None:
                # What was left out for an event that is lost now is lost with it.
                missed += sum(self._standing_for.values())
            self._standing_for.clear()
            if missed != 0 or gap:
                gap = Gap(lost, None if gap else missed, gap.reason if gap else reason)
            entries = entries[lost + 1 - start:]
            self.position = lost
        chosen, conflated = self._choose(entries[:max_entries], max_bytes)
        if gap or conflated:
            self.log.note(gaps=gap is not None, conflated=sum(conflated.values()))
        return Batch(gap, chosen, conflated)

    def _lost(self, start: int, entries: list[Entry], min_at: float) -> tuple[int, Reason]:
        """Return the last number this reader cannot have any more, and why."""
        upto: int = start - 1
        reason: Reason = "evicted"
        for entry in entries:
            if entry.at >= min_at:
                break
            upto, reason = entry.seq, "slow"
        return upto, reason

    def _choose(self, entries: list[Entry], max_bytes: int) -> tuple[list[Entry], dict[int, int]]:
        chosen: list[Entry] = []
        conflated: dict[int, int] = {}
        size = 0
        for entry in entries:
            if size >= max_bytes:
                break
            self.position = entry.seq
            event = entry.event
            if not self.wants(entry.seq, event.name, event.target):
                continue
            kind = (event.name, event.target)
            if self._superseded(entry):
                self._standing_for[kind] = self._standing_for.get(kind, 0) + 1
                continue
            if self._standing_for:
                stands_for = self._standing_for.pop(kind, 0)
                if stands_for:
                    conflated[entry.seq] = stands_for
            chosen.append(entry)
            size += len(entry.frame)
        return chosen, conflated

    def _superseded(self, entry: Entry) -> bool:
        """True if a later event of the same kind will reach this reader, so that this one need not."""
        later = self.log.entry(entry.superseded_by)
        while later is not None:
            if self.covers is not None and self.covers(entry, later):
                return True
            if self.covers is None and self.wants(later.seq, later.event.name, later.event.target):
                return True
            later = self.log.entry(later.superseded_by)
        return False
