"""Fanout: one loop that writes to every open stream without waiting for any.

A stream costs a socket, a :class:`~hakgal_hybrid.broker.stream.SubscriberStream` and a watcher; no thread and no
greenlet. Each pass sends everything new to everybody who can take it: first to those who keep up, by what the
:class:`~hakgal_hybrid.broker.live.LiveGroup` has for them, then to those who are catching up, each by its own cursor.
A client whose socket is full keeps its place in the log until the socket takes bytes again; one that takes none for
``HYBRID_STALL_S`` is closed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ...broker.hub import Hub
from ...broker.live import Delivery, LiveGroup
from ...broker.stream import Shared, SubscriberStream
from ...logs import get_logger
from ...settings import Settings
from .connection import Connection, SwitchInterval, why_lost
from .disconnects import HangUps
from .heartbeats import Rounds
from .pacing import SECONDS_PER_TURN, Pace
from .tls import Attached

logger = get_logger(__name__)

#: After so many sends it looks at the clock.
SENDS_PER_LOOK = 8
#: A stream's client has nothing to say; one that sends more than this (bytes) is closed.
MAX_CHATTER = 64 * 1024
#: What is taken from the log for one stream is kept for others if it has so many bytes, and how many such are.
LONG, LONG_KEPT = 64 * 1024, 8

_WRITE = 2

clock = time.monotonic


class Fanout:
    """The writer of all streams of one server. Everything but :meth:`wake` belongs to the loop's thread.

    :param left: called when a stream ended, with its feed and the reason.
    :param stopping: true once every stream shall end with a farewell.
    :param attached: the streams that greenlets write; they are woken with the others.
    :param busy: true while requests are being answered.
    """

    def __init__(self, hub: Hub, settings: Settings, left: Callable[[SubscriberStream, str], None],
                 stopping: Callable[[], bool], attached: Attached, busy: Callable[[], bool]) -> None:
        self._hub, self._settings, self._left, self._stopping = hub, settings, left, stopping
        self._attached = attached
        self._connections: dict[int, Connection] = {}
        self._pack = LiveGroup(hub, settings.max_backlog_s)
        #: Those that go by their own cursor, but for those that wait for their socket.
        self._alone: dict[Connection, None] = {}
        #: Those whose heartbeat is due.
        self._due: list[Connection] = []
        #: What several of them took, as long as the pack stays where it is; what is long, for a little longer.
        self._shared: Shared = {}
        self._shared_at = -1
        #: How many bytes a client has said that was not asked.
        self._chatter: dict[Connection, int] = {}
        self._ending = False
        self._news = Event()
        self._loop = gevent.get_hub().loop
        self._alarm = self._loop.async_()
        self._hangups = HangUps(self._loop, self._on_readable)
        self._pace = Pace(self._loop, busy)
        self._rounds = Rounds(settings)
        self._switching = SwitchInterval(settings.switch_interval_ms / 1000)
        self._greenlets: list[Any] = []
        self._remove_waker: Callable[[], None] = lambda: None
        #: Not set while many are being sent something: whoever can should not take the GIL between sends.
        self.at_rest = threading.Event()
        self.at_rest.set()
        #: Called after each pass with the number of the last event that every stream that keeps up has been given.
        self.passed: Callable[[int], None] = lambda newest: None

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._alarm.start(self._on_alarm)
        self._remove_waker = self._hub.broker.add_waker(self.wake)
        self._greenlets = [gevent.spawn(self._write_for_ever), gevent.spawn(self._tick_for_ever)]

    def wake(self) -> None:
        """Look at the log again soon. May be called from any thread; never waits."""
        self._alarm.send()

    def farewell(self, seconds: float) -> None:
        """Flush what every stream still has to get, say good-bye, close; what takes longer than ``seconds`` is cut."""
        self._remove_waker()
        deadline = clock() + seconds
        self._ending = True
        self._news.set()
        gevent.joinall(self._greenlets[:1], timeout=max(seconds, 1.0))  # a pass is not broken off in its middle
        if self._greenlets[0].dead:
            self._part_all()
        gevent.killall(self._greenlets)
        self._on_alarm()
        while clock() < deadline and (self._connections or len(self._attached)):
            gevent.sleep(0.005)
        for connection in list(self._connections.values()):
            self._close(connection, "stopped")
        self._hangups.close()
        self._alarm.stop()

    def __len__(self) -> int:
        return len(self._connections)

    def statistics(self) -> dict[str, int]:
        """Return a snapshot: open detached streams, and how many of them are waiting for their socket."""
        connections = list(self._connections.values())
        return {"streams": len(connections), "blocked": sum(item.pending is not None for item in connections)}

    def clogged(self) -> list[SubscriberStream]:
        """Return the feeds whose socket has not taken what it was given. May be called from any thread."""
        return [item.feed for item in list(self._connections.values()) if item.pending is not None]

    # -- clients ---------------------------------------------------------------------------------------------

    def adopt(self, fileno: int, feed: SubscriberStream, head: bytes) -> None:
        """Take over a detached socket: write ``head``, then the stream, until the client or the server is gone."""
        connection = None
        try:
            connection = Connection(fileno, feed)
            connection.prepare(self._settings)
            self._hangups.watch(fileno)
        except (OSError, ValueError):  # libuv raises the latter
            if connection is not None:
                connection.detach()
            self._left(feed, "gone")
            socket.close(fileno)
            return
        self._connections[fileno] = connection
        self._switching.adjust(len(self._connections))
        self._alone[connection] = None
        self._send(connection, head + feed.opening())
        self._news.set()

    def _on_readable(self, fileno: int) -> None:
        """A client said something, or, far more likely, is gone."""
        connection = self._connections.get(fileno)
        if connection is None:
            return  # closed by what was heard before
        try:
            data = connection.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(connection, error)
            return
        chatter = self._chatter[connection] = self._chatter.get(connection, 0) + len(data)
        if not data:
            self._close(connection, "gone")
        elif chatter > MAX_CHATTER:
            self._close(connection, "chatter")

    def _lost(self, connection: Connection, error: OSError) -> None:
        """Close a connection that cannot be used."""
        self._close(connection, why_lost(error))

    def _close(self, connection: Connection, reason: str) -> None:
        fileno = connection.fileno()
        if self._connections.get(fileno) is not connection:
            return
        del self._connections[fileno]
        self._alone.pop(connection, None)
        self._chatter.pop(connection, None)
        self._pack.leave(connection, connection.feed.position)
        self._hangups.forget(fileno)
        if connection.writer is not None:
            connection.writer.stop()
            connection.writer.close()
        connection.close()
        connection.pending = None
        self._switching.adjust(len(self._connections))
        self._left(connection.feed, reason)

    # -- writing ---------------------------------------------------------------------------------------------

    def _on_alarm(self) -> None:
        self._news.set()
        self._attached.wake()

    def _write_for_ever(self) -> None:
        while not self._ending:
            self._news.wait()
            self._news.clear()
            if self._stopping():
                self._part_all()
            else:
                try:
                    self._pass()
                    self.passed(self._pack.position)
                except Exception:
                    logger.exception("a pass of the writer failed")  # the next one takes up what it left

    def _pass(self) -> None:
        """Send everything new to everybody who can take it, letting the loop poll now and then."""
        self._pace.begin()
        try:
            step = self._pack.step()
        except Exception:
            logger.exception("a step of the streams that keep up failed; each goes on alone")
            step = self._pack.scatter()
        self._alone.update(dict.fromkeys(step.apart))
        many = sum(len(share.members) for share in step.shares) > SENDS_PER_LOOK
        if many:
            self.at_rest.clear()
        try:
            for share in step.shares:
                self._send_share(share, step.upto)
        finally:
            if many:
                self.at_rest.set()
        self._pack.arrive(step)
        self._bring_up()
        self._send_heartbeats()
        if self._pack.position < self._hub.log.newest:
            self._news.set()

    def _bring_up(self) -> None:
        """Bring those who go alone nearer to the pack, for as long as one turn: the pack is not to wait for many."""
        if self._shared_at != self._pack.position:
            self._keep_long()
            self._shared_at = self._pack.position
        until = clock() + SECONDS_PER_TURN
        for connection in list(self._alone):
            self._alone.pop(connection, None)
            self._guarded(self._catch_up, connection, self._shared)
            self._pace.sent(1)
            if clock() > until:
                self._news.set()  # the others are first in the next pass
                return
        self._keep_long()

    def _keep_long(self) -> None:
        """Forget what several took, but for a few long replays: those can only be too short by now.

        (How old an event is does not matter to a replay.) In a storm of resumes one comes after the other, and events
        come in between: each would read the whole log again.
        """
        long = [(key, taken) for key, taken in self._shared.items() if key[-1] and len(taken.data) >= LONG]
        self._shared = dict(long[-LONG_KEPT:])

    def _send_share(self, share: Delivery, upto: int) -> None:
        """Give many the same bytes. Nearly all time is to go into ``send``: so little else is done for each of them."""
        data, size, members, now, failed = share.data, len(share.data), share.members, clock(), 0
        more = share.delivered - share.instead
        if share.whole is not None:
            share.whole.delivered += share.delivered
        for start in range(0, len(members), SENDS_PER_LOOK):
            some: list[Connection] = members[start:start + SENDS_PER_LOOK]
            for connection in some:
                try:
                    taken = 0 if connection.pending is not None else connection.send(data)
                except (BlockingIOError, InterruptedError):
                    taken = 0
                except OSError as error:
                    failed += 1
                    self._lost(connection, error)  # or it is closed already: the loop was let poll meanwhile
                    continue
                connection.progress_at = now
                if taken != size:
                    self._pack.leave(connection, upto)
                    self._keep(connection, data, taken)
            if share.whole is None:
                for connection in some:
                    connection.feed.own_delivered += more
            self._pace.sent(len(some))
        sent = len(members) - failed
        self._hub.count_delivery(sent * share.delivered, sent * size)
        if share.conflated:
            self._hub.log.note(conflated=sent * share.conflated)

    def _send_heartbeats(self) -> None:
        """Send the heartbeats that are due. Not within a pass: there is one newest id between two passes only."""
        due, self._due = self._due, []
        for connection in due:
            if connection.pending is None and connection.fileno() >= 0 and not connection.leaving:
                self._guarded(self._send_heartbeat, connection)
                self._pace.sent(1)

    def _send_heartbeat(self, connection: Connection) -> None:
        if self._rounds.is_quiet(clock() - connection.progress_at):
            self._send(connection, connection.feed.heartbeat())

    def _catch_up(self, connection: Connection, shared: Shared) -> None:
        """Bring one that is not with the pack nearer to it, and into it if it is there."""
        feed = connection.feed
        if connection.pending is not None or connection.fileno() < 0:
            return  # it is brought up once its socket takes bytes again
        if feed.finished:
            self._part(connection, b"", feed.finished)
            return
        self._send(connection, feed.take(shared, self._pack.position))
        if connection.pending is not None or connection.fileno() < 0 or self._pack.join(connection):
            return
        self._alone[connection] = None
        if feed.position < self._pack.position or feed.finished:
            self._news.set()  # it took all it was given, and there is more to do

    def _guarded(self, act: Callable[..., None], connection: Connection, *more: Any) -> None:
        """Do something for one stream; if that fails, close this one: the writer of all the others goes on."""
        try:
            act(connection, *more)
        except Exception:
            logger.exception("a stream failed and is closed")
            self._close(connection, "failed")

    def _part_all(self) -> None:
        for connection in list(self._connections.values()):
            self._guarded(self._part, connection, connection.feed.bye(), "stopped")

    def _part(self, connection: Connection, last: bytes, reason: str) -> None:
        """Flush what the client can take at once, then ``last``, and close when that is out."""
        if connection.leaving:
            return
        self._pack.leave(connection, connection.feed.position)
        while connection.feed.behind and connection.pending is None and connection.fileno() >= 0:
            self._send(connection, connection.feed.take())
        connection.leaving = reason
        self._send(connection, last + connection.feed.end(reason))
        self._alone.pop(connection, None)
        if connection.pending is None:
            self._close(connection, reason)

    def _send(self, connection: Connection, data: bytes) -> None:
        """Hand ``data`` to the socket; what it does not take becomes the connection's ``pending``."""
        if not data or connection.fileno() < 0:
            return
        try:
            taken = 0 if connection.pending is not None else connection.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError as error:
            self._lost(connection, error)
            return
        if taken:
            connection.progress_at = clock()
        if taken != len(data):
            self._keep(connection, data, taken)

    def _keep(self, connection: Connection, data: bytes, taken: int) -> None:
        """Keep what the socket did not take, and wait until it takes more."""
        if connection.pending is not None:
            connection.pending = memoryview(bytes(connection.pending) + data)
            return
        connection.pending = memoryview(data)[taken:]
        connection.progress_at = clock()  # from now on it is waited for
        if connection.writer is None:
            connection.have_kernel_wait(10 * self._settings.stall_s)
            connection.writer = self._loop.io(connection.fileno(), _WRITE)
        connection.writer.start(self._on_writable, connection)

    def _on_writable(self, connection: Connection) -> None:
        pending = connection.pending
        if pending is None:
            return
        try:
            taken = connection.send(pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(connection, error)
            return
        connection.progress_at = clock()
        if taken < len(pending):
            connection.pending = pending[taken:]
            return
        connection.pending = None
        connection.writer.stop()
        if connection.leaving:
            self._close(connection, connection.leaving)
        elif connection.feed.cohort is None:
            self._alone[connection] = None
            self._news.set()

    # -- time ------------------------------------------------------------------------------------------------

    def _tick_for_ever(self) -> None:
        """Look after every stream once an interval; little by little, so that not all heartbeats go out at once."""
        rounds = self._rounds
        while True:
            connections = list(self._connections.values())
            self._shared = {}
            for part in rounds.parts():
                now = clock()
                for connection in connections[part]:
                    self._guarded(self._look_after, connection, now)

    def _look_after(self, connection: Connection, now: float) -> None:
        if connection.pending is not None:
            if connection.feed.replaced:  # or a client could have many sockets wait, in one place
                self._close(connection, "replaced")
                return
            # Linux tells of room only when a third of its buffer is free: much later than a slow client takes a byte.
            self._on_writable(connection)
            if connection.pending is not None and now - connection.progress_at > self._settings.stall_s:
                self._close(connection, "stalled")
            return
        if not connection.leaving and self._rounds.heartbeat_is_due(now - connection.progress_at):
            self._due.append(connection)
            self._news.set()
