"""Fanout: one loop that writes to every open stream without waiting for any.

A stream costs a socket, a :class:`~hakgal_hybrid.broker.stream.SubscriberStream` and a watcher; no thread and no
greenlet. Each pass sends everything new: first the steps of the :class:`~hakgal_hybrid.broker.live.LiveGroup` to the
live streams, then to the streams that are catching up, each by its own cursor. A stream whose socket is full keeps its
position in the log until the socket takes bytes again. A client that takes none for ``HYBRID_STALL_S`` is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ...broker.hub import Hub
from ...broker.live import Delivery, LiveGroup
from ...broker.states import StreamEnd, StreamState
from ...broker.stream import SubscriberStream
from ...logs import get_logger
from ...settings import Settings
from ..notifier import LoopNotifier
from .connection import Connection, why_lost
from .connections import Connections
from .heartbeats import Caretaker
from .intervals import Intervals
from .pacing import SECONDS_PER_TURN, Pace, Precedence, in_turns
from .replay_cache import ReplayCache
from .tls import Attached

logger = get_logger(__name__)

#: How many sends are made between two looks at the clock.
SENDS_PER_LOOK = 8
#: For how long (seconds) streams that are catching up are sent to at least, however soon the next event comes.
LEAST_S = 0.001

clock = time.monotonic


class Fanout:
    """The writer of all streams of one server. Everything but :meth:`wake` belongs to the loop's thread.

    :param hub: the hub.
    :param settings: the settings.
    :param on_end: called when a stream has ended, with the stream and the reason.
    :param stopping: true once every stream is to end with ``hybrid_bye``.
    :param attached: the streams that greenlets write; they are woken with the others.
    :ivar precedence: held while events are sent to the streams that are live, wanted as soon as there is one.
    :ivar passed: called after each pass with the number of the last event that every live stream has been given.
    """

    def __init__(self, hub: Hub, settings: Settings, on_end: Callable[[SubscriberStream, StreamEnd], None],
                 stopping: Callable[[], bool], attached: Attached) -> None:
        self._hub, self._stopping, self._attached = hub, stopping, attached
        loop = gevent.get_hub().loop
        self._notifier, self._news = LoopNotifier(loop, self._on_notified), Event()
        self._live = LiveGroup(hub, settings.max_backlog_s)
        self._intervals = Intervals(loop, hub.log, self._news.set)
        self._connections = Connections(loop, settings, self._live, self._intervals, on_end, self._news.set)
        self._replays, self._pace = ReplayCache(), Pace(loop)
        self._caretaker = Caretaker(self._connections, settings, self._pace, self._news.set)
        self._ending, self.precedence = False, Precedence()
        self._greenlets: list[Any] = []
        self._remove_waker: Callable[[], None] = lambda: None
        self.passed: Callable[[int], None] = lambda newest: None

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the writer's greenlets."""
        self._remove_waker = self._hub.broker.add_waker(self.wake)
        self._greenlets = [gevent.spawn(self._write_for_ever), gevent.spawn(self._caretaker.run, self._replays.clear)]

    def wake(self) -> None:
        """Have the writer make a pass soon. Any thread may call it; it never waits."""
        self.precedence.want()
        self._notifier.notify()

    def farewell(self, seconds: float) -> None:
        """Send every stream the rest and ``hybrid_bye``, and close them when their clients have had time to read it.

        :param seconds: how long that may take; the rest is cut off.
        """
        self._remove_waker()
        deadline = clock() + seconds
        self._ending = True
        self._news.set()
        gevent.joinall(self._greenlets[:1], timeout=max(seconds, 1.0))  # so that a pass can end
        if self._greenlets[0].dead:
            self._finish_all()
        gevent.killall(self._greenlets)
        self._on_notified()
        while clock() < deadline and (self._connections or len(self._attached)):
            gevent.sleep(0.005)
        self.close()

    def close(self) -> None:
        """Close every stream at once."""
        self._connections.close_all(StreamEnd.STOPPED)
        self._intervals.close()
        self._notifier.close()

    def __len__(self) -> int:
        return len(self._connections)

    def statistics(self) -> dict[str, int]:
        """Return how many detached streams are open, and how many of them wait for their socket."""
        return {"streams": len(self), "blocked": len(self.clogged())}

    def forked(self) -> list[int]:
        """Put back, in a child, what open streams change in a process.

        :return: the descriptors of the sockets.
        """
        return self._connections.forked()

    def clogged(self) -> list[SubscriberStream]:
        """Return the streams whose socket has bytes pending. Any thread may call it."""
        return [item.stream for item in self._connections.all() if item.pending is not None]

    def adopt(self, fileno: int, stream: SubscriberStream, head: bytes) -> None:
        """Take over a detached socket, and write its stream until the client or the server is gone.

        :param fileno: the socket's descriptor.
        :param stream: the stream.
        :param head: what is written before it.
        """
        self._connections.adopt(fileno, stream, head, between_steps=not self.precedence.held)
        if self._ending:  # the others have got their farewell
            self._finish_all()

    # -- writing ---------------------------------------------------------------------------------------------

    def _on_notified(self) -> None:
        self._intervals.notified()
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
        """Send everything new to every stream whose socket is not full, letting the loop poll now and then."""
        self._pace.begin()
        with self.precedence:
            newest, again = self._hub.log.newest, True
            while again:  # once at least: streams may have to leave
                self._step()
                again = self._live.position < newest
        self._connections.catching_up.update(dict.fromkeys(self._intervals.begin_batches()))
        self._bring_up()
        self._caretaker.send_heartbeats()
        if self._live.position < self._hub.log.newest:
            self._news.set()

    def _step(self) -> None:
        try:
            step = self._live.step()
        except Exception:
            logger.exception("a step of the live streams failed; each goes on alone")
            step = self._live.scatter()
        self._connections.catching_up.update(dict.fromkeys(step.to_catch_up))
        for delivery, members in in_turns(step.deliveries):
            self._deliver(delivery, members, step.upto)
        self._live.arrive(step)
        self._pace.sent(0)  # it may have gone through much that is for nobody

    def _deliver(self, delivery: Delivery, members: list[Any], upto: int) -> None:
        """Send many members the same bytes. This is the hot loop: nearly all of its time is spent in ``send``."""
        data, size, now, failed = delivery.data, len(delivery.data), clock(), 0
        for start in range(0, len(members), SENDS_PER_LOOK):
            some: list[Connection] = members[start:start + SENDS_PER_LOOK]
            for connection in some:
                try:
                    taken = connection.send(data)
                except (BlockingIOError, InterruptedError):
                    taken = 0
                except OSError as error:
                    failed += 1
                    # Perhaps it is closed already: the loop has polled since the step was planned.
                    self._connections.close(connection, why_lost(error))
                    continue
                connection.progress_at = now
                if taken != size:
                    connection.pending = memoryview(data)[taken:]
                    self._connections.block(connection, upto)
            self._pace.sent(len(some))
        sent = len(members) - failed
        self._hub.deliveries.delivered(sent * delivery.delivered, sent * size)
        if delivery.conflated:
            self._hub.log.note(conflated=sent * delivery.conflated)

    def _bring_up(self) -> None:
        """Send to the streams that are catching up, for one turn at most, so that the live ones need not wait."""
        began = clock()
        for connection in list(self._connections.catching_up):
            self._connections.catching_up.pop(connection, None)
            self._connections.guarded(self._catch_up, connection)
            self._pace.sent(1)
            if clock() - began > (SECONDS_PER_TURN if self._live.position == self._hub.log.newest else LEAST_S):
                self._news.set()  # the others are first in the next pass
                return
        self._replays.trim()

    def _catch_up(self, connection: Connection) -> None:
        """Send to one stream that is catching up; if it has caught up, it joins the live group."""
        stream = connection.stream
        if stream.state is not StreamState.CATCHING_UP:
            return
        if stream.finished is not None:
            self._connections.finish(connection, b"", stream.finished)
            return
        group = self._intervals.group_of(stream)
        if group is None or stream.position < stream.replay_until:  # a replay comes at once
            shared, upto = self._replays.at(self._live.position), self._live.position
        else:
            shared, upto = group.shared, group.batches.upto
        self._connections.send(connection, stream.take(shared, upto))
        if stream.state is not StreamState.CATCHING_UP:
            return
        if self._live.join(connection) if group is None else group.rest(connection, upto):
            return
        self._connections.catching_up[connection] = None
        if stream.position < upto or stream.finished is not None:
            self._news.set()  # it took all it was given, and there is more to do

    def _finish_all(self) -> None:
        for connection in self._connections.all():
            self._connections.guarded(self._connections.finish, connection, connection.stream.bye(), StreamEnd.STOPPED)
