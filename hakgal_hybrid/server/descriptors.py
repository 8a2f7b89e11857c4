"""Descriptors: room for those of many clients, made before they come."""

from __future__ import annotations

import os
import sys

if sys.platform != "win32":
    import fcntl
    import resource


def make_room(descriptors: int) -> None:
    """Have the system make room for so many descriptors of this process, or for as many as it may have.

    Linux enlarges the table of a process when it is full, to twice its size. In a process with threads, that takes 5 to
    20 ms on a busy machine: an ``accept`` does not return meanwhile, and all streams wait for it. The table does not
    shrink again. It takes 8 bytes a descriptor.

    :param descriptors: how many.
    """
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY:
            descriptors = min(descriptors, limit)
        try:
            with open(os.devnull, "rb") as file:
                os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, descriptors - 1))
        except OSError:  # then the table grows when it has to
            pass
