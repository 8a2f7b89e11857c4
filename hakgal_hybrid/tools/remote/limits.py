"""Limits of this process, and the time a text stands for."""

from __future__ import annotations

import contextlib
import selectors
import sys
from datetime import datetime
from typing import Any

from ...errors import ConfigurationError


def time_of(value: Any) -> float | None:
    """Return a time stamp as milliseconds since 1970: of seconds, milli-, micro- or nanoseconds, or ISO 8601.

    :param value: a value of an event.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() * 1000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    for low, to_ms in ((1e8, 1e3), (1e11, 1), (1e14, 1e-3), (1e17, 1e-6)):
        if low <= value < low * 1e3:
            return value * to_ms
    return None


def allow_files(wanted: int) -> None:
    """Raise this process's limit of open files where it is too low.

    :param wanted: how many are needed.
    :raises ConfigurationError: if the system does not let us.
    """
    if sys.platform == "win32":  # counts sockets for one select() instead
        if isinstance(selectors.DefaultSelector(), selectors.SelectSelector) and wanted > 512:
            raise ConfigurationError(f"{wanted} connections are too many for one process here; use at most 440, or "
                                     "several of these side by side")
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise ConfigurationError(f"{wanted} open files are needed, and the system allows {hard}; raise it with "
                                     "ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
