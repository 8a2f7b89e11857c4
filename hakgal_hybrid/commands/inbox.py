"""Inbox: calls of one client that run one after the other, in threads that all clients share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..logs import get_logger

logger = get_logger(__name__)

#: How many calls may wait (and how many bytes, see ``max_bytes``) before the client is to be kept from sending more.
MAX_WAITING = 64


class Inbox:
    """Runs calls in the order in which they came, never two at once.

    :param submit: has a function called in a thread; false if it cannot.
    :param max_bytes: how many bytes may wait before it is full.
    :param may_run: returns false while no call is to begin; :meth:`resume` is called when that may have changed.
    :param pace: returns 0 if the next call may begin, else after how many seconds to ask again. It is not asked for
        calls that keep no bytes.
    :param later: has a function called after some seconds, in a thread that must not wait.
    :param lock: held for moments only; re-entrant, as a finalizer of the host's may end a session in here.
    :param on_idle: called, under the lock, when all was run.
    """

    __slots__ = ("_calls", "_later", "_lock", "_max_bytes", "_may_run", "_on_idle", "_on_room", "_pace", "_pausing",
                 "_running", "_size", "_submit")

    def __init__(self, submit: Callable[[Callable[[], object]], bool], max_bytes: int,
                 may_run: Callable[[], bool] = lambda: True, *, pace: Callable[[], float] = lambda: 0.0,
                 later: Callable[[float, Callable[[], object]], object] = lambda seconds, call: call(),
                 lock: AbstractContextManager[Any] | None = None, on_idle: Callable[[], object] = lambda: None) -> None:
        self._submit, self._max_bytes, self._may_run = submit, max_bytes, may_run
        self._pace, self._later, self._pausing = pace, later, False
        self._lock, self._on_idle = threading.RLock() if lock is None else lock, on_idle
        self._calls: deque[tuple[Callable[[], object], int]] = deque()
        self._size = 0
        self._running = False
        self._on_room: tuple[Callable[[], object], ...] = ()

    @property
    def full(self) -> bool:
        """True while nothing more is to be read from the client."""
        return len(self._calls) > MAX_WAITING or self._size > self._max_bytes

    @property
    def idle(self) -> bool:
        """True if nothing waits or is being carried out."""
        return not self._calls and not self._running

    def put(self, call: Callable[[], object], size: int = 0) -> bool:
        """Have a call run after all that came before it.

        :param call: the call. What it raises is logged.
        :param size: how many bytes it keeps.
        :return: false if no thread takes it: it runs with the next one that is put.
        """
        with self._lock:
            self._calls.append((call, size))
            self._size += size
            if self._running or self._pausing or not self._may_run():
                return True
            self._running = self._submit(self._run)
            return self._running

    def resume(self) -> None:
        """Go on, if calls may begin again."""
        with self._lock:
            if self._calls and not self._running and not self._pausing and self._may_run():
                self._running = self._submit(self._run)

    def when_room(self, call: Callable[[], object]) -> None:
        """Call a function as soon as this is not full: perhaps at once, else in the thread that makes room.

        :param call: the function.
        """
        with self._lock:
            if self.full:
                self._on_room += (call,)
                return
        call()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except Exception:
                logger.exception("a call for a client of Socket.IO raised")
            with self._lock:
                on_room: tuple[Callable[[], object], ...] = ()
                if len(self._calls) <= MAX_WAITING // 2 and self._size <= self._max_bytes // 2:  # not one by one
                    on_room, self._on_room = self._on_room, ()
            for has_room in on_room:
                has_room()

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            if not self._calls or not self._may_run():
                self._running = False
                if not self._calls:
                    self._on_idle()
                return None
            call, size = self._calls[0]
            if size and (wait := self._pace()):
                self._pausing, self._running = True, False
                self._later(wait, self._go_on)
                return None
            self._calls.popleft()
            self._size -= size
            return call

    def _go_on(self) -> None:
        self._pausing = False
        self.resume()
