"""EventLog: one bounded sequence of events, read by any number of cursors (:mod:`.cursor`).

Publishing appends once and costs the same for one reader or ten thousand. A reader is only a position in the log. The
module is pure: clock and encoder are passed in; it has no sockets, no threads of its own and no Flask.

The log holds at most ``max_events`` events and ``max_bytes`` encoded bytes. A cursor that had not read what was dropped
gets exactly one :class:`~hakgal_hybrid.broker.entry.Gap` for it. To count what it has missed, the log keeps the numbers
and targets of dropped events that were not for everybody a while longer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..errors import EventError
from .blocks import BlockCache
from .dropped import DroppedTargets
from .entry import Entry, Gap, LogStatistics, Wants
from .epochs import Record, RestoredHistory
from .event import EVERYBODY, Event, Target, is_marker
from .index import NameIndex
from .reentrancy import Reentrancy
from .segments import Origin, Segments

_ID = re.compile(r"(0|[1-9][0-9]{0,14})-(0|[1-9][0-9]{0,17})")


@dataclass(slots=True)
class _Counters:
    evicted: int = 0
    conflated: int = 0
    gaps: int = 0
    bytes: int = 0


class EventLog:
    """A bounded log of events.

    :param epoch: the first part of every id, fixed for one run of the process (milliseconds since 1970).
    :param clock: monotonic seconds, for the age of entries.
    :param wall_ms: milliseconds since 1970, for the time stamp that readers see.
    :param encode: returns the bytes of an event under its id; called once for each event, in the emitter's thread.
    :param max_events: how many events are retained.
    :param max_bytes: how many encoded bytes are retained.
    :param max_event_bytes: how large one encoded event may be.
    :param conflates: true for names of which a reader that is behind gets only the newest event.
    :param segments: the ids of entries, if they come from outside; then ``epoch`` is -1.
    :ivar newest: the number of the newest event; 0 if there is none.
    :ivar oldest: the number of the oldest retained event.
    :ivar last_partial: the number of the newest event that was not for everybody.
    :ivar history: the earlier epochs.
    :ivar base: the number of the last event of theirs.
    :ivar blocks: the events in other formats.
    :ivar reentrancy: marks the threads that use this log now; :meth:`.Broker.publish` checks the mark.
    """

    def __init__(self, *, epoch: int, clock: Callable[[], float], wall_ms: Callable[[], int],
                 encode: Callable[[Event, str], bytes], max_events: int, max_bytes: int, max_event_bytes: int,
                 conflates: Callable[[str], bool] = lambda name: False, segments: Segments | None = None) -> None:
        self.epoch, self.newest, self.oldest, self.last_partial = epoch, 0, 1, 0
        self.clock, self._wall_ms, self._encode = clock, wall_ms, encode
        self._max_events, self._max_bytes, self._max_event_bytes = max_events, max_bytes, max_event_bytes
        self._entries: dict[int, Entry] = {}
        self._index, self._dropped = NameIndex(self._entries, conflates), DroppedTargets(max_events)
        self.history: RestoredHistory | Segments = segments or RestoredHistory()
        self.segments, self.base, self._restored = segments, 0, sys.maxsize if segments else -1  # see ``id_of``
        self._count, self.reentrancy, self.blocks = _Counters(), Reentrancy(), BlockCache(self.id_of)

    def held(self) -> AbstractContextManager[None]:
        """Append nothing during a block, so that changes made in it stand between two events. Blocks may be nested."""
        return self.reentrancy.held()

    def inherit(self, history: RestoredHistory, records: Iterable[Record]) -> None:
        """Begin with the events that earlier epochs have left, under their old ids. Call it before anything else.

        :param history: the earlier epochs.
        :param records: their events, in order. If there are too many, the log keeps the newest.
        """
        if not history.epochs:
            return
        self.history, self._restored = history, len(history.positions)
        history.restore(records, self.append)
        self.base = self.newest

    def append(self, event: Event, prepare: Callable[[Entry], object] | None = None,
               origin: Origin | None = None) -> Entry:
        """Give an event the next id, encode it, keep it, and drop what no longer fits. Waits for no reader.

        Once there are readers, events are appended by :meth:`.Broker.publish`, which marks its thread and wakes them.

        :param event: the event.
        :param prepare: called with the entry before any reader can see it.
        :param origin: its id and time, if they come from outside.
        :return: the entry.
        :raises EventError: if the encoded event is larger than ``max_event_bytes``; nothing was appended then.
        """
        if len(event.data) > self._max_event_bytes:  # refuse before encoding: cheap, and outside the lock
            raise too_large(event, len(event.data), self._max_event_bytes)
        with self.reentrancy.lock:
            seq = self.newest + 1
            if seq in self._entries:  # a signal handler that raised has broken off the append before this one
                self._index.revoke(self._entries[seq])
            if origin is not None and self.segments is not None:
                self.segments.add(seq, origin.at, self.oldest, lossy=is_marker(event))
            frame = self._encode(event, self.id_of(seq))
            if len(frame) > self._max_event_bytes:
                raise too_large(event, len(frame), self._max_event_bytes)
            entry = Entry(seq, self.clock(), self._wall_ms() if origin is None else origin.ts, event, frame)
            self._entries[seq] = entry
            self._index.add(entry)
            if event.target is not EVERYBODY and not event.target.everybody:  # the first is the faster test
                self.last_partial = seq
            if prepare is not None:
                prepare(entry)
            self.newest = seq  # a reader that sees the number finds the entry, and its name
            self._count.bytes += len(frame)
            self._index.supersede(entry)  # after that: one that is broken off stands for no other
            self._evict()
        return entry

    def _evict(self) -> None:
        while len(self._entries) > self._max_events or self._count.bytes > self._max_bytes:
            entry = self._entries[self.oldest]
            self.oldest += 1  # first: a reader never takes an entry that is about to go for a retained one
            del self._entries[entry.seq]
            self._count.bytes -= len(entry.frame)
            self._count.evicted += 1
            self._index.remove(entry)
            if not entry.event.target.everybody:
                self._dropped.add(entry.seq, entry.event.target)

    # -- ids and resuming ------------------------------------------------------------------------------------

    def id_of(self, seq: int) -> str:
        """Return the id of an event.

        :param seq: its number; 0 stands for what was before the first.
        :return: the id, as streams carry it.
        """
        # Up to ``_restored`` (-1 if there were no earlier epochs) ids are those of earlier epochs, or from outside.
        return f"{self.epoch}-{seq}" if seq > self._restored else self.history.id_of(seq)

    def resume(self, last_event_id: str) -> tuple[int, Gap | None]:
        """Return the position from which a reader continues.

        :param last_event_id: the id of the last event that it has seen, as its client says.
        :return: the position, and a gap if the id does not name one that the log can continue from. (Events that were
            dropped since then are reported by the first read, which can count them.)
        """
        match = _ID.fullmatch(last_event_id)
        if match is None:
            return self.newest, Gap(self.newest, None, "malformed")
        epoch, seq = int(match[1]), int(match[2])
        if epoch != self.epoch:
            return self.history.resume(epoch, seq, oldest=self.oldest,
                                       start=self.base if self.segments is None else self.newest)
        if seq > self.newest:
            return self.newest, Gap(self.newest, None, "future")
        return max(seq, self.base), None

    def since(self, position: int, upto: int | None = None) -> tuple[int, list[Entry]]:
        """Return what a reader has not read, without a lock.

        :param position: the number of the last event that it has read.
        :param upto: the last number that is of interest; ``None`` for the newest.
        :return: the first retained number after ``position``, and every entry from there on.
        """
        newest = self.newest if upto is None else min(upto, self.newest)
        while True:
            start = max(position + 1, self.oldest)
            try:
                return start, [self._entries[seq] for seq in range(start, newest + 1)]
            except KeyError:  # entries leave at the old end, in order: start later
                continue

    def entry(self, seq: int) -> Entry | None:
        """Return an entry.

        :param seq: its number.
        :return: the entry; ``None`` if it is not retained.
        """
        return self._entries.get(seq)

    @property
    def known_from(self) -> int:
        """The first number of which it is still known for whom the event was."""
        with self.held():
            return self._dropped.oldest or self.oldest

    def missed(self, position: int, upto: int, wants: Wants) -> int | None:
        """Count events for a reader, retained or dropped.

        :param position: the events after this number are counted.
        :param upto: the last number that is counted.
        :param wants: true for events for the reader; raises :class:`LookupError` if it needs a dropped event's name.
        :return: the exact count; ``None`` if that cannot be known any more.
        """
        with self.held():
            first_held, dropped = self.oldest, self._dropped.between(position, upto)
            held = [self._entries[seq] for seq in range(max(position + 1, first_held), upto + 1)]
        if dropped is None or self.history.lost_between(position, upto):
            return None
        try:
            # All other dropped events were for everybody: the reader wants either all of them or none.
            others = max(0, min(upto, first_held - 1) - position) - len(dropped)
            count = others if others and wants(first_held - 1, None, Target()) else 0
            count += sum(wants(entry.seq, entry.event.name, entry.event.target) for entry in held)
            return count + sum(wants(seq, None, target) for seq, target in dropped)
        except LookupError:
            return None

    def newest_of_names(self, upto: int, wants: Wants) -> list[Entry]:
        """Return the newest retained event of each name.

        :param upto: the last number that is looked at.
        :param wants: true for events that are for the reader.
        :return: the entries, in order.
        """
        return self._index.newest(upto, wants)

    def note(self, *, gaps: int = 0, conflated: int = 0) -> None:
        """Count what a cursor has found while reading.

        :param gaps: how many gaps.
        :param conflated: how many events it left out for newer ones.
        """
        with self.held():
            self._count.gaps += gaps
            self._count.conflated += conflated

    def statistics(self) -> LogStatistics:
        """Return a snapshot of the counters."""
        with self.held():
            return LogStatistics(len(self._entries), self._count.bytes, self.newest - self.base,
                                 self._count.evicted, self._count.conflated, self._count.gaps)


def resume_id(log: EventLog, seq: int) -> str | None:
    """Return the id with which a client can come back after an event.

    :param log: the log.
    :param seq: the number of the event.
    :return: the id; ``None`` while a process that shares its log does not know where that begins.
    """
    return None if log.segments is not None and not log.segments.begun else log.id_of(seq)


def too_large(event: Event, size: int, limit: int) -> EventError:
    """Return the error for an event that is too large.

    :param event: the event.
    :param size: how large it is, in bytes.
    :param limit: how large it may be.
    """
    return EventError(f"event {event.name!r} takes {size} bytes, more than HYBRID_MAX_EVENT_BYTES ({limit}); "
                      "send a reference instead of the whole", code="event_too_large", status=413)
