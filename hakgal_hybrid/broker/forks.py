"""What happens to the parts of a transport in a child that this process forks.

A child has one thread: the one that forked. The other threads are gone, and the locks that they held stay locked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """A part that has threads, locks or files which a child must not use."""

    def forked(self) -> None:
        """Be called in a child, before anything else runs there. It must not wait for anything."""


_parts: WeakSet[ForkAware] = WeakSet()


def fork_aware(part: ForkAware) -> None:
    """Have the ``forked`` method of an object called in each child that is forked.

    :param part: the object. It is not kept alive.
    """
    _parts.add(part)


def call_in_child(call: Callable[[], object]) -> None:
    """Have a function called in each child that is forked, if this system forks.

    :param call: the function.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def _in_child() -> None:
    for part in list(_parts):
        part.forked()


call_in_child(_in_child)
