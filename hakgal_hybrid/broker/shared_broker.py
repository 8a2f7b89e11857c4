"""SharedBroker: publishes to a log that several processes have, and appends what is read of it to this process' own.

An event that is emitted here comes back by the reader, like those of other processes: so its order is that of the
shared log. What the process has not sent yet waits in the outbox, and no emit waits for the shared log.
"""

from __future__ import annotations

import atexit
import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..errors import Overloaded
from ..logs import get_logger
from .arrivals import Arrivals
from .backplane.faults import State
from .backplane.listener import Listener
from .backplane.outbox import Outbox
from .backplane.payloads import Control, control_payload, event_payload
from .backplane.peers import Peers
from .backplane.reader import BLOCK_S, Reader
from .backplane.sender import Sender
from .backplane.shared_log import Position, SharedLog
from .backplane.statistics import BackplaneStatistics, worse_of
from .broker import Broker
from .entry import Entry
from .event import Event
from .log import EventLog, too_large

logger = get_logger(__name__)

#: How long a request waits at the beginning until the process knows where it begins in the shared log, in seconds.
BEGIN_S = 5.0
#: How long it waits for an entry that its client has had from another process, in seconds.
ARRIVAL_S = 5.0
#: How long an answer to a client waits for what its handler has emitted, in seconds: it belongs before the answer.
SETTLED_S = 0.25
#: What the shared log carries of an event besides its data, about, in bytes.
_MORE = 256

#: Returns a function that connects: for a role (``sender`` or ``reader``), whose calls wait for news up to so many
#: seconds, and which is given what others send to the process of this name (if there is one).
Connect = Callable[[str, float, str], Callable[[], SharedLog]]


class SharedLimits(NamedTuple):
    """The bounds of a shared broker.

    :ivar log_events: how many of the newest entries a process begins with, and how many it can put back.
    :ivar outbox_events: how many events wait at most.
    :ivar outbox_bytes: how many bytes they have at most.
    :ivar event_bytes: how large an event may be, in bytes.
    :ivar flush_s: for how long what waits is sent at the end, in seconds.
    """

    log_events: int
    outbox_events: int
    outbox_bytes: int
    event_bytes: int
    flush_s: float


class SharedBroker(Broker):
    """Publishes to the shared log.

    :param log: the log of this process; it has segments.
    :param connect: connects to the shared log.
    :param limits: the bounds.
    :param wall_ms: milliseconds since 1970.
    :param address: where the shared log is, as it may be shown.
    :param name: which one it is there.
    :ivar process: the name of this process.
    :ivar presence: the processes that are alive, and the time by the clock of the shared log.
    :ivar stopped: true once :meth:`stop` was called.
    """

    def __init__(self, log: EventLog, connect: Connect, limits: SharedLimits, *, wall_ms: Callable[[], int],
                 address: str = "", name: str = "") -> None:
        super().__init__(log)
        assert log.segments is not None
        self._connect, self._limits, self._wall_ms, self._segments = connect, limits, wall_ms, log.segments
        self.stopped, self._address, self._name = False, address, name
        self._arrivals = Arrivals(log, log.segments, self.wake, wall_ms, limits.log_events)
        self._tail, self.presence = self._arrivals.tail, self._arrivals.presence
        self._renew()
        atexit.register(self.stop)

    def _renew(self) -> None:
        limits, arrivals, listener = self._limits, self._arrivals, self._arrivals.listener
        self._read_back = arrivals.renew()
        self._outbox = Outbox(max_events=limits.outbox_events, max_bytes=limits.outbox_bytes, clock=self.log.clock,
                              dropped=self._read_back.dropped)
        self.process = secrets.token_hex(8)
        self._reader = Reader(self._connect("reader", BLOCK_S, self.process), self._tail, seed=limits.log_events,
                              changed=self._changed, taken=arrivals.taken, on_message=listener.message,
                              presence=self.presence)
        self._sender = Sender(self._connect("sender", 0.0, ""), self._outbox, position=self._reader.position,
                              renamed=arrivals.renamed, changed=listener.changed, undelivered=listener.undelivered)
        arrivals.sender = self._sender.name

    def forked(self) -> None:
        """Begin without threads, and without what waits: the parent sends that."""
        self._renew()

    def connect(self, role: str) -> Callable[[], SharedLog]:
        """Return a function that makes another connection to the shared log.

        :param role: what it is for.
        """
        return self._connect(role, 0.0, "")

    def position(self) -> Position | None:
        """Return the last id that was read; ``None`` before the shared log has answered."""
        return self._tail.position

    def listen(self, listener: Listener) -> None:
        """Have a listener called with what comes. To be called before anything else.

        :param listener: the listener.
        """
        self._arrivals.listen(listener)
        self._renew()

    def _changed(self) -> None:
        self._arrivals.said(self._reader.live)
        self._arrivals.listener.changed()

    def begin(self) -> None:
        """Begin to read the shared log, if this process does not do so yet."""
        self._reader.start()

    @property
    def begun(self) -> bool:
        """False while the process reads what was emitted before it began."""
        return self._reader.begun

    @property
    def reachable(self) -> bool:
        """False while the shared log cannot be reached."""
        return self._reader.state not in (State.AWAY, State.MISCONFIGURED)

    def unreachable_s(self) -> float:
        """Return for how long the shared log could not be reached, in seconds; 0 if it can be."""
        return self._reader.unreachable_s()

    def ready(self) -> int:
        """Wait until it is known where this process begins, so that what is older is not taken for new.

        After a while, it begins when it can, and has nothing of what was before.

        :return: the number of the newest event.
        :raises Overloaded: if it is still reading what was before.
        """
        if not self._reader.wait_begun(BEGIN_S) and not self._reader.beginning.late():
            raise behind("this process still reads what was emitted before it began")
        return self.log.newest

    def wait_for(self, event_id: str) -> None:
        """Wait, for a bounded time, until an entry has come that another process has had already.

        :param event_id: its id, as a client says.
        :raises Overloaded: if too many wait already, or as :meth:`ready` does.
        """
        try:
            wanted = Position.parse(event_id)
        except ValueError:
            return
        self.ready()
        if not self._reader.wait_for(wanted, ARRIVAL_S):
            raise behind("this process has not read as far as the client has")

    def stop(self) -> None:
        """Send what waits, for as long as it may take, and end the threads."""
        self.stopped = True
        atexit.unregister(self.stop)
        if not self._sender.stop(self._limits.flush_s):
            waiting, error = self._outbox.statistics().events, self._sender.statistics().error or "the time was over"
            logger.warning("events are lost, because the backplane has not taken them: %d (%s)", waiting, error)
        self._reader.stop()

    def publish(self, event: Event, prepare: Callable[[Entry], object] | None = None) -> None:
        """Put an event into the outbox. It comes into the log when the shared log has it.

        :param event: the event.
        :param prepare: called with the entry before any reader of this process can see it.
        :raises EventError: if the event is too large, or for rooms that other processes could not know.
        """
        payload = event_payload(event, self._wall_ms())
        if len(payload) > self._limits.event_bytes + _MORE or len(event.data) > self._limits.event_bytes:
            raise too_large(event, len(payload), self._limits.event_bytes)
        self._send(payload, prepare)

    def _send(self, payload: bytes, prepare: Callable[[Entry], object] | None = None) -> None:
        reentrancy = self.log.reentrancy
        thread = reentrancy.thread
        if thread.marked:
            reentrancy.defer(partial(self._send, payload, prepare))
            return
        try:
            thread.marked = True
            self._outbox.put(payload, None if prepare is None else partial(self._read_back.expect, prepare))
        finally:
            thread.marked = False
            if thread.deferred:
                reentrancy.drain()
        self._reader.start()
        self._sender.ring()

    def in_place(self, change: Callable[[int], object]) -> None:
        """Carry out a change between what was emitted before and what will be. To be called under ``EventLog.held``.

        :param change: called with the number of the newest event before it, under ``EventLog.held``, as soon as
            everything that was emitted here before has come into the log.
        """
        if not self._read_back.after(self._outbox.last, change):
            change(self.log.newest)

    def settled(self) -> int:
        """Return the number of the newest event, once what was emitted here before is in the log.

        :return: the number; after a moment, or while the shared log is away, also without that.
        """
        if self._segments.live and self._reader.state is State.LIVE:
            here = threading.Event()
            with self.log.held():
                self.in_place(lambda newest: here.set())
            here.wait(SETTLED_S)
        return self.log.newest

    def elsewhere(self, action: str, /, **data: Any) -> bool:
        """Have every process do something, at its place among what this one emits.

        :param action: what.
        :param data: with what; JSON values.
        :return: true.
        """
        self._send(control_payload(Control(action, data)))
        return True

    def post(self, process: str, message: bytes) -> None:
        """Send a message to one process, at most once. Waits for nothing but the beginning of this process.

        :param process: the name of the process.
        :param message: the message.
        """
        self._reader.wait_begun(BEGIN_S)  # or the answer would find nobody
        self._sender.post(process, message)

    def statistics(self) -> BackplaneStatistics:
        """Return a snapshot."""
        sender, reader = self._sender.statistics(), self._reader
        return BackplaneStatistics(
            worse_of(reader.state, sender.state), reader.error or sender.error, self._segments.live, self._address,
            self._name, sender, self._tail.statistics(), reader.refilled, *self.presence.census(self.process))

    def living(self) -> Peers:
        """Return the processes that are alive, as far as it is known here."""
        self._reader.wait_begun(BEGIN_S)
        return self.presence.peers


def behind(why: str) -> Overloaded:
    """Return the error for a client that comes before this process has read what the client may have seen.

    :param why: what the process has not read.
    """
    return Overloaded(f"{why}; try again", code="behind", retry_after=1)
