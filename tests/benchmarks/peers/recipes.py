"""The two recipes that are found everywhere: a queue a client, in greenlets or in threads."""

from __future__ import annotations

from ..system import versions
from . import Peer, python_app


def _check_gevent() -> dict[str, str]:
    return versions("flask", "gevent")


def _check_threads() -> dict[str, str]:
    return versions("flask", "werkzeug")


GEVENT = Peer("gevent-recipe", "gevent + Flask, a queue a client", _check_gevent, python_app("recipe_gevent"))
THREADS = Peer("threads-recipe", "Werkzeug threads, a queue a client", _check_threads, python_app("recipe_threads"),
               slow=True, most=(1000, "each client holds a thread"))
