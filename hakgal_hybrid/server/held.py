"""HeldAnswers: answers that are not there yet. Each waits in the greenlet of its connection, which takes no thread.

Polls that have everything are answered as WebSockets are written: what is new is read and encoded once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import Event

from ..broker.engineio.held import Answer, HeldAnswer, HeldPoll
from ..broker.engineio.packets import MAX_PACKETS, Framing, count_packets
from ..broker.engineio.session import EngineSession
from ..broker.hub import Hub
from .broadcast import Broadcast
from .notifier import EventNotifier, LoopNotifier
from .reader import RequestReader

_READ = 1


class WaitingPoll:
    """A poll that waits.

    :param poll: the poll.
    :param woken: what its greenlet waits for.
    :ivar stream: what its events are read by, while it shares them.
    """

    __slots__ = ("poll", "stream", "woken")

    def __init__(self, poll: HeldPoll, woken: Event) -> None:
        self.poll, self.woken = poll, woken
        self.stream: Any = None

    @property
    def source(self) -> EngineSession:
        """Whose poll it is."""
        return self.poll.session


class HeldAnswers:
    """All answers that wait. For the loop's thread.

    :param loop: the loop.
    :param hub: where events come from.
    :param max_backlog_s: how old an event may be that is still given, in seconds.
    :param notifier: wakes one of them.
    """

    def __init__(self, loop: Any, hub: Hub, max_backlog_s: float, notifier: EventNotifier) -> None:
        self._loop, self._hub, self._events = loop, hub, notifier
        self._broadcast = Broadcast(hub, max_backlog_s, Framing.POLLING)
        self._news = LoopNotifier(loop, self._look)
        self._remove_waker: Callable[[], None] | None = None
        self._waiting = 0
        #: The polls that are woken by every event, because something else than events may come first.
        self._alone: set[Event] = set()

    def __len__(self) -> int:
        return self._waiting

    def await_answer(self, held: HeldAnswer, fileno: int, reader: RequestReader) -> Answer | None:
        """Wait for an answer, in the calling greenlet.

        :param held: the answer.
        :param fileno: the descriptor of its connection's socket.
        :param reader: what requests of that connection are read by.
        :return: the answer; ``None`` if the client has gone, which is noted.
        """
        woken = Event()
        held.on_wake = lambda: self._events.set(woken)
        watcher = self._loop.io(fileno, _READ)
        self._begin()
        waiting = WaitingPoll(held, woken) if isinstance(held, HeldPoll) else None
        answer = None
        try:
            watcher.start(woken.set)
            while (answer := held.take()) is None:
                self._wait(waiting, woken, held.wait_s)
                if reader.look_ahead():
                    break
                if reader.ahead:  # its next request, which waits for this answer
                    watcher.stop()
        except OSError:
            pass
        finally:
            watcher.stop()
            watcher.close()
            self._end()
            if answer is None:
                held.abandon()
        return answer

    def _begin(self) -> None:
        self._waiting += 1
        if self._remove_waker is None:
            self._remove_waker = self._hub.broker.add_waker(self._news.notify)

    def _end(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._remove_waker is not None:
            self._remove_waker()
            self._remove_waker = None

    def _wait(self, waiting: WaitingPoll | None, woken: Event, seconds: float | None) -> None:
        """Wait until the answer is to be asked for."""
        if waiting is None or not self._join(waiting):
            self._alone.add(woken)
        try:
            if seconds is None:
                woken.wait()
            else:
                woken.wait(seconds)
        finally:
            self._alone.discard(woken)
            if waiting is not None:
                self._broadcast.leave(waiting)
            woken.clear()

    def _join(self, waiting: WaitingPoll) -> bool:
        """Have a poll get what all get, if it has everything. No step is under way: a step never lets the loop poll."""
        self._broadcast.catch_up()
        return self._broadcast.join(waiting)

    def _look(self) -> None:
        for woken in self._alone:
            woken.set()
        for delivery, upto in self._broadcast.deliveries():
            fits = bool(delivery.data) and count_packets(delivery.data) <= MAX_PACKETS
            for waiting in delivery.members:
                if fits and waiting.poll.give(delivery.data):
                    self._broadcast.leave(waiting, upto)
                elif delivery.data:
                    self._broadcast.refused(waiting, delivery)
                waiting.woken.set()

    def close(self) -> None:
        """Wake none any more."""
        self._news.close()
