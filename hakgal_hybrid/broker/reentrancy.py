"""Reentrancy: a thread that is interrupted while it publishes puts off what the interruption publishes.

A signal handler or a finalizer runs in the thread that it interrupts, between two of its steps. If it emits while that
thread appends to the log, it can neither wait for the lock (its own thread holds it) nor append (the log is in between
two states). So a thread is marked while it uses the log, and what it is asked to publish meanwhile waits in a queue
of its own until the mark is taken away.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..logs import get_logger

logger = get_logger(__name__)


_NOTHING: deque[Callable[[], object]] = deque()


class _Thread(threading.local):
    """What is noted for each thread. There are defaults, because a finalizer may interrupt ``__init__`` as well."""

    marked = False
    draining = False
    deferred = _NOTHING

    def __init__(self) -> None:
        self.deferred = deque()


class Reentrancy:
    """Marks the threads that use a log, and keeps what they are asked to publish meanwhile."""

    def __init__(self) -> None:
        self._thread = _Thread()

    @property
    def marked(self) -> bool:
        """True if the calling thread is marked: it runs a handler or finalizer that has interrupted its use."""
        return self._thread.marked

    def defer(self, call: Callable[[], object]) -> None:
        """Have a function called in this thread as soon as its mark is taken away.

        :param call: the function; an exception that it raises is logged.
        """
        self._thread.deferred.append(call)

    @contextmanager
    def mark(self) -> Iterator[None]:
        """Mark the calling thread for a block; at its end, make the calls that were deferred. Blocks may be nested."""
        if self._thread.marked:
            yield
            return
        try:
            self.begin()
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """Mark the calling thread, which is not marked. An emit does without the context manager, for speed."""
        self._thread.marked = True

    def end(self) -> None:
        """Take the mark away, and make the calls that were deferred."""
        thread = self._thread
        thread.marked = False
        # Looked at after the mark has gone: an interruption from here on publishes at once.
        if thread.deferred:
            self._drain(thread)

    def _drain(self, thread: _Thread) -> None:
        """Make the deferred calls in their order. Each of them marks the thread again, and ends in here."""
        while thread.deferred and not thread.draining:
            try:
                thread.draining = True
                while thread.deferred:
                    call = thread.deferred.popleft()
                    try:
                        call()
                    except Exception:
                        logger.exception("an event of a signal handler or finalizer cannot be published")
            finally:
                thread.draining = False
