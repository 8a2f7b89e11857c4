"""Standing in for a package that a host imports: Flask-SocketIO where it is not installed, and eventlet."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from ..logs import get_logger

logger = get_logger(__name__)


def stand_in() -> None:
    """Have our :mod:`hakgal_hybrid.socketio` answer to the name ``flask_socketio``, if nothing else does."""
    if "flask_socketio" not in sys.modules and importlib.util.find_spec("flask_socketio") is None:
        sys.modules["flask_socketio"] = importlib.import_module("hakgal_hybrid.socketio")
        logger.info("flask_socketio is not installed: hakgal_hybrid.socketio stands in for it")


def stand_in_for_eventlet() -> None:
    """Have :mod:`.native_threads` answer to the name ``eventlet``, whose submodules cannot be imported then."""
    sys.modules["eventlet"] = importlib.import_module("hakgal_hybrid.host.native_threads")
