"""Tail: what a process has read of the shared log: in order, without duplicates, with every hole. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from .shared_log import START, Position, Record

#: Of how many senders the last number is remembered; the one that has been silent longest is forgotten.
MAX_SENDERS = 10_000

#: Why something is missing: the log was cut off; it has dropped what was not read yet; its sender has lost it; what was
#: read beyond the end of a generation is not in the log.
HoleReason = Literal["cut", "trimmed", "lost", "restarted"]


class Hole(NamedTuple):
    """Something that is missing.

    :ivar before: the entry that comes after it; the hole has the id just before.
    :ivar missed: how many entries are missing; ``None`` if that is not known.
    :ivar reason: why.
    :ivar sender: whose entries they are, if that is known.
    """

    before: Position
    missed: int | None
    reason: HoleReason
    sender: str = ""


@dataclass(frozen=True, slots=True)
class TailStatistics:
    """What a process has met while reading.

    :ivar position: the last id that it has read.
    :ivar holes: how many entries are missing, by reason; one whose size is not known counts as one.
    :ivar cuts: how many new generations began.
    :ivar duplicates: how many entries had been read before under other ids.
    :ivar branches: how often it had read entries that are not in the log any more.
    :ivar foreign: how many entries are none of ours.
    """

    position: str = str(START)
    holes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(HoleReason), 0))
    cuts: int = 0
    duplicates: int = 0
    branches: int = 0
    foreign: int = 0


class Tail:
    """Takes the entries of the log one after the other. It belongs to the one thread that reads.

    :param deliver: called with every entry that carries something, once.
    :param hole: called with everything that is missing, in its place.
    :param keep: how many entries are kept, to put them back into a log that has lost them.
    :param branch: called with the last id of a branch that the log does not have, and the opening after it.
    :param repeated: called with the id of every entry that was read before under another one.
    :param ended: called with the last id of every generation.
    :param begun: called with the id after which this process begins.
    :param seen: called after each entry of a sender, with its name and number.
    :ivar position: the last id that was read; ``None`` until :meth:`begin` was called.
    :ivar beginning: true while :meth:`begin` takes what others have had before.
    :ivar chain: the entries since the last hole.
    :ivar looked_at: the last id that was looked at, if it is none of ours; there is nothing more to be read before it.
    """

    def __init__(self, deliver: Callable[[Record], object], hole: Callable[[Hole], object], *, keep: int,
                 branch: Callable[[Position, Position], object] = lambda end, opening: None,
                 repeated: Callable[[Position], object] = lambda at: None,
                 ended: Callable[[Position], object] = lambda end: None,
                 begun: Callable[[Position], object] = lambda position: None,
                 seen: Callable[[str, int], object] = lambda sender, q: None) -> None:
        self._deliver, self._on_hole, self._on_branch = deliver, hole, branch
        self._on_repeated, self._on_ended, self._on_begun, self._on_seen = repeated, ended, begun, seen
        self.position: Position | None = None
        self.beginning = False
        self.looked_at = START
        self.chain: deque[Record] = deque(maxlen=keep)
        #: The last number of each sender, and how many holes there were when it was read.
        self._last: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._holes_met = 0
        self._holes: dict[str, int] = dict.fromkeys(get_args(HoleReason), 0)
        self._cuts = self._duplicates = self._branches = self._foreign = 0

    def begin(self, records: list[Record]) -> None:
        """Begin with the newest entries of the log.

        :param records: the entries, in order; those before them count as read.
        """
        first = next((record for record in records if record.ends is not None or record.q), None)
        begin = START if first is None else first.ends or Position(first.at.generation, first.at.number - 1)
        self._on_begun(begin)
        self.position, self.beginning = begin, True
        try:
            for record in records:
                self.take(record)
        finally:
            self.beginning = False

    def begin_after(self, records: list[Record]) -> None:
        """Begin after the newest entry of the log. What clients of this process may have missed before is a hole.

        :param records: the newest entry, if there is one.
        """
        begin = records[-1].at if records else START
        self._on_begun(begin)
        self.position = begin
        if records:
            self._hole(Hole(Position(begin.generation, begin.number + 1), None, "trimmed"))

    def take(self, record: Record) -> None:
        """Take the next entry.

        :param record: the entry.
        """
        before, at = self.position or START, record.at
        if record.ends is not None:
            self._opened(before, record.ends, at)
        elif not record.q:
            self._foreign += 1
            self.looked_at = at
            return
        elif before != START and at.generation != before.generation:  # its opening was dropped
            self._hole(Hole(at, None, "trimmed"))
        elif before != START and at.number > before.number + 1:
            self._hole(Hole(at, at.number - before.number - 1, "trimmed"))
        elif before == START and at.number > 1:  # the log was empty when this process began
            self._hole(Hole(at, None, "trimmed"))
        self.position = at
        self.chain.append(record)
        if record.ends is None:
            self._from_sender(record)

    def _opened(self, before: Position, ends: Position, at: Position) -> None:
        self._cuts += before != START
        self._on_ended(ends)
        if ends < before:
            self._branches += 1
            while self.chain and self.chain[-1].at > ends:
                self.chain.pop()
            self._on_branch(before, at)
            self._count("restarted", None)
            self._on_hole(Hole(at, None, "restarted"))
        elif ends > before != START:
            self._hole(Hole(at, None, "cut"))

    def _from_sender(self, record: Record) -> None:
        known, holes = self._last.get(record.sender, (0, -1))
        if known and record.q <= known:
            self._duplicates += 1
            self._on_repeated(record.at)
            return
        missed = record.lost
        if known:
            between = record.q - known - 1
            missed = min(record.lost, between) if record.lost else between
        if not record.payload:  # its own event is lost as well
            missed += 1
        # What a hole of the log may have swallowed was reported with it.
        if missed and (not known or holes == self._holes_met or record.lost or not record.payload):
            self._count("lost", missed)
            self._on_hole(Hole(record.at, missed, "lost", record.sender))
            self._holes_met += 1
        self._last[record.sender] = record.q, self._holes_met
        self._last.move_to_end(record.sender)
        if len(self._last) > MAX_SENDERS:
            self._last.popitem(last=False)
        if record.payload:
            self._deliver(record)
        self._on_seen(record.sender, record.q)

    def _hole(self, hole: Hole) -> None:
        self.chain.clear()
        self._holes_met += 1
        self._count(hole.reason, hole.missed)
        self._on_hole(hole)

    def _count(self, reason: str, missed: int | None) -> None:
        if not self.beginning:  # those who were there have counted it
            self._holes[reason] += 1 if missed is None else missed

    def after(self, position: Position) -> list[Record]:
        """Return what was read after an id, as far as it is kept: what a log that ends there may have lost.

        :param position: the id.
        :return: the entries, in order.
        """
        return [record for record in self.chain if record.at > position]

    def statistics(self) -> TailStatistics:
        """Return a snapshot."""
        return TailStatistics(str(self.position or START), dict(self._holes), self._cuts, self._duplicates,
                              self._branches, self._foreign)
