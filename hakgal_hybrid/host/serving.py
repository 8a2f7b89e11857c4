"""Notices that this process begins to serve, and says so where nothing was swapped until then."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..logs import get_logger
from .hybridize import hooked

logger = get_logger(__name__)

#: What each server calls when the app is there and no request was served yet. (Ours serves what was swapped.)
_BEGINNINGS = (("werkzeug.serving", "BaseWSGIServer.__init__"), ("gunicorn.workers.base", "Worker.load_wsgi"),
               ("waitress.server", "create_server"), ("gevent.pywsgi", "WSGIServer.__init__"))


def report_at_serving(target: str | None) -> None:
    """Warn as a server begins to serve in this process, if until then nothing was swapped.

    :param target: the class that was named, as ``module:Class``, or ``None`` for any ``SocketIO``.
    """
    from wrapt import register_post_import_hook, wrap_function_wrapper

    reported: list[bool] = []

    def begin(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = wrapped(*args, **kwargs)
        missed = None if reported else _missed(target)
        if missed is not None:
            logger.warning(missed)
            reported.append(True)
        return result

    for module_name, function in _BEGINNINGS:
        def watch(module: ModuleType, function: str = function) -> None:
            wrap_function_wrapper(module, function, begin)

        register_post_import_hook(watch, module_name)


def _missed(target: str | None) -> str | None:
    """Return what was not swapped, as a sentence."""
    if target is not None:
        return None if hooked else (
            f"no class was hybridized: --class names {target}, which was not found until this process began to serve; "
            "its events do not leave by Server-Sent Events")
    transport: Any = sys.modules.get("hakgal_hybrid.web.transport")
    if transport is None or not transport.Transport.apps_served:
        return ("nothing was swapped until this process began to serve: no SocketIO of flask_socketio was made for an "
                "app; events do not leave by Server-Sent Events")
    return None
