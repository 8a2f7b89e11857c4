"""What the environment decides: the vintage, the broadcaster, where the database lies."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

DEFAULT_DB = Path(__file__).resolve().parents[2] / "data" / "hexagonal_kb.db"
DEFAULT_PORT = 5001


def _choice(name: str, default: str, accepted: tuple[str, ...]) -> str:
    value = os.environ.get(name, "").strip().lower() or default
    if value not in accepted:
        raise ValueError(f"{name}={value!r}: accepted are {', '.join(accepted)}")
    return value


def vintage() -> str:
    """The vintage of the host: ``"later"`` (default) or ``"early"``."""
    return _choice("LEGACY_VINTAGE", "later", ("later", "early"))


def is_later() -> bool:
    """Whether this host has what the later vintage added: eventlet, system monitor, agents."""
    return vintage() == "later"


def broadcaster() -> str:
    """What carries the events: ``"socketio"`` (Flask-SocketIO, default) or ``"blocking"``."""
    return _choice("LEGACY_BROADCASTER", "socketio", ("socketio", "blocking"))


def database_path() -> Path:
    """Where the facts live; ``HAKGAL_DB`` overrides the example's own data folder."""
    return Path(os.environ.get("HAKGAL_DB") or DEFAULT_DB)


def port() -> int:
    """The port that ``/health`` names until ``run`` is told another one."""
    return int(os.environ.get("HAKGAL_PORT") or DEFAULT_PORT)


def api_key() -> str:
    """The key that commands need; empty means that none is asked for."""
    return os.environ.get("HAKGAL_API_KEY", "")


def patch_eventlet() -> bool:
    """Monkey-patch the process as the later vintage does; tell whether that happened.

    :return: ``False`` in the early vintage, and where eventlet cannot be imported.
    """
    if not is_later():
        return False
    try:
        import eventlet
    except ImportError as error:
        log.warning("eventlet is not available (%s): carrying on with threads", error)
        return False
    eventlet.monkey_patch()
    return True
