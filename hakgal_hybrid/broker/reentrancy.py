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

from ..errors import ForkedProcess
from ..logs import get_logger

logger = get_logger(__name__)


_NOTHING: deque[Callable[[], object]] = deque()


class ThreadMark(threading.local):
    """What is noted for each thread. There are defaults, because a finalizer may interrupt ``__init__`` as well.

    :ivar marked: true while the thread uses the log. It is asked by code that may have interrupted that use.
    :ivar draining: true while the deferred calls are made.
    :ivar deferred: what is called as soon as the mark is taken away.
    """

    marked = False
    draining = False
    deferred = _NOTHING

    def __init__(self) -> None:
        self.deferred = deque()


class ForkedMark(ThreadMark):
    """The mark of every thread of a child that was forked: code that looks at it learns that the log is not here."""

    @property
    def marked(self) -> bool:  # type: ignore[override]
        """Raise.

        :raises ForkedProcess: always.
        """
        raise ForkedProcess("this process was forked from the one that serves the clients, so that nobody would get "
                            "what it emits; have that one emit, by what a Pool returns or by a multiprocessing.Queue; "
                            "or, if HYBRID_BACKPLANE is set, emit by a hakgal_hybrid.Emitter")


class Reentrancy:
    """Marks the threads that use a log, and keeps what they are asked to publish meanwhile.

    :ivar thread: the mark of the calling thread.
    :ivar lock: held by the one thread that changes the log.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin without a mark and with a free lock: in a child, the threads that had them are gone.

        (The log makes good an append that was broken off.)
        """
        self.thread = ThreadMark()
        self.lock = threading.RLock()  # for signal handlers

    def defer(self, call: Callable[[], object]) -> None:
        """Have a function called in this thread as soon as its mark is taken away.

        :param call: the function; an exception that it raises is logged.
        """
        self.thread.deferred.append(call)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Mark the calling thread, and have no other one change the log, for a block. Blocks may be nested.

        At the end of the outermost block, the calls are made that were deferred.
        """
        thread = self.thread
        if thread.marked:
            with self.lock:
                yield
            return
        try:
            thread.marked = True
            with self.lock:
                yield
        finally:
            thread.marked = False  # not by a call: a handler that raises could come between
            if thread.deferred:
                self.drain()

    def forbid(self) -> None:
        """Have every use of the log raise :class:`.ForkedProcess` from now on, before it waits for a lock."""
        self.thread = ForkedMark()

    def drain(self) -> None:
        """Make the calls that were deferred, in their order; to be called when the mark has been taken away.

        (An interruption after that publishes at once, so that the look at what was deferred misses none.)
        """
        # Each call marks the thread again, and ends in here.
        thread = self.thread
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
