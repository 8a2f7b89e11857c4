"""Constructing a hybridized host."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import ConfigurationError
from ..extension import HybridTransport
from ..monitoring.patching import refuse_patched_process
from ..settings import Profile, current_profile
from ..socketio.adoption import FLAG, check_emitter
from ..socketio.substitution import facades, swapped, threading_socketio
from ..web.transport import KEY
from .stand_in import stand_in


def construct(host: Any, cls: type, original: Callable[..., None], args: tuple[Any, ...],
              kwargs: dict[str, Any]) -> None:
    """Run a host's constructor with the swap that the profile asks for, then see that it has a transport.

    :param host: the host, which is being made.
    :param cls: the class that was hybridized.
    :param original: its own constructor.
    :param args: what the constructor was given.
    :param kwargs: its keywords.
    """
    swap = _turn_flag(original, host, args, kwargs)
    replacements = threading_socketio  # the host keeps its WebSocket
    if swap is not None or current_profile() is Profile.DUAL:
        refuse_patched_process()
        stand_in()
        replacements = partial(facades, None if swap is None else cls)
    args, kwargs = swap or (args, kwargs)
    with swapped(replacements()):
        original(host, *args, **kwargs)
    app = getattr(host, "app", None)
    if app is None:
        raise ConfigurationError(f"{cls.__name__} has no Flask app as its 'app', and cannot be hybridized")
    if KEY not in app.extensions:
        HybridTransport(app)
    state = HybridTransport.of(app).state
    state.host = host
    check_emitter(host, state, swap is not None)
    state.refuse_conflicts()


def _turn_flag(original: Callable[..., None], host: Any, args: tuple[Any, ...],
               kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the constructor's arguments with the flag turned on, or ``None`` if it is on, or is not there."""
    signature = inspect.signature(original)
    try:
        bound = signature.bind(host, *args, **kwargs)
    except TypeError:
        bound = None  # a decorator may inject what is missing; otherwise the host's own error is the right one
    by_keyword = {**kwargs, FLAG: True}
    if bound is None or FLAG not in signature.parameters:
        # A class that hands everything on to its base takes the flag among its keywords.
        return (args, by_keyword) if FLAG in kwargs and not kwargs[FLAG] else None
    bound.apply_defaults()
    if bound.arguments[FLAG]:
        return None
    position = list(signature.parameters).index(FLAG) - 1
    if FLAG not in kwargs and len(args) > position:
        return (*args[:position], True, *args[position + 1:]), kwargs
    return args, by_keyword
