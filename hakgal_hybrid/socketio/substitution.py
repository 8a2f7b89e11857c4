"""Replacing every ``SocketIO`` that a host can reach by another class: while it is constructed, or for good."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..logs import get_logger
from ..settings import current_profile
from ..web.transport import Transport
from .socketio import SocketIO

logger = get_logger(__name__)

#: What is said of each ``SocketIO`` that was swapped, once it serves an app.
SWAPPED = "the SocketIO of app %r is swapped: its events leave by Server-Sent Events%s (APP_PROFILE=%s)"

#: The function a host builds its push channel with.
FACTORY = "create_websocket_adapter"

#: The package whose own names are never bound anew.
_OURS = "hakgal_hybrid"

_swap_lock = threading.RLock()

#: Flask-SocketIO's own class, once :func:`substitute` has put another one in its place.
_originals: list[type] = []


def substitute(module: ModuleType) -> None:
    """Have every ``SocketIO`` of ``flask_socketio`` be ours from now on.

    The constructor of a hybridized class still decides by its flag: see :func:`swapped`.

    :param module: ``flask_socketio``.
    """
    original = module.SocketIO
    if not _originals and not _is_ours(original):
        _originals.append(original)
        _rebind({original: _facade(original)})


@contextmanager
def swapped(replacements: dict[type, type]) -> Iterator[None]:
    """Have every name that is bound to one of these classes yield its replacement for a while.

    Each replacement must be a class of its own, so that names bound to it meanwhile can be found and restored.

    :param replacements: the replacement of each class.
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


def restore() -> None:
    """Undo :func:`substitute`, for those who run several commands in one process. What was made stays as it is."""
    if _originals:
        original = _originals.pop()
        _rebind({importlib.import_module("flask_socketio").SocketIO: original})


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith(_OURS)


def _socketio_classes(cls: type | None) -> list[type]:
    """Return the ``SocketIO`` of ``flask_socketio``, and the one in the module that holds the factory of a host.

    Those that are ours already are left out.
    """
    found = []
    if importlib.util.find_spec("flask_socketio") is not None:
        found.append(importlib.import_module("flask_socketio").SocketIO)
    own = None if cls is None else getattr(home_of(cls, FACTORY), "SocketIO", None)
    if isinstance(own, type) and own not in found:
        found.append(own)
    return [item for item in found if not _is_ours(item)]


def _names_of(value: object) -> list[tuple[dict[str, Any], str]]:
    """Return where, in all modules but ours, a global name is bound to ``value``."""
    found = []
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == _OURS:
            continue
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            found += [(names, name) for name, bound in list(names.items()) if bound is value]
    return found


def home_of(cls: type, name: str) -> ModuleType | None:
    """Return the module that defines the function which the host knows as ``name``.

    :param cls: the host's class.
    :param name: the function's name.
    """
    for base in cls.__mro__:
        value = getattr(sys.modules.get(base.__module__), name, None)
        if value is not None:
            return sys.modules.get(getattr(value, "__module__", ""))
    # A host may import it inside a method: then the module that defines it is enough.
    defining = (module for module_name, module in list(sys.modules.items())
                if getattr(getattr(module, "__dict__", {}).get(name), "__module__", None) == module_name)
    return next(defining, None)


def facades(cls: type | None) -> dict[type, type]:
    """Return a facade for every ``SocketIO`` a host could use; ``isinstance`` takes it for what it stands in for.

    :param cls: the host's class; ``None`` to leave a ``SocketIO`` alone that is not Flask-SocketIO's.
    """
    return {original: _facade(original) for original in _socketio_classes(cls)}


def _facade(original: type) -> type:
    def init_app(self: Any, app: Any, **kwargs: Any) -> None:
        SocketIO.init_app(self, app, **kwargs)
        if app is not None:
            node = Transport.of(app).state.node
            path = node.engine_options.path
            more = f", and reach clients of Socket.IO at {path}/" if node.serves_engineio(path) else ""
            logger.info(SWAPPED, app.import_name, more, current_profile().value)

    names = {"__module__": SocketIO.__module__, "__doc__": SocketIO.__doc__, "init_app": init_app}
    return type("SocketIO", (SocketIO,), {**names, "__class__": _class_property(original)})


def _class_property(original: type) -> property:
    """Return a ``__class__`` that makes ``isinstance(facade, original)`` true: Python reads it if the type says no.

    The type stays ours. A common base class would let behaviour of the original in.
    """
    return property(lambda self: original)


def threading_socketio() -> dict[type, type]:
    """Return Flask-SocketIO's class with one that does without eventlet, if that cannot be had; else nothing."""
    if importlib.util.find_spec("flask_socketio") is None:
        return {}
    eventlet = sys.modules.get("eventlet", ...)
    if eventlet is not None and not getattr(eventlet, "__name__", "").startswith(_OURS):  # by its own name
        return {}
    bound: Any = importlib.import_module("flask_socketio").SocketIO
    real: Any = _originals[0] if _originals else bound
    if _is_ours(real):
        return {}  # our own stands in

    class SocketIO(real):  # type: ignore[misc]
        """Flask-SocketIO's own class, with native threads in place of the eventlet that is not to be had."""

        def init_app(self, app: Any, **kwargs: Any) -> None:
            for options in (self.server_options, kwargs):
                if options.get("async_mode") == "eventlet":
                    options["async_mode"] = "threading"
            super().init_app(app, **kwargs)

        def run(self, app: Any, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
            super().run(app, host, port, **_werkzeug_options(kwargs))

    return {bound: SocketIO}


def _werkzeug_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of ``run`` that Werkzeug's server takes, and that it may serve."""
    from werkzeug.serving import run_simple

    known = {"debug", "use_reloader", "log_output", "reloader_options", "extra_files",
             *inspect.signature(run_simple).parameters}
    return {**{name: value for name, value in options.items() if name in known}, "allow_unsafe_werkzeug": True}
