"""The shape of Flask-SocketIO over Server-Sent Events and HTTP POST.

What a host imports from ``flask_socketio``: :class:`SocketIO`, :class:`Namespace`, the functions that only work inside
a handler, and the client for tests. In profile WEBSOCKET each of these names is Flask-SocketIO's own, so that an app
that imports them from here is rolled back by its environment, too. The profile is read as a name is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..settings import Profile, current_profile

if TYPE_CHECKING:
    from ..commands.invocation import ConnectionRefusedError as ConnectionRefusedError
    from .context import call as call
    from .context import close_room as close_room
    from .context import disconnect as disconnect
    from .context import emit as emit
    from .context import join_room as join_room
    from .context import leave_room as leave_room
    from .context import rooms as rooms
    from .context import send as send
    from .namespace import Namespace as Namespace
    from .socketio import SocketIO as SocketIO
    from .test_client import SocketIOTestClient as SocketIOTestClient

_HOMES = {
    "ConnectionRefusedError": "..commands.invocation", "Namespace": ".namespace", "SocketIO": ".socketio",
    "SocketIOTestClient": ".test_client",
    **dict.fromkeys(("call", "close_room", "disconnect", "emit", "join_room", "leave_room", "rooms", "send"),
                    ".context"),
}

__all__ = ["ConnectionRefusedError", "Namespace", "SocketIO", "SocketIOTestClient", "call", "close_room", "disconnect",
           "emit", "join_room", "leave_room", "rooms", "send"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _flask_socketio() if current_profile() is Profile.WEBSOCKET else importlib.import_module(_HOMES[name],
                                                                                                    __name__)
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _flask_socketio() -> Any:
    missing = ConfigurationError("in profile WEBSOCKET the names of hakgal_hybrid.socketio are Flask-SocketIO's, which "
                                 "is not installed; install it by: pip install 'hakgal_hybrid[socketio]'")
    try:
        module = importlib.import_module("flask_socketio")
    except ModuleNotFoundError as error:
        if error.name != "flask_socketio":
            raise
        raise missing from error
    if module.__name__ == __name__:  # we stand in for it, which was decided in another profile
        raise missing
    return module
