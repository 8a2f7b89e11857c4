"""What a child that the host forks must not have of a server: its signal handlers and its sockets.

gevent sets its signal handlers behind Python's back. In a child no loop looks at what they note, so that no signal
would end it. And a connection is at its end for its client when every process that has it has closed it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable


class _Inheritance:
    """What a child inherits of the servers that run in this process.

    A signal that comes between the fork and the time at which the child has its own handlers would be lost. So the
    thread that forks blocks these signals meanwhile; in this process, other threads get them.
    """

    def __init__(self) -> None:
        self._servers: dict[object, tuple[Iterable[int], Callable[[], Iterable[int]]]] = {}
        self._masks = threading.local()

    def add(self, numbers: Iterable[int], forked: Callable[[], Iterable[int]]) -> Callable[[], None]:
        """Note a server that begins to run.

        :param numbers: the signals that it handles.
        :param forked: called in each child; returns the descriptors of the server's sockets.
        :return: a function that says that the server has ended.
        """
        key = object()
        self._servers[key] = tuple(numbers), forked

        def remove() -> None:
            self._servers.pop(key, None)

        return remove

    def _numbers(self) -> set[int]:
        return {number for numbers, _ in self._servers.values() for number in numbers}

    def before(self) -> None:
        """Block the signals in the thread that forks."""
        if sys.platform != "win32" and self._servers:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers())

    def in_parent(self) -> None:
        """Unblock them."""
        mask = self._masks.__dict__.pop("before", None)
        if sys.platform != "win32" and mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def in_child(self) -> None:
        """Put an empty file in the place of each socket, set the handlers that Python knows of, unblock the signals."""
        servers, numbers = list(self._servers.values()), self._numbers()
        self._servers.clear()
        try:
            for _, forked in servers:
                _empty(forked())
            for number in numbers:
                handler = signal.getsignal(number)
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        finally:
            self.in_parent()


def _empty(filenos: Iterable[int]) -> None:
    """Have descriptors lead nowhere. To close them would free their numbers, which objects still take for theirs."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for fileno in filenos:
            if fileno >= 0:
                with contextlib.suppress(OSError):  # the child has not as many as it would need
                    os.dup2(nowhere, fileno, inheritable=False)
    finally:
        os.close(nowhere)


_inheritance = _Inheritance()
#: Notes a server that begins to run; see :meth:`_Inheritance.add`.
inherit_nothing = _inheritance.add
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_inheritance.before, after_in_parent=_inheritance.in_parent,
                        after_in_child=_inheritance.in_child)
