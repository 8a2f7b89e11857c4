"""The host's event handlers, and how one runs on behalf of a client."""

from __future__ import annotations

from .calling import RESERVED as RESERVED
from .calling import BadArguments as BadArguments
from .calling import ConnectionRefusedError as ConnectionRefusedError
from .calling import ForkedSession as ForkedSession
from .calling import Handler as Handler
from .calling import Serving as Serving
from .calling import accepts as accepts
from .calling import serving as serving
from .registry import NOT_HANDLED as NOT_HANDLED
from .registry import Handlers as Handlers
from .registry import NamespaceClass as NamespaceClass
from .registry import propagating as propagating
