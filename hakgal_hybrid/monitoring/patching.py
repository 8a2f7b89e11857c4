"""Whether eventlet or gevent has monkey-patched this process. Neither is imported for the answer."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import ConfigurationError

#: The parts of the standard library for which both libraries have replacements.
PARTS = ("os", "select", "socket", "ssl", "subprocess", "threading", "thread", "time", "queue")


def replaced_parts() -> dict[str, list[str]]:
    """Return which library has replaced which part of the standard library.

    :return: for each of :data:`PARTS` a list of none, one or both of ``eventlet`` and ``gevent``.
    """
    eventlet: Any = sys.modules.get("eventlet.patcher")
    gevent: Any = sys.modules.get("gevent.monkey")
    by: dict[str, list[str]] = {}
    for part in PARTS:
        # What eventlet calls "thread" replaces what is in threading as well.
        names = ("threading", "thread") if part == "threading" else (part,)
        found = [("eventlet", eventlet is not None and any(map(eventlet.is_monkey_patched, names))),
                 ("gevent", gevent is not None and gevent.is_module_patched(part))]
        by[part] = [library for library, has in found if has]
    return by


def patched() -> dict[str, bool]:
    """Return whether ``eventlet`` and ``gevent``, each by its name, have replaced anything in this process."""
    replaced = [library for libraries in replaced_parts().values() for library in libraries]
    return {"eventlet": "eventlet" in replaced, "gevent": "gevent" in replaced}


def eventlet_patched(*parts: str) -> bool:
    """Return whether eventlet has replaced any of some parts of the standard library.

    :param parts: names out of :data:`PARTS`; by default those by which it takes over a process.
    """
    replaced = replaced_parts()
    return any("eventlet" in replaced[part] for part in parts or ("thread", "socket", "select"))


def gevent_patched() -> bool:
    """Return whether gevent has replaced the threads of this process."""
    return "gevent" in replaced_parts()["threading"]


def refuse_patched_process() -> None:
    """Check that eventlet has not patched this process: gevent, which our own server uses, would wait forever in it.

    :raises ConfigurationError: with the remedy, if it has.
    """
    if not eventlet_patched():
        return
    remedy = ("start the host with 'hakgal-hybrid exec' or 'hakgal-hybrid run', or call hakgal_hybrid.prepare() before "
              "the host is imported")
    raise ConfigurationError(
        f"eventlet has monkey-patched this process, and gevent cannot run beside it; {remedy}",
        code="eventlet_patched")


def refuse_patched_threads() -> None:
    """Check that this process has native threads: our own server runs the app in them.

    :raises ConfigurationError: with the remedy, if eventlet or gevent has patched it.
    """
    refuse_patched_process()
    if gevent_patched():
        raise ConfigurationError(
            "gevent has monkey-patched the threads of this process, and this server runs the app in native ones; start "
            "the app with 'hakgal-hybrid exec', leave the patch out, or serve it by gunicorn --worker-class gevent",
            code="gevent_patched")
