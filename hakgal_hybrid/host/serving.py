"""Notices that this process begins to serve, and says so where nothing was swapped until then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wrapt import register_post_import_hook, wrap_function_wrapper

from ..logs import get_logger
from .hybridize import hooked

logger = get_logger(__name__)

#: What a server calls when the app is there and no request was served yet. (Ours serves what was swapped.)
_BEGINNINGS = (("werkzeug.serving", "BaseWSGIServer.__init__"), ("gunicorn.workers.base", "Worker.load_wsgi"),
               ("waitress.server", "create_server"), ("gevent.pywsgi", "WSGIServer.__init__"))
#: Called for each app that gets our URLs.
_INIT_APP = ("hakgal_hybrid.web.state", "AppState.__init__")


def report_at_serving(target: str | None) -> None:
    """Warn as a server begins to serve in this process, if until then nothing was swapped.

    :param target: the class that was named, as ``module:Class``, or ``None`` for any ``SocketIO``.
    """
    found: list[str] = []
    missed = "no app with a SocketIO of flask_socketio was made" if target is None else (
        f"--class names {target}, which was not imported")

    def begin() -> None:
        if not found and not (target is not None and hooked):
            logger.warning("nothing was swapped until this process began to serve: %s; events do not leave by "
                           "Server-Sent Events", missed)
            found.append("reported")

    for module, name in _BEGINNINGS:
        _call_after(module, name, begin)
    if target is None:
        _call_after(*_INIT_APP, lambda: found.append("an app"))


def _call_after(module: str, name: str, function: Callable[[], None]) -> None:
    """Have a function called after each call of another one, whose module is imported now or later."""

    def call(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = wrapped(*args, **kwargs)
        function()
        return result

    register_post_import_hook(lambda imported: wrap_function_wrapper(imported, name, call), module)
