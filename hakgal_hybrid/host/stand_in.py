"""Standing in for what a host imports: Flask-SocketIO where it is not installed, eventlet, the patches of gevent."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from ..logs import get_logger

logger = get_logger(__name__)

#: Who may patch by gevent all the same: gevent itself, and servers that run the app in its greenlets.
_GEVENT_SERVERS = ("gevent", "geventwebsocket", "gunicorn")
#: What patches other modules than those of the standard library.
_TOOLS = ("patch_item", "patch_module")


def stand_in() -> None:
    """Have our :mod:`hakgal_hybrid.socketio` answer to the name ``flask_socketio``, if nothing else does."""
    if "flask_socketio" not in sys.modules and importlib.util.find_spec("flask_socketio") is None:
        sys.modules["flask_socketio"] = importlib.import_module("hakgal_hybrid.socketio")
        logger.info("flask_socketio is not installed: hakgal_hybrid.socketio stands in for it")


def stand_in_for_eventlet() -> None:
    """Have :mod:`.native_threads` answer to the name ``eventlet``, whose submodules cannot be imported then."""
    module: Any = importlib.import_module("hakgal_hybrid.host.native_threads")
    module.__path__ = []  # a package: the error of a module that is not there shall say why
    sys.modules["eventlet"] = module
    if not any(isinstance(finder, _NoModulesOfEventlet) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoModulesOfEventlet())


class _NoModulesOfEventlet(MetaPathFinder):
    """Says why there is no module below ``eventlet``."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Find nothing.

        :param name: the name of the module that is imported.
        :param path: where its package looks.
        :param target: means nothing.
        :raises ImportError: for a module of eventlet.
        """
        package, _, rest = name.partition(".")
        module = sys.modules.get("eventlet")
        if package == "eventlet" and rest and module is sys.modules.get("hakgal_hybrid.host.native_threads"):
            getattr(module, rest.partition(".")[0])


def keep_from_patching_by_gevent() -> None:
    """Have ``gevent.monkey.patch_all()`` and the like do nothing, unless a server of gevent's calls it."""
    from wrapt import register_post_import_hook

    register_post_import_hook(_without_patches, "gevent.monkey")


def _without_patches(monkey: ModuleType) -> None:
    for name in [name for name in vars(monkey) if name.startswith("patch_") and name not in _TOOLS]:
        setattr(monkey, name, _patching_for_servers_only(getattr(monkey, name)))


def _patching_for_servers_only(patch: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(patch)
    def unless_a_server_asks(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] in _GEVENT_SERVERS:
            return patch(*args, **kwargs)
        logger.info("gevent.monkey.%s() does nothing: the app runs in native threads", patch.__name__)
        return None

    return unless_a_server_asks
