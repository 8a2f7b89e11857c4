"""The host: giving an unmodified ``HexagonalAPI`` our transport in place of its ``SocketIO``.

Only what the decision needs is imported here; the rest follows once the profile asks for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ConfigurationError
from .settings import Profile, current_profile

if TYPE_CHECKING:
    from .extension import HybridTransport

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=type)

#: Where the host's class is looked for when nothing else is said.
HOST_MODULES = ("hexagonal_api_enhanced_clean", "src_hexagonal.hexagonal_api_enhanced_clean")
HOST_CLASS = "HexagonalAPI"

_FLAG = "enable_websocket"
_FACTORY = "create_websocket_adapter"
_swap_lock = threading.RLock()


def prepare() -> None:
    """Make this process ready for a host, before anything of the host is imported.

    In profile HYBRID, ``import eventlet`` raises ``ImportError`` from now on, so that a host that patches the process
    with it leaves real threads real; and if ``flask_socketio`` is not installed, :mod:`hakgal_hybrid.socketio` stands
    in for it. In profile WEBSOCKET this does nothing.

    :raises ConfigurationError: if eventlet has patched this process already, or ``APP_PROFILE`` is not accepted.
    """
    if current_profile() is Profile.WEBSOCKET:
        return
    refuse_patched_process()
    sys.modules["eventlet"] = None  # type: ignore[assignment]  # the import system's way to say: not to be had
    _stand_in()


def hybridize(cls: C) -> C:
    """Return a subclass of a host's class that uses our transport. Also usable as a decorator.

    With ``enable_websocket=False`` in profile HYBRID its constructor runs the host's own with
    ``enable_websocket=True``, while every ``SocketIO`` of ``flask_socketio`` is our facade. With ``True`` the host
    keeps its WebSocket. In profile WEBSOCKET it does exactly what the class itself does.
    """
    if not isinstance(cls, type):
        raise ConfigurationError(f"{cls!r} is no class, and only a class can be hybridized")
    if "__hybridized__" in cls.__dict__:
        return cls
    original = cls.__init__  # type: ignore[misc]

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # Where several classes of one host are hybridized, the outermost decides: it has turned the flag already.
        outermost = next(base for base in type(self).__mro__ if "__hybridized__" in base.__dict__)
        if outermost is not hybrid or current_profile() is Profile.WEBSOCKET:
            original(self, *args, **kwargs)
        else:
            _construct(self, cls, original, args, kwargs)

    names = {"__init__": __init__, "__module__": cls.__module__, "__qualname__": cls.__qualname__,
             "__doc__": cls.__doc__, "__hybridized__": True}
    hybrid = type(cls)(cls.__name__, (cls,), names)
    return hybrid


def hook(modules: tuple[str, ...] = HOST_MODULES, class_name: str = HOST_CLASS) -> None:
    """Hybridize the host's class as its module is imported, now or later.

    A hook that fails reports why and leaves the module as it is: the host then runs as it would without us.
    """
    from wrapt import register_post_import_hook

    def wrap(module: ModuleType) -> None:
        try:
            setattr(module, class_name, hybridize(getattr(module, class_name)))
        except Exception:
            logger.exception("%s.%s could not be hybridized; the host runs as without hakgal_hybrid",
                             getattr(module, "__name__", module), class_name)

    for name in modules:
        register_post_import_hook(wrap, name)


def attach(transport: HybridTransport, api: Any) -> None:
    """Give a transport to a finished host that was built with ``enable_websocket=False``.

    Builds the adapter through the host's own ``create_websocket_adapter``, sets ``websocket_adapter`` and
    ``socketio``, gives the latter to adapters that hold ``socketio = None``, has the host register its handlers, and
    starts its system monitor.

    :raises ConfigurationError: if ``api`` is no host.
    """
    from flask import Flask

    app = getattr(api, "app", None)
    if not isinstance(app, Flask):
        raise ConfigurationError(f"{api!r} is neither a Flask app nor a host whose 'app' is one")
    transport.init_app(app)
    transport.adopt(api)
    if transport.settings.profile is Profile.WEBSOCKET:
        return
    if getattr(api, "socketio", None):
        _keep_websocket(transport)
        return
    refuse_patched_process()
    home = _home_of(type(api), _FACTORY)
    if home is None:
        return  # a host without a push channel of its own: transport.emit and bridged signals serve it
    with _swapped(_facades(type(api))):
        create = getattr(home, _FACTORY)
        api.websocket_adapter, api.socketio = create(
            app, getattr(api, "fact_repository", None), getattr(api, "reasoning_engine", None))
    _hand_out(api)
    if hasattr(api, "_register_websocket_routes"):
        api._register_websocket_routes()
    transport.refuse_conflicts()


# -- constructing a hybridized host ------------------------------------------------------------------------------


def _construct(host: Any, cls: type, original: Callable[..., None], args: tuple[Any, ...],
               kwargs: dict[str, Any]) -> None:
    from .extension import KEY, HybridTransport

    try:
        bound = inspect.signature(original).bind(host, *args, **kwargs)
    except TypeError:
        original(host, *args, **kwargs)  # raises the host's own error for its own signature
        raise
    bound.apply_defaults()
    swap = _FLAG in bound.signature.parameters and not bound.arguments[_FLAG]
    if swap:
        refuse_patched_process()
        _stand_in()
        bound.arguments[_FLAG] = True
    with _swapped(_facades(cls) if swap else _threading_socketio()):
        original(*bound.args, **bound.kwargs)
    transport = host.app.extensions.get(KEY)
    if transport is None:
        transport = HybridTransport()
        transport.init_app(host.app)
    transport.adopt(host)
    own = getattr(host, "socketio", None)
    if not swap and own and own is not transport._socketio:  # it is, where our package stands in for Flask-SocketIO
        _keep_websocket(transport)
    transport.refuse_conflicts()


def _keep_websocket(transport: HybridTransport) -> None:
    transport.mode = "websocket"
    logger.warning("the host was started with %s=True in profile HYBRID: it keeps its own WebSocket, and its events do "
                   "not leave by SSE; start it with %s=False to swap", _FLAG, _FLAG)


def _hand_out(api: Any) -> None:
    """Give the facade to everything the host built while it had none: adapters, and the system monitor."""
    for part in list(vars(api).values()):
        if part is not None and getattr(part, "socketio", part) is None:
            part.socketio = api.socketio
    if getattr(api, "system_monitor", api) is not None:
        return  # an earlier vintage without a monitor, or one that has been started
    home = _home_of(type(api), "get_system_monitor")
    if home is not None:
        api.system_monitor = home.get_system_monitor()
        api.system_monitor.socketio = api.socketio
        api.system_monitor.start()


# -- the swap ----------------------------------------------------------------------------------------------------


@contextmanager
def _swapped(replacements: dict[type, type]) -> Iterator[None]:
    """Have every name that is bound to one of these classes yield its replacement for a while.

    Each replacement must be a class of its own, so that what is bound to it meanwhile can be told from all else.
    """
    with _swap_lock:
        _rebind(replacements)
        try:
            yield
        finally:
            # Modules that were imported meanwhile have bound the replacement.
            _rebind({replacement: original for original, replacement in replacements.items()})


def _rebind(classes: dict[type, type]) -> None:
    for old, new in classes.items():
        for names, name in _names_of(old):
            names[name] = new


def _socketio_classes(cls: type) -> list[type]:
    """Return the ``SocketIO`` of ``flask_socketio``, and the one in the module that holds the host's factory."""
    found = []
    if importlib.util.find_spec("flask_socketio") is not None:
        found.append(importlib.import_module("flask_socketio").SocketIO)
    home = _home_of(cls, _FACTORY)
    own = getattr(home, "SocketIO", None)
    if isinstance(own, type) and own not in found:
        found.append(own)
    return [item for item in found if not item.__module__.startswith(__package__ or "hakgal_hybrid")]


def _names_of(value: object) -> list[tuple[dict[str, Any], str]]:
    """Return where, in all modules but ours, a global name is bound to ``value``."""
    found = []
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == __package__:
            continue
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            found += [(names, name) for name, bound in list(names.items()) if bound is value]
    return found


def _home_of(cls: type, name: str) -> ModuleType | None:
    """Return the module that defines what the host's module knows as ``name``."""
    for base in cls.__mro__:
        value = getattr(sys.modules.get(base.__module__), name, None)
        if value is not None:
            return sys.modules.get(getattr(value, "__module__", ""))
    return None


def _facades(cls: type) -> dict[type, type]:
    """Return a facade for every ``SocketIO`` the host could use."""
    from .socketio import SocketIO

    names = {"__module__": SocketIO.__module__, "__doc__": SocketIO.__doc__}
    return {original: type("SocketIO", (SocketIO,), names) for original in _socketio_classes(cls)}


def _threading_socketio() -> dict[type, type]:
    """Return Flask-SocketIO's class with one that does without eventlet, if that was blocked; else nothing."""
    if sys.modules.get("eventlet", ...) is not None or importlib.util.find_spec("flask_socketio") is None:
        return {}
    real: Any = importlib.import_module("flask_socketio").SocketIO
    if real.__module__.startswith(__package__ or ""):
        return {}  # our own stands in

    class SocketIO(real):  # type: ignore[misc]
        """Flask-SocketIO's own class, with native threads in place of the eventlet that is not to be had."""

        def init_app(self, app: Any, **kwargs: Any) -> None:
            for options in (self.server_options, kwargs):
                if options.get("async_mode") == "eventlet":
                    options["async_mode"] = "threading"
            super().init_app(app, **kwargs)

        def run(self, app: Any, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
            from werkzeug.serving import run_simple

            known = {"debug", "use_reloader", "log_output", "reloader_options", "extra_files",
                     *inspect.signature(run_simple).parameters}
            options = {name: value for name, value in kwargs.items() if name in known}
            super().run(app, host, port, **options, allow_unsafe_werkzeug=True)

    return {real: SocketIO}


def _stand_in() -> None:
    """If Flask-SocketIO is not installed, have our facade answer to its name."""
    if "flask_socketio" not in sys.modules and importlib.util.find_spec("flask_socketio") is None:
        sys.modules["flask_socketio"] = importlib.import_module(f"{__package__}.socketio")


def refuse_patched_process() -> None:
    """Check that eventlet has not patched this process: gevent would wait for ever beside it.

    :raises ConfigurationError: with the remedy, if it has.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and any(patcher.is_monkey_patched(name) for name in ("thread", "socket", "select")):
        raise ConfigurationError(
            "eventlet has monkey-patched this process, and gevent cannot run beside it; start the host with "
            "'hakgal-hybrid exec' or 'hakgal-hybrid run', or call hakgal_hybrid.prepare() before the host is imported",
            code="eventlet_patched")
