"""Adopting a finished host: giving it the adapter that its constructor left out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask

from ..errors import ConfigurationError
from ..logs import get_logger
from ..monitoring.patching import refuse_patched_process
from ..settings import Profile
from ..web.state import AppState
from ..web.transport import Transport
from .substitution import FACTORY, facades, home_of, swapped

logger = get_logger(__name__)

#: The keyword of a host's constructor that says whether it serves its own WebSocket.
FLAG = "enable_websocket"


def attach(transport: Transport, api: Any) -> None:
    """Give a transport to a finished host that was built with ``enable_websocket=False``.

    Builds the adapter through the host's own ``create_websocket_adapter``, sets ``websocket_adapter`` and
    ``socketio``, gives the latter to adapters that hold ``socketio = None``, has the host register its handlers, and
    starts its system monitor. What one of these parts lacks is named in a warning, and the others are still served.

    :param transport: the transport, which serves no app yet.
    :param api: the host.
    :raises ConfigurationError: if ``api`` is no host, or its ``SocketIO`` is given an option that cannot be honoured.
    """
    app = getattr(api, "app", None)
    if not isinstance(app, Flask):
        raise ConfigurationError(f"{api!r} is neither a Flask app nor a host whose 'app' is one")
    transport.init_app(app)
    state = transport.state
    state.host = api
    if state.settings.profile is Profile.WEBSOCKET:
        return
    if getattr(api, "socketio", None):
        check_emitter(api, state, False)
        return
    refuse_patched_process()
    home = home_of(type(api), FACTORY)
    if home is None:
        logger.warning("%s has no %s: nothing of its own is emitted; transport.emit and bridged signals work",
                       type(api).__name__, FACTORY)
        return
    with _going_on_without(api, FACTORY), swapped(facades(type(api))):
        create = getattr(home, FACTORY)
        api.websocket_adapter, api.socketio = create(
            app, getattr(api, "fact_repository", None), getattr(api, "reasoning_engine", None))
    if getattr(api, "socketio", None) is None:
        return
    _hand_out(api)
    with _going_on_without(api, "system_monitor"):
        _start_monitor(api)
    if hasattr(api, "_register_websocket_routes"):
        with _going_on_without(api, "_register_websocket_routes"):
            api._register_websocket_routes()
    state.refuse_conflicts()


def check_emitter(host: Any, state: AppState, swap: bool) -> None:
    """Say so where the host's events do not leave by our transport: nothing is lost silently.

    :param host: the host.
    :param state: what its app has of us.
    :param swap: true if its ``SocketIO`` was to be replaced.
    """
    if state.settings.profile is Profile.WEBSOCKET:
        if swap:
            raise ConfigurationError.bad_value("HYBRID_PROFILE", "WEBSOCKET", "APP_PROFILE in the environment for a "
                                               "hybridized host: it is decided before there is an app.config")
        return
    own = getattr(host, "socketio", None)
    if not own or own is state.facade:  # ours, also where our package stands in for Flask-SocketIO
        return
    if swap:
        state.mode = "websocket"
        logger.error("the host's socketio is %s.%s, which was not made while it was constructed and could not be "
                     "swapped: its events do not leave by SSE", type(own).__module__, type(own).__qualname__)
    else:
        _keep_websocket(own, state)


def _keep_websocket(own: object, state: AppState) -> None:
    state.mode = "websocket"
    if state.settings.profile is Profile.DUAL:
        logger.warning("the host's own SocketIO (%s.%s) was not swapped: its events do not leave by SSE, and its "
                       "clients are not served from the log; 'hakgal-hybrid exec' and hybridize(cls) swap one that is "
                       "Flask-SocketIO's, and with %s=False any other", type(own).__module__, type(own).__qualname__,
                       FLAG)
        return
    logger.warning("the host was started with %s=True in profile HYBRID: it keeps its own WebSocket, and its events do "
                   "not leave by SSE; start it with %s=False to swap, or with APP_PROFILE=DUAL, which always swaps",
                   FLAG, FLAG)


@contextmanager
def _going_on_without(api: Any, part: str) -> Iterator[None]:
    """Log what a part of the host fails with, in place of failing: the rest of the host is still served."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:  # the host's own code, which may raise anything
        logger.warning("%s.%s could not be set up, and the host goes on without: %s: %s", type(api).__name__, part,
                       type(error).__name__, error, exc_info=True)


def _hand_out(api: Any) -> None:
    """Give the facade to every part, such as an adapter, that the host built while it had none."""
    for name, part in list(getattr(api, "__dict__", {}).items()):
        with _going_on_without(api, name):
            if part is not None and getattr(part, "socketio", part) is None:
                part.socketio = api.socketio


def _start_monitor(api: Any) -> None:
    """Build and start the host's system monitor, unless it has none or did so itself."""
    if getattr(api, "system_monitor", api) is not None:
        return  # an earlier vintage without a monitor, or one that has been started
    home = home_of(type(api), "get_system_monitor")
    if home is None:
        return
    get = home.get_system_monitor
    monitor = get(api.socketio) if inspect.signature(get).parameters else get()
    api.system_monitor = monitor
    if getattr(monitor, "socketio", monitor) is None:  # made before, by somebody who had none
        monitor.socketio = api.socketio
    start = getattr(monitor, "start_monitoring", None) or getattr(monitor, "start", None)
    if start is None:
        raise AttributeError(f"{type(monitor).__name__} has neither start_monitoring nor start")
    start()
