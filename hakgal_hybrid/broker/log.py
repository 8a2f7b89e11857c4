"""EventLog: one bounded sequence of events, read by any number of cursors (:mod:`.cursor`).

Publishing appends once and costs the same for one reader or ten thousand; a reader is a position in the log and
nothing else. Pure: the clock and the encoder are given, nothing here knows a socket, a thread of its own or Flask.

How the bounds work: the log holds at most ``max_events`` events and ``max_bytes`` encoded bytes. A cursor that had
not read what was dropped is told so exactly once, by a :class:`Gap`; it can count what it missed because of every
dropped event that was not for everybody a small record (its number and :class:`~hakgal_hybrid.broker.event.Target`) is
kept a while longer.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import EventError
from .entry import Entry, Gap, LogStatistics, Wants
from .epochs import EPOCH_START, LOSS_MARKER, Record, RestoredHistory
from .event import EVERYBODY, Event, Target

_ID = re.compile(r"([0-9]{1,15})-([0-9]{1,18})", re.ASCII)


@dataclass(slots=True)
class _Counters:
    evicted: int = 0
    conflated: int = 0
    gaps: int = 0
    bytes: int = 0


class EventLog:
    """A bounded log of events.

    :param epoch: first part of every id, fixed for one life of the process (milliseconds since 1970).
    :param clock: monotonic seconds, for the age of entries.
    :param wall_ms: milliseconds since 1970, for the time stamp that readers see.
    :param encode: gives the bytes of an event under its id; called once an event, in the emitter's thread.
    :param conflates: true for names of which a reader that is behind gets only the newest.
    """

    def __init__(
        self,
        *,
        epoch: int,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        encode: Callable[[Event, str], bytes],
        max_events: int,
        max_bytes: int,
        max_event_bytes: int,
        conflates: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.epoch = epoch
        self.newest = 0
        self.oldest = 1
        self.last_partial = 0
        self.clock, self._wall_ms = clock, wall_ms
        self._encode, self._conflates = encode, conflates
        self._max_events, self._max_bytes, self._max_event_bytes = max_events, max_bytes, max_event_bytes
        self._entries: dict[int, Entry] = {}
        self._newest_of_name: dict[tuple[str, str], int] = {}
        self._newest_of_kind: dict[tuple[str, Target], int] = {}
        # Number and target of dropped events that were not for everybody, to count gaps exactly.
        self._dropped: deque[tuple[int, Target]] = deque()
        self._forgotten = 0
        # Of what earlier lives have left: where it ends and this life begins, and where something was lost.
        self.past = RestoredHistory()
        self.born = 0
        self._inherited = -1
        self._tears: list[int] = []
        self._count = _Counters()
        # Re-entrant, so that a thread can be asked whether it is in here (:meth:`entered`).
        self._lock = threading.RLock()

    def entered(self) -> bool:
        """Return true if the calling thread is using this log just now: a signal or a finalizer has interrupted it."""
        # Asked of the lock that is there now: eventlet, if it patches a process that runs, puts another in its place.
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # as threading.Condition does

    # -- earlier lives ---------------------------------------------------------------------------------------

    def inherit(self, past: RestoredHistory, records: Iterable[Record]) -> None:
        """Begin with what earlier lives have left, under the ids it had. To be called first, if at all.

        What is too large for the limits of this life becomes a tear; of what is too much, the newest is kept.
        """
        if not past.lives:
            return
        self.past, self._inherited = past, len(past.places)
        for record in records:
            try:
                entry = self._place(record.event or LOSS_MARKER)
            except EventError:
                entry = self._place(LOSS_MARKER)
            entry.ts = record.ts
        self._place(LOSS_MARKER if past.torn else EPOCH_START)
        self.born = self.newest

    def _place(self, event: Event) -> Entry:
        entry = self.append(event)
        if event is LOSS_MARKER:
            self._tears.append(entry.seq)
        if event is LOSS_MARKER or event is EPOCH_START:  # neither is an event that a snapshot could show
            self._newest_of_name.pop((event.target.namespace, event.name), None)
        return entry

    def _resume_in_the_past(self, epoch: int, number: int) -> tuple[int, Gap | None]:
        place = self.past.find(epoch, number)
        if place is None:  # of an unknown life: all that it cannot have seen for sure is what is of this one
            start = max(self.oldest - 1, self.born)
            return start, Gap(start, None, "restarted")
        if place < 0:
            return self.oldest - 1, Gap(self.oldest - 1, None, "evicted")
        return place, None

    # -- writing ---------------------------------------------------------------------------------------------

    def append(self, event: Event) -> Entry:
        """Give ``event`` the next id, encode it, keep it, drop what no longer fits. O(1), never waits for a reader.

        :raises EventError: if the encoded event is larger than ``max_event_bytes``; nothing was appended then.
        """
        if len(event.data) > self._max_event_bytes:  # refuse before encoding: cheap, and outside the lock
            raise self._too_large(event, len(event.data))
        with self._lock:
            seq = self.newest + 1
            frame = self._encode(event, self.id_of(seq))
            if len(frame) > self._max_event_bytes:
                raise self._too_large(event, len(frame))
            name_key = (event.target.namespace, event.name)
            entry = Entry(seq, self.clock(), self._wall_ms(), event, frame, self._newest_of_name.get(name_key, 0))
            self._newest_of_name[name_key] = seq
            if event.ack is None and self._conflates(event.name):
                self._supersede(entry)
            self._entries[seq] = entry
            if event.target is not EVERYBODY and not event.target.everybody:
                self.last_partial = seq
            self._count.bytes += len(frame)
            self.newest = seq  # last: a reader that sees the number finds the entry
            self._evict()
        return entry

    def _supersede(self, entry: Entry) -> None:
        kind = (entry.event.name, entry.event.target)
        older = self._entries.get(self._newest_of_kind.get(kind, 0))
        if older is not None:
            older.superseded_by = entry.seq
        self._newest_of_kind[kind] = entry.seq

    def _evict(self) -> None:
        while len(self._entries) > self._max_events or self._count.bytes > self._max_bytes:
            entry = self._entries[self.oldest]
            self.oldest += 1  # first: a reader never takes an entry that is about to go for a retained one
            del self._entries[entry.seq]
            self._count.bytes -= len(entry.frame)
            self._count.evicted += 1
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        event = entry.event
        name_key = (event.target.namespace, event.name)
        if self._newest_of_name.get(name_key) == entry.seq:
            del self._newest_of_name[name_key]
        if self._newest_of_kind:  # or there is no need to make a key
            kind = (event.name, event.target)
            if self._newest_of_kind.get(kind) == entry.seq:
                del self._newest_of_kind[kind]
        if event.target is not EVERYBODY and not event.target.everybody:
            self._dropped.append((entry.seq, event.target))
            if len(self._dropped) > self._max_events:
                self._forgotten = self._dropped.popleft()[0]

    def _too_large(self, event: Event, size: int) -> EventError:
        return EventError(f"event {event.name!r} takes {size} bytes, more than HYBRID_MAX_EVENT_BYTES "
                          f"({self._max_event_bytes}); send a reference instead of the whole",
                          code="event_too_large", status=413)

    # -- ids and resuming ------------------------------------------------------------------------------------

    def id_of(self, seq: int) -> str:
        """Return the id that stands in the stream for number ``seq``."""
        return f"{self.epoch}-{seq}" if seq > self._inherited else self.past.id_of(seq)

    def resume(self, last_event_id: str) -> tuple[int, Gap | None]:
        """Say where a reader goes on that has seen ``last_event_id``.

        :return: the number of the last event it is past, and a gap if that place is not the one it asked for. (What
            was dropped since is not reported here but by the first read, which can count it.)
        """
        match = _ID.fullmatch(last_event_id)
        if match is None:
            return self.newest, Gap(self.newest, None, "malformed")
        epoch, seq = int(match[1]), int(match[2])
        if epoch != self.epoch:
            return self._resume_in_the_past(epoch, seq)
        if seq > self.newest:
            return self.newest, Gap(self.newest, None, "future")
        return max(seq, self.born), None

    # -- reading ---------------------------------------------------------------------------------------------

    def since(self, position: int, upto: int | None = None) -> tuple[int, list[Entry]]:
        """Return the first retained number after ``position`` and every entry from there on, without a lock.

        :param upto: the last number that is of interest.

        Entries leave only at the old end, one by one and in order, so a lookup that fails means: start later.
        """
        newest = self.newest if upto is None else min(upto, self.newest)
        while True:
            start = max(position + 1, self.oldest)
            try:
                return start, [self._entries[seq] for seq in range(start, newest + 1)]
            except KeyError:
                continue

    def entry(self, seq: int) -> Entry | None:
        """Return the entry with this number if it is retained."""
        return self._entries.get(seq)

    @property
    def known_from(self) -> int:
        """The first number of which it is still known for whom the event was."""
        with self._lock:
            return self._dropped[0][0] if self._dropped else self.oldest

    def missed(self, position: int, upto: int, wants: Wants) -> int | None:
        """Count the events after ``position`` up to ``upto``, retained or dropped, that ``wants`` accepts.

        :return: the exact count, or ``None`` if some were dropped so long ago that for whom they were is forgotten,
            or if ``wants`` needs the name of a dropped event (it then raises :class:`LookupError`).
        """
        with self._lock:
            first_held = self.oldest
            dropped = [record for record in self._dropped if position < record[0] <= upto]
            forgotten = self._forgotten > position
            held = [self._entries[seq] for seq in range(max(position + 1, first_held), upto + 1)]
        if forgotten or any(position < tear <= upto for tear in self._tears):
            return None
        try:
            count = sum(wants(entry.seq, entry.event.name, entry.event.target) for entry in held)
            plain = max(0, min(upto, first_held - 1) - position) - len(dropped)
            if plain and wants(first_held - 1, None, Target()):
                count += plain
            return count + sum(wants(seq, None, target) for seq, target in dropped)
        except LookupError:
            return None

    def newest_of_names(self, upto: int, wants: Wants) -> list[Entry]:
        """Return, in order, of every name the newest retained entry up to ``upto`` that ``wants`` accepts."""
        found = []
        for seq in list(self._newest_of_name.values()):
            entry = self._entries.get(seq)
            while entry is not None:
                if entry.seq <= upto and wants(entry.seq, entry.event.name, entry.event.target):
                    found.append(entry)
                    break
                entry = self._entries.get(entry.previous)
        return sorted(found, key=lambda entry: entry.seq)

    def note(self, *, gaps: int = 0, conflated: int = 0) -> None:
        """Add to the counters what a cursor found while reading."""
        with self._lock:
            self._count.gaps += gaps
            self._count.conflated += conflated

    def statistics(self) -> LogStatistics:
        """Return a snapshot of the counters."""
        with self._lock:
            return LogStatistics(
                len(self._entries), self._count.bytes, self.newest - self.born,
                self._count.evicted, self._count.conflated, self._count.gaps,
            )
