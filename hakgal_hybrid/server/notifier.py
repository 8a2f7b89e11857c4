"""How native threads wake the loop: by its async watcher, the only thing of it that another thread may touch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from .timeout import Limit


class LoopNotifier:
    """Has a function called on the loop's thread.

    :param loop: the loop.
    :param call: the function; called once for all notifications that have come since it was called last.
    """

    def __init__(self, loop: Any, call: Callable[[], None]) -> None:
        self._watcher = loop.async_()
        self._watcher.start(call)

    def notify(self) -> None:
        """Have the function called soon. May be called from any thread; never waits."""
        self._watcher.send()

    def close(self) -> None:
        """Have it called no more. For the loop's thread."""
        self._watcher.stop()


class EventNotifier:
    """Sets events that greenlets wait for, from native threads.

    :param loop: the loop of the greenlets.
    :ivar delivered: called on the loop's thread after events were set.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._ready: deque[Event] = deque()
        self._notifier = LoopNotifier(loop, self.deliver)
        self.delivered: Callable[[], object] = lambda: None

    def set(self, event: Event, *, later: bool = False) -> None:
        """Set an event on the loop's thread. May be called from any thread.

        :param event: the event.
        :param later: true to do so at the next :meth:`notify`.
        """
        self._ready.append(event)
        if not later:
            self._notifier.notify()

    def notify(self) -> None:
        """Set the events that were to be set later. May be called from any thread."""
        if self._ready:
            self._notifier.notify()

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for an event, in the calling greenlet.

        :param event: the event.
        :param seconds: for how long at most.
        :return: false if it does not come in time.
        """
        try:
            with Limit(self._loop, seconds):
                event.wait()
        except gevent.Timeout:
            return False
        return True

    def deliver(self) -> None:
        """Set all events. For the loop's thread."""
        while self._ready:
            self._ready.popleft().set()
        self.delivered()

    def close(self) -> None:
        """Set no more events."""
        self._notifier.close()
