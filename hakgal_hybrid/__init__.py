"""Events out by SSE, commands in by HTTP: a Flask-SocketIO host served without a blocking broadcast.

The public names, loaded when they are first used: importing this package imports neither Flask nor gevent.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .broker.markup import Html as Html
    from .commands.authorization import AuthorizationRequest as AuthorizationRequest
    from .commands.backplane.emitter import Emitter as Emitter
    from .errors import AccessDenied as AccessDenied
    from .errors import ConfigurationError as ConfigurationError
    from .errors import EventError as EventError
    from .errors import HybridError as HybridError
    from .errors import NotHere as NotHere
    from .errors import Overloaded as Overloaded
    from .errors import RequestError as RequestError
    from .extension import HybridTransport as HybridTransport
    from .host.hybridize import hybridize as hybridize
    from .host.hybridize import prepare as prepare
    from .settings import Profile as Profile
    from .settings import Settings as Settings

__version__ = "0.1.0"

_HOMES = {
    "AccessDenied": "errors", "AuthorizationRequest": "commands.authorization", "ConfigurationError": "errors",
    "EventError": "errors", "HybridError": "errors", "NotHere": "errors", "Overloaded": "errors",
    "RequestError": "errors",
    "Emitter": "commands.backplane.emitter", "Html": "broker.markup",
    "HybridTransport": "extension", "hybridize": "host.hybridize", "prepare": "host.hybridize", "Profile": "settings",
    "Settings": "settings",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
