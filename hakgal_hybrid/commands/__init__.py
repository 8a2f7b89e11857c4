"""What clients send, what the host's handlers do with it, and what serves the clients of an app."""

from __future__ import annotations

from .handlers import NOT_HANDLED as NOT_HANDLED
from .handlers import Handlers as Handlers
from .handlers import NamespaceClass as NamespaceClass
from .handlers import propagating as propagating
from .invocation import RESERVED as RESERVED
from .invocation import BadArguments as BadArguments
from .invocation import ConnectionRefusedError as ConnectionRefusedError
from .invocation import ForkedSession as ForkedSession
from .invocation import Handler as Handler
from .invocation import Serving as Serving
from .invocation import accepts as accepts
from .invocation import serving as serving
