"""The shape of Flask-SocketIO over Server-Sent Events and HTTP POST.

What a host imports from ``flask_socketio``: :class:`SocketIO`, :class:`Namespace`, the functions that only work inside
a handler, and the client for tests.
"""

from __future__ import annotations

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

__all__ = ["ConnectionRefusedError", "Namespace", "SocketIO", "SocketIOTestClient", "call", "close_room", "disconnect",
           "emit", "join_room", "leave_room", "rooms", "send"]
