"""The keywords of ``SocketIO``: those that mean something here, and those that are accepted all the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import flask
from flask import Flask

from ..broker.engineio.upper import EngineOptions
from ..errors import ConfigurationError
from ..logs import get_logger
from ..settings import Profile
from ..settings.values import url_prefix
from ..web.state import AppState
from .queueing import queue_settings

logger = get_logger(__name__)

#: Keywords of Flask-SocketIO, python-socketio and python-engineio that are about what there is not here: asynchronous
#: modes, queues, other encodings than JSON, compression.
IGNORED = frozenset((
    "always_connect", "async_handlers", "async_mode", "binary", "channel", "client_manager", "compression_threshold",
    "cookie", "cors_credentials", "engineio_logger", "http_compression", "message_queue", "monitor_clients",
    "serializer", "write_only"))

HONOURED = frozenset((
    "allow_upgrades", "cors_allowed_origins", "json", "logger", "manage_session", "max_http_buffer_size", "namespaces",
    "path", "ping_interval", "ping_timeout", "resource", "transports"))

_ONE_PROCESS = "None, and message_queue for several processes; or APP_PROFILE=WEBSOCKET, in which Flask-SocketIO serves"

#: By then the app has bound our class, and perhaps has made a subclass.
_TOO_LATE = ("the profile is WEBSOCKET, and was another one when the app imported SocketIO; set APP_PROFILE=WEBSOCKET "
             "in the environment of the process, or before that import")


def refuse_queue(options: Mapping[str, Any]) -> None:
    """Check that nobody relies on events that come from, or go to, another process in a way that there is not here.

    :param options: the keywords that a ``SocketIO`` was given.
    :raises ConfigurationError: if somebody does: ignoring a queue would lose events.
    """
    queue_settings(options)
    manager = options.get("client_manager")
    if manager is not None and type(manager).__name__ != "Manager":  # that one keeps clients in memory
        raise ConfigurationError.bad_value("client_manager", manager, _ONE_PROCESS)


def prefix_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the setting that ``path=`` or ``resource=`` stands for: nothing, where there is neither.

    A page of ``socket.io-client`` is given the same path. On both sides it is the prefix, without ``/socket.io`` at its
    end.

    :param options: the keywords that a ``SocketIO`` was given.
    :return: the setting, by its name.
    :raises ConfigurationError: for a path that is not accepted.
    """
    path = options.get("path") or options.get("resource")
    if not path:
        return {}
    try:
        return {"prefix": url_prefix(f"/{str(path).strip('/')}".removesuffix("/socket.io"))}
    except ValueError as refused:
        raise ConfigurationError.bad_value("path", path, str(refused)) from None


def settings_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that keywords stand for.

    :param options: the keywords that a ``SocketIO`` was given.
    """
    return {**prefix_of(options), **queue_settings(options)}


def warn_of_late_path(options: Mapping[str, Any], state: AppState) -> None:
    """Say so where the URLs of an app are elsewhere than ``path=`` says, because they were there before.

    :param options: the keywords that a ``SocketIO`` was given.
    :param state: what its app has.
    """
    wanted, prefix = prefix_of(options), state.settings.prefix
    if wanted.get("prefix", prefix) not in (prefix, state.otherwise.get("prefix")):
        logger.warning("SocketIO(path=…) came after the transport of its app, whose URLs stay below %r; "
                       "HYBRID_PREFIX=%s puts them where path says", prefix or "/", wanted["prefix"])


def apply_options(options: Mapping[str, Any], state: AppState) -> None:
    """Set up an app as a host's ``SocketIO(…)`` says.

    :param options: the keywords that a ``SocketIO`` was given.
    :param state: what the app has.
    :raises ConfigurationError: for a value that is not accepted, and in profile WEBSOCKET.
    """
    if state.settings.profile is Profile.WEBSOCKET:
        raise ConfigurationError(_TOO_LATE)
    if queue_settings(options) and state.settings.backplane is None:
        raise ConfigurationError("SocketIO(message_queue=…) came after the transport of its app, which has no "
                                 "backplane; set HYBRID_BACKPLANE")
    unknown = sorted(options.keys() - IGNORED - HONOURED)
    if unknown:
        logger.warning("SocketIO(%s) means nothing here and is ignored", ", ".join(f"{name}=…" for name in unknown))
    if "cors_allowed_origins" in options:
        state.services.origins.take_over(options["cors_allowed_origins"])
    namespaces = options.get("namespaces") or ("/",)
    state.node.lifecycle.namespaces = "*" if namespaces == "*" else frozenset(
        (namespaces,) if isinstance(namespaces, str) else namespaces)
    state.node.engine_options = _bounded(engine_options(options, state.settings.prefix), state.settings.max_body_bytes)
    state.node.use_json(_json_module(options.get("json"), state.app))
    if "manage_session" in options:
        state.handlers.manage_session = bool(options["manage_session"])
    if options.get("logger"):
        state.handlers.log = _event_logger(options["logger"])


def engine_options(options: Mapping[str, Any], prefix: str) -> EngineOptions:
    """Return what the keywords of a ``SocketIO`` say of Engine.IO.

    :param options: the keywords.
    :param prefix: what our URLs begin with.
    :return: the options; for what is not given, those that python-engineio has.
    :raises ConfigurationError: for a value that is not accepted.
    """
    given, usual = {name: value for name, value in options.items() if value is not None}, EngineOptions()
    interval = given.get("ping_interval", usual.ping_interval_s)
    if isinstance(interval, tuple) and interval:
        interval = interval[0]  # the second one is how long the client may be late
    path = given.get("path") or given.get("resource") or ""
    if not isinstance(path, str):
        raise ConfigurationError.bad_value("path", path, "a path such as 'socket.io'")
    return EngineOptions(
        _positive("ping_interval", interval),
        _positive("ping_timeout", given.get("ping_timeout", usual.ping_timeout_s)),
        int(_positive("max_http_buffer_size", given.get("max_http_buffer_size", usual.max_payload))),
        "/" + path.strip("/") if path.strip("/") else prefix + usual.path,
        _transports(given.get("transports", usual.transports)),
        bool(given.get("allow_upgrades", usual.allow_upgrades)))


def _transports(given: Any) -> tuple[str, ...]:
    wanted = given if isinstance(given, (list, tuple, set, frozenset)) else (given,)
    found = tuple(name for name in EngineOptions().transports if name in wanted)
    if not found:
        raise ConfigurationError.bad_value("transports", given, "'polling', 'websocket' or a list of both")
    return found


def _bounded(options: EngineOptions, limit: int) -> EngineOptions:
    """Return options by which clients send no more than the server takes."""
    if not 0 < limit < options.max_payload:
        return options
    logger.warning("max_http_buffer_size=%d is more than HYBRID_MAX_BODY_BYTES (%d), which counts", options.max_payload,
                   limit)
    return options._replace(max_payload=limit)


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError.bad_value(name, value, "a number above 0")
    return value


def _event_logger(given: Any) -> Any:
    """Return the logger that was given; for ``True`` python-socketio's own, so that the host's set-up of it counts."""
    if given is not True:
        return given
    log = logging.getLogger("socketio.server")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())
    return log


def _json_module(module: Any, app: Flask) -> Any:
    if module is flask.json:
        return _FlaskJSON(app)  # whose result depends on the app, and there need not be a context where we emit
    if module is not None and not (hasattr(module, "dumps") and hasattr(module, "loads")):
        raise ConfigurationError.bad_value("json", module, "a module that has dumps and loads")
    return module


class _FlaskJSON:
    """``flask.json``, always in the context of one app.

    :param app: the app.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app

    def dumps(self, *args: Any, **kwargs: Any) -> str:
        with self._app.app_context():
            return flask.json.dumps(*args, **kwargs)

    def loads(self, *args: Any, **kwargs: Any) -> Any:
        with self._app.app_context():
            return flask.json.loads(*args, **kwargs)
