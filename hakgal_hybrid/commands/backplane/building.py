"""Builds the broker of several processes, if ``HYBRID_BACKPLANE`` is set."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from ...broker.backplane.shared_log import SharedLog
from ...broker.shared_broker import Connect, SharedLimits
from ...errors import ConfigurationError
from ...settings import Profile, Settings
from ...settings.backplane_url import NAMES, backplane_name, without_secret
from ...settings.values import Refused

#: The client of Redis that works, as pip has it; and the extra of this package that brings it.
NEEDED = "redis>=7.4,!=8.0.*"
EXTRA = "pip install 'hakgal_hybrid[redis]'"


def uses_backplane(settings: Settings) -> bool:
    """True if the log is one that several processes have.

    :param settings: the settings.
    """
    return settings.backplane is not None and settings.profile is not Profile.WEBSOCKET


def limits_of(settings: Settings) -> SharedLimits:
    """Return the bounds of the shared broker.

    :param settings: the settings.
    """
    return SharedLimits(settings.log_events, settings.outbox_events, settings.outbox_bytes, settings.max_event_bytes,
                        settings.flush_s)


def log_name(settings: Settings, app: str) -> str:
    """Return the name of the log.

    :param settings: the settings.
    :param app: the name of the app, which counts where the settings give none.
    :return: the name.
    :raises ConfigurationError: if the app has a name that cannot be that of a log.
    """
    try:
        return settings.backplane_name or str(backplane_name(app))
    except Refused:
        raise ConfigurationError(
            f"HYBRID_BACKPLANE_NAME is not set, and the name of the app, {app!r}, cannot be that of a log; set it to "
            f"{NAMES}", variable="HYBRID_BACKPLANE_NAME", accepted=NAMES) from None


def connect_to(url: str, name: str, app: str, max_events: int) -> Connect:
    """Return what connects to the log in Redis.

    :param url: where Redis is.
    :param name: the name of the log.
    :param app: which application it is; empty for an emitter.
    :param max_events: how many entries the log keeps, about.
    :return: see :data:`.Connect`.
    :raises ConfigurationError: if the client of Redis is missing, or one that does not work.
    """
    _check_client(url)
    from .connecting import connector  # which imports the client of Redis
    from .redis_log import LogOptions

    def connect(role: str, wait_s: float, process: str) -> Callable[[], SharedLog]:
        return connector(url, LogOptions(name, app, process, max_events), role, wait_s)

    return connect


def examine_backplane(settings: Settings, app: str) -> dict[str, Any]:
    """Return what the Redis of the backplane says of itself. Takes a few seconds, at most.

    :param settings: the settings.
    :param app: which application it is.
    :return: see :func:`.examination.examine`; besides, where it is and how it is used. Empty without a backplane.
    """
    url = settings.backplane
    if url is None or not uses_backplane(settings):
        return {}
    from .examination import examine  # which imports the client of Redis

    name = log_name(settings, app)
    return {"address": without_secret(url), "name": name, "own_app": app, **examine(url, name)}


def _check_client(url: str) -> None:
    try:
        import redis  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise _no_client(url, "is not installed") from None
    found = version("redis")
    numbers = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if numbers < (7, 4) or numbers == (8, 0):
        raise _no_client(url, f"is {found}")


def _no_client(url: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"HYBRID_BACKPLANE={without_secret(url)!r} needs {NEEDED}, which {what}; {EXTRA}",
                              variable="HYBRID_BACKPLANE", accepted=NEEDED)
