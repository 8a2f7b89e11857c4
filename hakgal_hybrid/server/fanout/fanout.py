"""Fanout: one loop that writes to every open stream without waiting for any.

A stream costs a socket, a :class:`~hakgal_hybrid.broker.stream.SubscriberStream` and a watcher; no thread and no
greenlet. Each pass sends everything new to everybody who can take it: first to the streams that are live, by what the
:class:`~hakgal_hybrid.broker.live.LiveGroup` has for them, then to those that are catching up, each by its own cursor.
A client whose socket is full keeps its place in the log until the socket takes bytes again; one that takes none for
``HYBRID_STALL_S`` is closed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ...broker.hub import Hub
from ...broker.live import Delivery, LiveGroup
from ...broker.states import StreamEnd, StreamEvent, StreamState
from ...broker.stream import SubscriberStream
from ...logs import get_logger
from ...settings import Settings
from ..notifier import LoopNotifier
from .connection import Connection, SwitchInterval, why_lost
from .disconnects import HangUps
from .heartbeats import Rounds
from .pacing import SECONDS_PER_TURN, Pace
from .replay_cache import ReplayCache
from .tls import Attached

logger = get_logger(__name__)

#: After so many sends it looks at the clock.
SENDS_PER_LOOK = 8
#: A stream's client has nothing to say; one that sends more than this (bytes) is closed.
MAX_CHATTER = 64 * 1024

clock = time.monotonic


class Fanout:
    """The writer of all streams of one server. Everything but :meth:`wake` belongs to the loop's thread.

    :param hub: the hub.
    :param settings: the settings.
    :param left: called when a stream has ended, with the stream and the reason.
    :param stopping: true once every stream shall end with a farewell.
    :param attached: the streams that greenlets write; they are woken with the others.
    :ivar passed: called after each pass with the number of the last event that every live stream has been given.
    """

    def __init__(self, hub: Hub, settings: Settings, left: Callable[[SubscriberStream, StreamEnd], None],
                 stopping: Callable[[], bool], attached: Attached) -> None:
        self._hub, self._settings, self._left, self._stopping = hub, settings, left, stopping
        self._attached = attached
        self._connections: dict[int, Connection] = {}
        self._live = LiveGroup(hub, settings.max_backlog_s)
        #: Those that are catching up, in the order of their turns.
        self._catching_up: dict[Connection, None] = {}
        #: Those whose heartbeat is due.
        self._quiet: list[Connection] = []
        #: How many bytes a client has said that was not asked.
        self._chatter: dict[Connection, int] = {}
        self._replays = ReplayCache()
        self._ending = False
        self._news = Event()
        self._loop = gevent.get_hub().loop
        self._notifier = LoopNotifier(self._loop, self._on_notified)
        self._hangups = HangUps(self._loop, self._on_readable)
        self._pace = Pace(self._loop)
        self._rounds = Rounds(settings)
        self._switching = SwitchInterval(settings.switch_interval_ms / 1000)
        self._greenlets: list[Any] = []
        self._remove_waker: Callable[[], None] = lambda: None
        self.passed: Callable[[int], None] = lambda newest: None

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._remove_waker = self._hub.broker.add_waker(self.wake)
        self._greenlets = [gevent.spawn(self._write_for_ever), gevent.spawn(self._tick_for_ever)]

    def wake(self) -> None:
        """Look at the log again soon. Any thread may call it; it never waits."""
        self._notifier.notify()

    def farewell(self, seconds: float) -> None:
        """Flush what every stream still has to get, say good-bye, close.

        :param seconds: what takes longer is cut off.
        """
        self._remove_waker()
        deadline = clock() + seconds
        self._ending = True
        self._news.set()
        gevent.joinall(self._greenlets[:1], timeout=max(seconds, 1.0))  # a pass is not broken off in its middle
        if self._greenlets[0].dead:
            self._finish_all()
        gevent.killall(self._greenlets)
        self._on_notified()
        while clock() < deadline and (self._connections or len(self._attached)):
            gevent.sleep(0.005)
        for connection in list(self._connections.values()):
            self._close(connection, StreamEnd.STOPPED)
        self._hangups.close()
        self._notifier.close()

    def __len__(self) -> int:
        return len(self._connections)

    def statistics(self) -> dict[str, int]:
        """Return how many detached streams are open, and how many of them wait for their socket."""
        connections = list(self._connections.values())
        return {"streams": len(connections), "blocked": sum(item.pending is not None for item in connections)}

    def clogged(self) -> list[SubscriberStream]:
        """Return the streams whose socket has not taken what it was given. Any thread may call it."""
        return [item.feed for item in list(self._connections.values()) if item.pending is not None]

    # -- connections -----------------------------------------------------------------------------------------

    def adopt(self, fileno: int, feed: SubscriberStream, head: bytes) -> None:
        """Take over a detached socket, and write its stream until the client or the server is gone.

        :param fileno: the socket's descriptor.
        :param feed: the stream.
        :param head: what is written before it.
        """
        connection = None
        try:
            connection = Connection(fileno, feed)
            connection.prepare(self._settings)
            self._hangups.watch(fileno)
        except (OSError, ValueError):  # libuv raises the latter
            if connection is not None:
                connection.detach()
            self._left(feed, StreamEnd.GONE)
            socket.close(fileno)
            return
        self._connections[fileno] = connection
        self._switching.adjust(len(self._connections))
        self._live.adopt(connection)
        self._catching_up[connection] = None
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
            self._close(connection, why_lost(error))
            return
        chatter = self._chatter[connection] = self._chatter.get(connection, 0) + len(data)
        if not data:
            self._close(connection, StreamEnd.GONE)
        elif chatter > MAX_CHATTER:
            self._close(connection, StreamEnd.CHATTER)

    def _close(self, connection: Connection, reason: StreamEnd) -> None:
        feed = connection.feed
        if feed.state is StreamState.ENDED:
            return
        fileno = connection.fileno()
        del self._connections[fileno]
        self._catching_up.pop(connection, None)
        self._chatter.pop(connection, None)
        self._live.leave(connection, feed.position)
        self._hangups.forget(fileno)
        connection.close()
        self._switching.adjust(len(self._connections))
        self._left(feed, reason)

    def _send(self, connection: Connection, data: bytes) -> None:
        """Hand bytes to a connection; if its socket is full, wait until it takes more."""
        if not data:
            return
        try:
            taken = connection.write(data)
        except OSError as error:
            self._close(connection, why_lost(error))
            return
        if not taken:
            self._live.leave(connection, connection.feed.position)
            self._block(connection)

    def _block(self, connection: Connection) -> None:
        """Wait until a socket that is full takes more."""
        if connection.feed.state is StreamState.CATCHING_UP:
            connection.feed.happened(StreamEvent.SOCKET_FULL)
            self._catching_up.pop(connection, None)
        connection.await_room(self._loop, self._on_writable, self._settings)

    def _on_writable(self, connection: Connection) -> None:
        try:
            if not connection.flush():
                return
        except OSError as error:
            self._close(connection, why_lost(error))
            return
        connection.stop_waiting()
        if connection.feed.state is StreamState.BLOCKED:
            connection.feed.happened(StreamEvent.SOCKET_DRAINED)
            self._catching_up[connection] = None
            self._news.set()
        elif connection.feed.state is StreamState.CLOSING and connection.end is not None:
            self._close(connection, connection.end)

    # -- writing ---------------------------------------------------------------------------------------------

    def _on_notified(self) -> None:
        self._news.set()
        self._attached.wake()

    def _write_for_ever(self) -> None:
        while not self._ending:
            self._news.wait()
            self._news.clear()
            if self._stopping():
                self._finish_all()
            else:
                try:
                    self._pass()
                    self.passed(self._live.position)
                except Exception:
                    logger.exception("a pass of the writer failed")  # the next one takes up what it left

    def _pass(self) -> None:
        """Send everything new to everybody who can take it, letting the loop poll now and then."""
        self._pace.begin()
        newest, again = self._hub.log.newest, True
        while again:  # once at least: streams may have to leave
            self._step()
            again = self._live.position < newest
        self._bring_up()
        self._send_heartbeats()
        if self._live.position < self._hub.log.newest:
            self._news.set()

    def _step(self) -> None:
        try:
            step = self._live.step()
        except Exception:
            logger.exception("a step of the live streams failed; each goes on alone")
            step = self._live.scatter()
        self._catching_up.update(dict.fromkeys(step.apart))
        for delivery in step.deliveries:
            self._deliver(delivery, step.upto)
        self._live.arrive(step)
        self._pace.sent(0)  # it may have gone through much that is for nobody

    def _deliver(self, delivery: Delivery, upto: int) -> None:
        """Give many the same bytes. Nearly all time is to go into ``send``: so little else is done for each of them."""
        data, size, members, now, failed = delivery.data, len(delivery.data), delivery.members, clock(), 0
        for start in range(0, len(members), SENDS_PER_LOOK):
            some: list[Connection] = members[start:start + SENDS_PER_LOOK]
            for connection in some:
                try:
                    taken = connection.send(data)
                except (BlockingIOError, InterruptedError):
                    taken = 0
                except OSError as error:
                    failed += 1
                    self._close(connection, why_lost(error))  # or it is closed already: the loop was let poll meanwhile
                    continue
                connection.progress_at = now
                if taken != size:
                    self._live.leave(connection, upto)
                    connection.pending = memoryview(data)[taken:]
                    self._block(connection)
            self._pace.sent(len(some))
        sent = len(members) - failed
        self._hub.deliveries.delivered(sent * delivery.delivered, sent * size)
        if delivery.conflated:
            self._hub.log.note(conflated=sent * delivery.conflated)

    def _bring_up(self) -> None:
        """Bring those that are catching up nearer to the live ones, which are not to wait for many: for one turn."""
        until = clock() + SECONDS_PER_TURN
        for connection in list(self._catching_up):
            self._catching_up.pop(connection, None)
            self._guarded(self._catch_up, connection)
            self._pace.sent(1)
            if clock() > until:
                self._news.set()  # the others are first in the next pass
                return
        self._replays.trim()

    def _catch_up(self, connection: Connection) -> None:
        """Bring one nearer to the live ones, and among them if it is there."""
        feed = connection.feed
        if feed.state is not StreamState.CATCHING_UP:
            return
        if feed.finished is not None:
            self._finish(connection, b"", feed.finished)
            return
        self._send(connection, feed.take(self._replays.at(self._live.position), self._live.position))
        if feed.state is not StreamState.CATCHING_UP or self._live.join(connection):
            return
        self._catching_up[connection] = None
        if feed.position < self._live.position or feed.finished is not None:
            self._news.set()  # it took all it was given, and there is more to do

    def _guarded(self, act: Callable[..., None], connection: Connection, *more: Any) -> None:
        """Do something for one stream; if that fails, close this one: the writer of all the others goes on."""
        try:
            act(connection, *more)
        except Exception:
            logger.exception("a stream failed and is closed")
            self._close(connection, StreamEnd.FAILED)

    def _finish_all(self) -> None:
        for connection in list(self._connections.values()):
            self._guarded(self._finish, connection, connection.feed.bye(), StreamEnd.STOPPED)

    def _finish(self, connection: Connection, last: bytes, reason: StreamEnd) -> None:
        """Send what the client can take at once, then the last bytes, and close when these are out."""
        feed = connection.feed
        self._live.leave(connection, feed.position)
        while feed.state is StreamState.CATCHING_UP and feed.behind:
            self._send(connection, feed.take())
        if feed.state not in (StreamState.CATCHING_UP, StreamState.BLOCKED):
            return  # its last bytes are on their way already, or it is lost
        feed.happened(StreamEvent.LAST_BYTES)
        connection.end = reason
        self._catching_up.pop(connection, None)
        self._send(connection, last + feed.end(reason))
        if connection.pending is None:
            self._close(connection, reason)

    # -- time ------------------------------------------------------------------------------------------------

    def _tick_for_ever(self) -> None:
        """Look after every stream once an interval; little by little, so that not all heartbeats go out at once."""
        while True:
            connections = list(self._connections.values())
            self._replays.clear()
            for part in self._rounds.parts():
                now = clock()
                for connection in connections[part]:
                    self._guarded(self._look_after, connection, now)

    def _look_after(self, connection: Connection, now: float) -> None:
        state = connection.feed.state
        if state in (StreamState.BLOCKED, StreamState.CLOSING):
            if connection.feed.replaced:  # or a client could have many sockets wait, in one place
                self._close(connection, StreamEnd.REPLACED)
                return
            # Linux tells of room only when a third of its buffer is free: much later than a slow client takes a byte.
            self._on_writable(connection)
            if connection.pending is not None and now - connection.progress_at > self._settings.stall_s:
                self._close(connection, StreamEnd.STALLED)
        elif state is not StreamState.ENDED and self._rounds.heartbeat_is_due(now - connection.progress_at):
            self._quiet.append(connection)
            self._news.set()

    def _send_heartbeats(self) -> None:
        """Send the heartbeats that are due: after a pass, when it is known for all how far they have come."""
        quiet, self._quiet = self._quiet, []
        for connection in quiet:
            self._guarded(self._send_heartbeat, connection)
            self._pace.sent(1)

    def _send_heartbeat(self, connection: Connection) -> None:
        if (connection.feed.state in (StreamState.LIVE, StreamState.CATCHING_UP)
                and self._rounds.is_quiet(clock() - connection.progress_at)):
            self._send(connection, connection.feed.heartbeat())
