"""Broker: publishes events. It appends them to the log and wakes whatever writes them to clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .entry import Entry
from .event import Event
from .log import EventLog

#: How long the ``sid`` of a client is, after the name of its process.
SID_LENGTH = 20


class Broker:
    """Publishes to one log. Every method may be called from any thread, a signal handler or a finalizer.

    :param log: where events are kept.
    :param on_published: called with an event and its number, in the emitter's thread, when it is in the log and the
        wakers were called. It may publish.
    """

    #: The name of this process, if there is a backplane.
    process = ""

    def __init__(self, log: EventLog, on_published: Callable[[Event, int], object] = lambda event, seq: None) -> None:
        self.log = log
        self._on_published = on_published
        # Without a lock: a finalizer may remove a waker while its own thread is in here. Each change is atomic.
        self._wakers: dict[object, Callable[[], object]] = {}

    def publish(self, event: Event, prepare: Callable[[Entry], object] | None = None) -> Entry | None:
        """Append an event to the log, then wake the writers. Waits for no client.

        :param event: the event.
        :param prepare: called with the entry before any reader can see it.
        :return: the entry; ``None`` in a signal handler or finalizer that has interrupted this thread's own use of the
            log. The event is then published in this thread as soon as that use has ended.
        :raises EventError: if the encoded event is too large.
        """
        reentrancy = self.log.reentrancy
        thread = reentrancy.thread
        if thread.marked:
            reentrancy.defer(partial(self.publish, event, prepare))
            return None
        try:  # as :meth:`.Reentrancy.held` does, which would take a third of the time that an emit takes
            thread.marked = True
            entry = self.log.append(event, prepare)
            self.wake()
        finally:
            thread.marked = False
            if thread.deferred:
                reentrancy.drain()
        # After the append, so that a receiver that publishes cannot reorder ids.
        self._on_published(event, entry.seq)
        return entry

    def ready(self) -> int:
        """Wait, for a bounded time, until it is known which events are new. Without a backplane that is known.

        :return: the number of the newest event, which is not new.
        :raises Overloaded: if it is still being read which those are.
        """
        return self.log.newest

    def wait_for(self, event_id: str) -> None:
        """Wait, for a bounded time, until an event has come that a client has seen; without a backplane never.

        :param event_id: its id, as its client says.
        :raises Overloaded: if too many wait already, or the process has not begun.
        """

    def in_place(self, change: Callable[[int], object]) -> None:
        """Carry out a change between what was emitted before and what will be. To be called under ``EventLog.held``.

        :param change: called with the number of the newest event before it, under ``EventLog.held``: with a backplane
            later, if something that was emitted here has not come into the log yet; else at once.
        """
        change(self.log.newest)

    def settled(self) -> int:
        """Return the number of the newest event, once what was emitted here before is in the log.

        :return: the number. With a backplane this waits for its answer, for a moment at most.
        """
        return self.log.newest

    def elsewhere(self, action: str, /, **data: Any) -> bool:
        """Have other processes do something, at its place among what this one emits; without a backplane nobody.

        :param action: what.
        :param data: with what; JSON values.
        :return: true if there is a backplane. This process is then asked for it as well.
        """
        return False

    def wake(self) -> None:
        """Have every writer and waiting stream look at the log again."""
        for waker in tuple(self._wakers.values()):
            waker()

    def add_waker(self, waker: Callable[[], object]) -> Callable[[], None]:
        """Register a function that is called after every event.

        :param waker: the function. It is called in the emitter's thread, and must not wait for anything.
        :return: a function that unregisters it.
        """
        key = object()
        self._wakers[key] = waker

        def remove() -> None:
            self._wakers.pop(key, None)

        return remove


def process_of(sid: object) -> str:
    """Return the name of the process that has a client; empty where no backplane names processes.

    :param sid: the client's ``sid``, as somebody has sent it.
    """
    return sid[:-SID_LENGTH] if isinstance(sid, str) else ""
