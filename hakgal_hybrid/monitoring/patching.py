"""Whether eventlet or gevent has monkey-patched this process."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import ConfigurationError
from ..settings import Profile, current_profile


def patched() -> dict[str, bool]:
    """Tell whether eventlet or gevent has patched the standard library in this process; imports neither."""
    eventlet: Any = sys.modules.get("eventlet.patcher")
    gevent: Any = sys.modules.get("gevent.monkey")
    parts = ("socket", "thread", "threading", "time", "select", "os")
    return {"eventlet": eventlet is not None and any(map(eventlet.is_monkey_patched, parts)),
            "gevent": gevent is not None and any(map(gevent.is_module_patched, parts))}


def eventlet_patched(*parts: str) -> bool:
    """Return whether eventlet has monkey-patched one of these parts of the process, by default any that matters."""
    patcher = sys.modules.get("eventlet.patcher")
    parts = parts or ("thread", "socket", "select")
    return patcher is not None and any(patcher.is_monkey_patched(part) for part in parts)


def gevent_patched() -> bool:
    """Return whether gevent has monkey-patched the threads of this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def refuse_patched_process() -> None:
    """Check that eventlet has not patched this process: gevent, which our own server is, would wait for ever beside it.

    :raises ConfigurationError: with the remedy, if it has.
    """
    if not eventlet_patched():
        return
    remedy = ("start the host with 'hakgal-hybrid exec' or 'hakgal-hybrid run', or call hakgal_hybrid.prepare() before "
              "the host is imported")
    if current_profile() is Profile.DUAL:
        remedy = "serve the app by the run of its own SocketIO, or start it with APP_PROFILE=HYBRID"
    raise ConfigurationError(
        f"eventlet has monkey-patched this process, and gevent cannot run beside it; {remedy}",
        code="eventlet_patched")
