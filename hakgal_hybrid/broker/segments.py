"""Segments: the ids that entries of a log have from outside, where several processes have one log. Pure.

The log of a process numbers its entries 1, 2, 3 …. Their ids are those of the shared log, where some numbers are taken
by what is no event, so that only runs of entries have consecutive ids: segments.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from .backplane.shared_log import START, Position
from .entry import Gap

#: How many generations are remembered, with the ids that they came to; and how many branches.
MAX_GENERATIONS = 1000
MAX_BRANCHES = 100


class Segment(NamedTuple):
    """Entries with consecutive ids.

    :ivar first: the number of the first one in the log.
    :ivar at: its id.
    """

    first: int
    at: Position


class Origin(NamedTuple):
    """Where an entry of the log comes from.

    :ivar at: its id in the shared log.
    :ivar ts: when it was emitted, in milliseconds since 1970.
    """

    at: Position
    ts: int


class Segments:
    """Which id each entry has, and which entry an id means. One thread adds; any may ask, without a lock.

    :ivar live: whether events of other processes come now.
    :ivar begun: false while it is not known after which id the log begins.
    """

    def __init__(self) -> None:
        self.live, self.begun = True, False
        self._base = START
        self._segments: list[Segment] = []
        self._newest = 0
        #: The id that each generation came to, as far as it is known.
        self._ends: OrderedDict[int, int] = OrderedDict()
        #: Openings after which entries were left out that the process had read before; with the last one of those.
        self._branches: list[tuple[Position, Position]] = []
        self._losses: list[int] = []
        self._losses_upto = 0

    @property
    def newest(self) -> Position:
        """The id of the newest entry."""
        return self._at(self._newest)

    def begin(self, base: Position) -> None:
        """Note the id after which the log begins.

        :param base: the id.
        """
        self._base, self.begun = base, True
        # What came before that, and was no event, had no id.
        self._segments = [Segment(segment.first, base) for segment in self._segments]
        self.ended(base)

    def add(self, seq: int, at: Position, oldest: int, *, lossy: bool = False) -> None:
        """Note the id of the next entry, before any reader can see it.

        :param seq: its number.
        :param at: its id; that of the entry before it for one that has none of its own.
        :param oldest: the number of the oldest entry that the log retains.
        :param lossy: true if it stands for a loss, or for anything else that is no event.
        """
        last = self._segments[-1] if self._segments else None
        if last is None or at != (last.at.generation, last.at.number + seq - last.first):
            self._segments.append(Segment(seq, at))
        self._newest = seq
        self._ends[at.generation] = at.number
        if len(self._ends) > MAX_GENERATIONS:
            self._ends.popitem(last=False)
        if lossy:
            self._losses.append(seq)
        self._forget(oldest)

    def ended(self, end: Position) -> None:
        """Note where a generation ended.

        :param end: its last id.
        """
        if end != START:
            self._ends[end.generation] = end.number

    def branched(self, opening: Position) -> None:
        """Note that the process had read what is not in the log: its senders send it again, under other ids.

        :param opening: the id of the opening after that.
        """
        self._branches = [*self._branches[1 - MAX_BRANCHES:], (opening, opening)]

    def repeated(self, at: Position) -> None:
        """Note that an entry was left out, because the process had read it before.

        :param at: its id.
        """
        if self._branches and self._branches[-1][0].generation == at.generation:
            self._branches[-1] = self._branches[-1][0], at

    def _forget(self, oldest: int) -> None:
        """Forget what the log has dropped."""
        if len(self._segments) > 1 and self._segments[1].first < oldest:
            self._segments = self._segments[bisect_left(self._segments, oldest - 1, key=itemgetter(0)) - 1:]
        if len(self._losses) > MAX_GENERATIONS:
            self._losses_upto, self._losses = self._losses[-MAX_GENERATIONS - 1], self._losses[-MAX_GENERATIONS:]

    def lost_between(self, position: int, upto: int) -> bool:
        """True if events were lost after a position.

        :param position: the position.
        :param upto: the last position that is asked about.
        """
        return position < self._losses_upto or any(position < loss <= upto for loss in self._losses)

    def id_of(self, position: int) -> str:
        """Return the id of an entry.

        :param position: its number; 0 stands for what was before the first.
        :return: the id.
        """
        return str(self._at(position))

    def _at(self, position: int) -> Position:
        segments = self._segments
        if not segments:
            return self._base
        first, at = segments[-1]  # where most are asked for
        if position < first:
            first, at = segments[max(0, bisect_right(segments, position, key=itemgetter(0)) - 1)]
        return Position(at.generation, max(0, at.number + position - first))

    def resume(self, generation: int, number: int, *, oldest: int, start: int) -> tuple[int, Gap | None]:
        """Say where a reader goes on.

        :param generation: the first part of the id of its last event.
        :param number: the second part.
        :param oldest: the oldest number that the log retains.
        :param start: the newest number of the log.
        :return: the number of the last entry that the reader is past, and a gap if it cannot just go on there.
        """
        at, segments = Position(generation, number), self._segments
        first, last = self._at(oldest - 1), self._at(start)
        if at == last:
            return max(oldest - 1, self._place(segments, at, start)), None
        if at == self._base:  # it was there before the first entry
            return oldest - 1, None if oldest == 1 else Gap(oldest - 1, None, "evicted")
        if at > last:
            return start, Gap(start, None, "future" if self._ends else "restarted")
        if generation not in self._ends or number > self._ends[generation] or _within(self._branches, at):
            return start, Gap(start, None, "restarted")
        if at < first:
            return oldest - 1, Gap(oldest - 1, None, "evicted")
        return max(oldest - 1, self._place(segments, at, start)), None

    @staticmethod
    def _place(segments: list[Segment], at: Position, newest: int) -> int:
        """Return the number of the first entry with an id, or of the last one before it."""
        index = bisect_left(segments, at, key=itemgetter(1))  # the first segment that begins with it or later
        here = segments[index].first if index < len(segments) else newest + 1
        if index:
            before = segments[index - 1]
            if before.at.generation == at.generation and before.first + at.number - before.at.number < here:
                return before.first + at.number - before.at.number
        return here if index < len(segments) and segments[index].at == at else here - 1


def _within(branches: Iterable[tuple[Position, Position]], at: Position) -> bool:
    return any(opening < at <= last for opening, last in branches)
