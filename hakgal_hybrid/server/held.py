"""HeldAnswers: answers that are not there yet. Each waits in the greenlet of its connection, which takes no thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import Event

from ..broker.broker import Broker
from ..broker.engineio.held import Answer, HeldAnswer
from .notifier import EventNotifier, LoopNotifier
from .reader import RequestReader

_READ = 1


class HeldAnswers:
    """All answers that wait. For the loop's thread.

    :param loop: the loop.
    :param broker: wakes them when there are events.
    :param notifier: wakes one of them.
    """

    def __init__(self, loop: Any, broker: Broker, notifier: EventNotifier) -> None:
        self._loop, self._broker, self._events = loop, broker, notifier
        self._news = LoopNotifier(loop, self._wake_all)
        self._remove_waker: Callable[[], None] | None = None
        self._waiting: set[Event] = set()

    def __len__(self) -> int:
        return len(self._waiting)

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
        if self._remove_waker is None:
            self._remove_waker = self._broker.add_waker(self._news.notify)
        self._waiting.add(woken)
        answer = None
        try:
            watcher.start(woken.set)
            while (answer := held.take()) is None:
                self._wait(woken, held.wait_s)
                if reader.look_ahead():
                    break
                if reader.ahead:  # its next request, which waits for this answer
                    watcher.stop()
        except OSError:
            pass
        finally:
            watcher.stop()
            watcher.close()
            self._waiting.discard(woken)
            if not self._waiting and self._remove_waker is not None:
                self._remove_waker()
                self._remove_waker = None
            if answer is None:
                held.abandon()
        return answer

    def _wait(self, woken: Event, seconds: float | None) -> None:
        if seconds is None:
            woken.wait()
        else:
            woken.wait(seconds)
        woken.clear()

    def _wake_all(self) -> None:
        for woken in self._waiting:
            woken.set()

    def close(self) -> None:
        """Wake none any more."""
        self._news.close()
