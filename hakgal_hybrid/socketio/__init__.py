"""The shape of Flask-SocketIO over Server-Sent Events and HTTP POST.

What a host imports from ``flask_socketio``: :class:`SocketIO` and the functions that only work inside a handler.
"""

from __future__ import annotations

from ..handlers import ConnectionRefusedError as ConnectionRefusedError
from .context import close_room as close_room
from .context import disconnect as disconnect
from .context import emit as emit
from .context import join_room as join_room
from .context import leave_room as leave_room
from .context import rooms as rooms
from .facade import SocketIO as SocketIO

__all__ = ["ConnectionRefusedError", "SocketIO", "close_room", "disconnect", "emit", "join_room", "leave_room", "rooms"]
