"""Hybridizing a host: giving an unmodified ``HexagonalAPI`` our transport in place of its ``SocketIO``.

Only what the decision needs is imported here; the rest follows once the profile asks for it.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..logs import get_logger
from ..monitoring.patching import refuse_patched_process
from ..settings import Profile, current_profile
from .stand_in import keep_from_patching_by_gevent, stand_in, stand_in_for_eventlet

logger = get_logger(__name__)

C = TypeVar("C", bound=type)

#: Where the host's class is looked for when nothing else is said.
HOST_MODULES = ("hexagonal_api_enhanced_clean", "src_hexagonal.hexagonal_api_enhanced_clean")
HOST_CLASS = "HexagonalAPI"

#: Modules whose class the hook has hybridized.
hooked: list[str] = []


def prepare() -> None:
    """Make this process ready for a host, before anything of the host is imported.

    Real threads stay real from now on: ``import eventlet`` gives :mod:`.native_threads`, and neither its
    ``monkey_patch`` nor those of gevent patch anything. If ``flask_socketio`` is not installed,
    :mod:`hakgal_hybrid.socketio` stands in for it. In profile WEBSOCKET this does nothing.

    :raises ConfigurationError: if eventlet has patched this process already, or ``APP_PROFILE`` is not accepted.
    """
    if current_profile() is Profile.WEBSOCKET:
        return
    refuse_patched_process()
    stand_in_for_eventlet()
    keep_from_patching_by_gevent()
    stand_in()


def hybridize(cls: C) -> C:
    """Return a subclass of a host's class that uses our transport. Also usable as a decorator.

    With ``enable_websocket=False`` its constructor runs the host's own with ``enable_websocket=True``, while every
    ``SocketIO`` of ``flask_socketio`` is our facade. With ``True`` the host keeps its WebSocket in profile HYBRID, and
    is swapped all the same in profile DUAL. In profile WEBSOCKET it does exactly what the class itself does.

    :param cls: the host's class.
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

    :param cls: what is said to be a class.
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
            from .construction import construct  # Flask and all the rest, only once they are needed

            construct(self, cls, original, args, kwargs)

    cls.__init__ = __init__  # type: ignore[misc]
    cls.__hybridized__ = True  # type: ignore[attr-defined]


def hook_socketio() -> None:
    """Swap every ``SocketIO`` of ``flask_socketio`` as that is imported, now or later; see :func:`.substitute`."""
    from wrapt import register_post_import_hook

    def swap(module: ModuleType) -> None:
        from ..socketio.substitution import substitute  # Flask and all the rest, only once they are needed

        substitute(module)

    register_post_import_hook(swap, "flask_socketio")


def hook(modules: tuple[str, ...] = HOST_MODULES, class_name: str = HOST_CLASS) -> None:
    """Hybridize the host's class as its module is imported, now or later.

    The class itself gets the constructor, instead of a subclass the name: a host may say
    ``super(HexagonalAPI, self)``, which looks the name up again. A hook that fails reports why and leaves the module as
    it is: the host then runs as it would without us.

    :param modules: the names of the modules that may define the class.
    :param class_name: the class's name.
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
