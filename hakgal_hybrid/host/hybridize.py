"""The host: giving an unmodified ``HexagonalAPI`` our transport in place of its ``SocketIO``.

Only what the decision needs is imported here; the rest follows once the profile asks for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigurationError
from ..logs import get_logger
from ..monitoring.patching import refuse_patched_process
from ..settings import Profile, current_profile

if TYPE_CHECKING:
    from ..extension import HybridTransport

logger = get_logger(__name__)

C = TypeVar("C", bound=type)

#: Where the host's class is looked for when nothing else is said.
HOST_MODULES = ("hexagonal_api_enhanced_clean", "src_hexagonal.hexagonal_api_enhanced_clean")
HOST_CLASS = "HexagonalAPI"

_FLAG = "enable_websocket"
_NOTHING_TO_KEEP = ("the host was started with %s=False in profile DUAL: it has no WebSocket to keep, and is served as "
                    "in profile HYBRID; start it with %s=True for both")

#: Modules whose class the hook has hybridized.
hooked: list[str] = []


def prepare() -> None:
    """Make this process ready for a host, before anything of the host is imported.

    In profile HYBRID, ``import eventlet`` raises ``ImportError`` from now on, so that a host that patches the process
    with it leaves real threads real; in profile DUAL the host's own server needs it, if anything does. If
    ``flask_socketio`` is not installed, :mod:`hakgal_hybrid.socketio` stands in for it. In profile WEBSOCKET this does
    nothing.

    :raises ConfigurationError: if eventlet has patched this process already, or ``APP_PROFILE`` is not accepted.
    """
    profile = current_profile()
    if profile is Profile.WEBSOCKET:
        return
    if profile is Profile.HYBRID:
        refuse_patched_process()
        sys.modules["eventlet"] = None  # type: ignore[assignment]  # the import system's way to say: not to be had
    _stand_in()


def hybridize(cls: C) -> C:
    """Return a subclass of a host's class that uses our transport. Also usable as a decorator.

    With ``enable_websocket=False`` in profile HYBRID its constructor runs the host's own with
    ``enable_websocket=True``, while every ``SocketIO`` of ``flask_socketio`` is our facade. With ``True`` the host
    keeps its WebSocket; in profile DUAL whatever that emits leaves by SSE too. In profile WEBSOCKET it does exactly
    what the class itself does.
    """
    checked_class(cls)
    if "__hybridized__" in cls.__dict__:
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    hybrid = type(cls)(cls.__name__, (cls,), names)
    _hybridize_in_place(hybrid)
    return hybrid


def checked_class(cls: object) -> type:
    """Return ``cls`` if it is a class.

    :raises ConfigurationError: if it is not.
    """
    if not isinstance(cls, type):
        raise ConfigurationError(f"{cls!r} is no class, and only a class can be hybridized")
    return cls


def _hybridize_in_place(cls: type) -> None:
    """Give a class the constructor that decides."""
    original = cls.__init__  # type: ignore[misc]

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # Where several classes of one host are hybridized, the outermost decides: it has turned the flag already.
        outermost = next(base for base in type(self).__mro__ if "__hybridized__" in base.__dict__)
        if outermost is not cls or current_profile() is Profile.WEBSOCKET:
            original(self, *args, **kwargs)
        else:
            _construct(self, cls, original, args, kwargs)

    cls.__init__ = __init__  # type: ignore[misc]
    cls.__hybridized__ = True  # type: ignore[attr-defined]


def hook(modules: tuple[str, ...] = HOST_MODULES, class_name: str = HOST_CLASS) -> None:
    """Hybridize the host's class as its module is imported, now or later.

    The class itself gets the constructor, instead of a subclass the name: a host may say
    ``super(HexagonalAPI, self)``, which looks the name up again. A hook that fails reports why and leaves the module as
    it is: the host then runs as it would without us.
    """
    from wrapt import register_post_import_hook

    def wrap(module: ModuleType) -> None:
        try:
            cls = checked_class(getattr(module, class_name))
            if "__hybridized__" not in cls.__dict__:
                _hybridize_in_place(cls)
            hooked.append(module.__name__)
        except Exception:
            logger.exception("%s.%s could not be hybridized; the host runs as without hakgal_hybrid",
                             getattr(module, "__name__", module), class_name)

    for name in modules:
        register_post_import_hook(wrap, name)


def attach(transport: HybridTransport, api: Any) -> None:
    """Give a transport to a finished host that was built with ``enable_websocket=False`` (or, for DUAL, ``True``).

    Builds the adapter through the host's own ``create_websocket_adapter``, sets ``websocket_adapter`` and
    ``socketio``, gives the latter to adapters that hold ``socketio = None``, has the host register its handlers, and
    starts its system monitor.

    :raises ConfigurationError: if ``api`` is no host.
    """
    from flask import Flask

    from ..socketio.substitution import FACTORY, facades, home_of, swapped

    app = getattr(api, "app", None)
    if not isinstance(app, Flask):
        raise ConfigurationError(f"{api!r} is neither a Flask app nor a host whose 'app' is one")
    transport.init_app(app)
    transport.adopt(api)
    if transport.settings.profile is Profile.WEBSOCKET:
        return
    if getattr(api, "socketio", None):
        _see_who_emits(api, transport, False)
        return
    if transport.settings.profile is Profile.DUAL:
        logger.warning(_NOTHING_TO_KEEP, _FLAG, _FLAG)
    else:
        refuse_patched_process()
    home = home_of(type(api), FACTORY)
    if home is None:
        logger.warning("%s has no %s: nothing of its own is emitted; transport.emit and bridged signals work",
                       type(api).__name__, FACTORY)
        return
    with swapped(facades(type(api))):
        create = getattr(home, FACTORY)
        api.websocket_adapter, api.socketio = create(
            app, getattr(api, "fact_repository", None), getattr(api, "reasoning_engine", None))
    _hand_out(api)
    if hasattr(api, "_register_websocket_routes"):
        api._register_websocket_routes()
    transport.refuse_conflicts()


# -- constructing a hybridized host ------------------------------------------------------------------------------


def _construct(host: Any, cls: type, original: Callable[..., None], args: tuple[Any, ...],
               kwargs: dict[str, Any]) -> None:
    from ..extension import KEY, HybridTransport
    from ..socketio.substitution import doubles, facades, swapped, threading_socketio

    swap = _turn_flag(original, host, args, kwargs)
    dual = current_profile() is Profile.DUAL
    if swap is not None:
        if dual:
            logger.warning(_NOTHING_TO_KEEP, _FLAG, _FLAG)
        else:
            refuse_patched_process()
        _stand_in()
        args, kwargs = swap
    with swapped(facades(cls) if swap is not None else doubles(cls) if dual else threading_socketio()):
        original(host, *args, **kwargs)
    app = getattr(host, "app", None)
    if app is None:
        raise ConfigurationError(f"{cls.__name__} has no Flask app as its 'app', and cannot be hybridized")
    transport = app.extensions.get(KEY)
    if transport is None:
        transport = HybridTransport()
        transport.init_app(app)
    transport.adopt(host)
    _see_who_emits(host, transport, swap is not None)
    transport.refuse_conflicts()


def _turn_flag(original: Callable[..., None], host: Any, args: tuple[Any, ...],
               kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the constructor's arguments with the flag turned on, or ``None`` if it is on, or is not there."""
    signature = inspect.signature(original)
    try:
        bound = signature.bind(host, *args, **kwargs)
    except TypeError:
        bound = None  # a decorator may inject what is missing; otherwise the host's own error is the right one
    by_keyword = {**kwargs, _FLAG: True}
    if bound is None or _FLAG not in signature.parameters:
        # A class that hands everything on to its base takes the flag among its keywords.
        return (args, by_keyword) if _FLAG in kwargs and not kwargs[_FLAG] else None
    bound.apply_defaults()
    if bound.arguments[_FLAG]:
        return None
    position = list(signature.parameters).index(_FLAG) - 1
    if _FLAG not in kwargs and len(args) > position:
        return (*args[:position], True, *args[position + 1:]), kwargs
    return args, by_keyword


def _see_who_emits(host: Any, transport: HybridTransport, swap: bool) -> None:
    """Say so where the host's events do not leave by our transport: nothing is lost silently."""
    if transport.settings.profile is Profile.WEBSOCKET:
        if swap:
            raise ConfigurationError.bad_value("HYBRID_PROFILE", "WEBSOCKET", "APP_PROFILE in the environment for a "
                                               "hybridized host: it is decided before there is an app.config")
        return
    own = getattr(host, "socketio", None)
    if not own or own is transport._socketio:  # ours, also where our package stands in for Flask-SocketIO
        return
    if swap:
        transport.mode = "websocket"
        logger.error("the host's socketio is %s.%s, which was not made while it was constructed and could not be "
                     "swapped: its events do not leave by SSE", type(own).__module__, type(own).__qualname__)
    else:
        _keep_websocket(transport)


def _keep_websocket(transport: HybridTransport) -> None:
    transport.mode = "websocket"
    if transport.settings.profile is Profile.DUAL:
        logger.warning("the host's own SocketIO is not Flask-SocketIO's, and was not made while the host was "
                       "hybridized: its events do not leave by SSE; start the host with 'hakgal-hybrid exec', or "
                       "hybridize its class")
        return
    logger.warning("the host was started with %s=True in profile HYBRID: it keeps its own WebSocket, and its events do "
                   "not leave by SSE; start it with %s=False to swap", _FLAG, _FLAG)


def _hand_out(api: Any) -> None:
    """Give the facade to everything the host built while it had none: adapters, and the system monitor."""
    for part in list(vars(api).values()):
        if part is not None and getattr(part, "socketio", part) is None:
            part.socketio = api.socketio
    if getattr(api, "system_monitor", api) is not None:
        return  # an earlier vintage without a monitor, or one that has been started
    from ..socketio.substitution import home_of

    home = home_of(type(api), "get_system_monitor")
    if home is not None:
        api.system_monitor = home.get_system_monitor()
        api.system_monitor.socketio = api.socketio
        api.system_monitor.start()


def _stand_in() -> None:
    """If Flask-SocketIO is not installed, have our facade answer to its name."""
    if "flask_socketio" not in sys.modules and importlib.util.find_spec("flask_socketio") is None:
        sys.modules["flask_socketio"] = importlib.import_module("hakgal_hybrid.socketio")


