"""Arrivals: appends what is read of a shared log to the log of this process, each thing in its place."""

from __future__ import annotations

from collections.abc import Callable

from ..logs import get_logger
from .backplane.listener import Arrived, Listener
from .backplane.payloads import Control, read_payload
from .backplane.presence import Presence
from .backplane.read_back import Prepare, ReadBack
from .backplane.shared_log import START, Position, Record
from .backplane.tail import Hole, Tail
from .entry import Entry
from .epochs import AWAY_MARKER, LIVE_MARKER, loss_marker
from .event import Event
from .log import EventLog
from .segments import Origin, Segments

logger = get_logger(__name__)


class Arrivals:
    """What the reader's thread does with what it reads.

    :param log: the log of this process.
    :param segments: its ids.
    :param wake: wakes whatever writes events to clients.
    :param wall_ms: milliseconds since 1970.
    :param keep: how many entries are kept, to put them back into a shared log that has lost them.
    :ivar tail: takes the entries.
    :ivar presence: the processes that are alive.
    :ivar listener: is called with what comes.
    :ivar read_back: what waits for events of this process.
    :ivar sender: the name under which this process sends.
    """

    def __init__(self, log: EventLog, segments: Segments, wake: Callable[[], None], wall_ms: Callable[[], int],
                 keep: int) -> None:
        self._log, self._segments, self._wake, self._wall_ms = log, segments, wake, wall_ms
        self.presence, self.listener = Presence(lambda: self.tail.position), Listener()
        self.read_back, self.sender = ReadBack(), ""
        self._arrived: list[Arrived] = []
        self.tail = Tail(self._take, self._hole, keep=keep, repeated=segments.repeated, ended=segments.ended,
                         branch=lambda end, opening: segments.branched(opening), begun=segments.begin, seen=self._seen)

    def listen(self, listener: Listener) -> None:
        """Have a listener called with what comes.

        :param listener: the listener.
        """
        self.listener = self.presence.listener = listener

    def renew(self) -> ReadBack:
        """Begin as another process: nothing is waited for, and nothing was said."""
        self.read_back, self._arrived = ReadBack(), []
        self.presence.renew()
        return self.read_back

    def renamed(self, name: str, numbers: dict[int, int]) -> None:
        """Note that this process sends under a new name.

        :param name: the name.
        :param numbers: the new number of each event that was not sent.
        """
        self.sender = name
        with self._log.held():
            self.read_back.renumbered(numbers)

    def said(self, live: bool) -> None:
        """Have clients know whether events of other processes come, if they do not know it already.

        :param live: true if they come.
        """
        if live is not self._segments.live:
            self._segments.live = live
            self._append(LIVE_MARKER if live else AWAY_MARKER, Origin(self.tail.position or START, self._wall_ms()))
            self._wake()

    def taken(self) -> None:
        """Have the entries noted, and sent, that were taken: once for all of them, as each time costs a switch."""
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            self.listener.read(arrived)
        self._wake()

    def _take(self, record: Record) -> None:
        here = record.sender == self.sender
        try:
            read = read_payload(record.payload)
            if isinstance(read, Control):
                self.taken()  # what was before it is noted before it
                self.listener.control(read, record.at, past=self.tail.beginning)
                return
            self.presence.lag_s = max(0, self._wall_ms() - read.ts) / 1000
            prepare = self.read_back.take(record.q) if here else self.listener.foreign(read.event)
            entry = self._append(read.event, Origin(record.at, read.ts), prepare)
        except Exception as error:  # of another version, or larger than this process allows
            logger.warning("entry %s of the backplane cannot be used: %r", record.at, error)
            self._hole(Hole(record.at, 1, "lost", record.sender))
            return
        self._arrived.append(Arrived(read.event, entry.seq, here, self.tail.beginning))

    def _seen(self, sender: str, q: int) -> None:
        if sender == self.sender:
            with self._log.held():
                changed = self.read_back.seen(q, self._log.newest)
            if changed:
                self._wake()

    def _hole(self, hole: Hole) -> None:
        at = Position(hole.before.generation, max(0, hole.before.number - 1))
        self._append(loss_marker(hole.reason), Origin(at, self._wall_ms()))
        self.taken()  # as before what is to be done
        self.listener.lost(hole, past=self.tail.beginning)

    def _append(self, event: Event, origin: Origin, prepare: Prepare | None = None) -> Entry:
        with self._log.held():
            return self._log.append(event, prepare, origin)
