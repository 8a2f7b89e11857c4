"""Authorization: the application decides what clients may do, after key, ticket and token were checked."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from flask import Flask, Request

from ..broker.client import Client
from ..errors import AccessDenied, ConfigurationError
from ..logs import get_logger
from .invocation import host_request

logger = get_logger(__name__)

Action = Literal["stream", "connect", "join", "emit", "command"]


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What somebody wants to do; given to the function that :meth:`.HybridTransport.authorize` registers.

    :ivar action: ``stream``: open a stream or a WebSocket, a resumed one included; ``connect``: become a client;
        ``join``: be put into a room; ``emit``: have the handler of an event run; ``command``: command the governor.
    :ivar namespace: the namespace it is about.
    :ivar room: the room, for ``join``.
    :ivar event: the event's name for ``emit``, the governor's action for ``command``.
    :ivar data: what comes with it: for ``connect`` what the client brings along, for ``emit`` the arguments.
    :ivar client: in whose name; for ``stream`` the first client it carries; ``None`` if there is none yet.
    :ivar request: the request it came by; ``None`` if the application acts outside of any.
    """

    action: Action
    namespace: str = "/"
    room: Hashable = None
    event: str | None = None
    data: Any = None
    client: Client | None = None
    request: Request | None = None


Decision = Callable[[AuthorizationRequest], object]


class Authorizer:
    """Asks the application's function. Without one everything is allowed that came so far."""

    def __init__(self) -> None:
        self._decide: Decision | None = None

    def use(self, decide: Decision) -> None:
        """Have ``decide`` asked from now on.

        :param decide: takes an :class:`AuthorizationRequest`; returns something true to allow it.
        :raises ConfigurationError: if another function is asked already: which of two should win is nobody's guess.
        """
        if self._decide is not None and self._decide is not decide:
            raise ConfigurationError(f"{self._decide!r} decides already; only one function can authorize")
        self._decide = decide

    def check(self, app: Flask, action: Action, namespace: str = "/", *, room: Hashable = None,
              event: str | None = None, data: Any = None, client: Client | None = None) -> None:
        """Ask whether something may be done. What is not clearly allowed is refused: a function that raises, too.

        :param app: the host's app, in whose context the function is called.
        :param action: as in :class:`AuthorizationRequest`.
        :param namespace: as there.
        :param room: as there.
        :param event: as there.
        :param data: as there.
        :param client: as there.
        :raises AccessDenied: 403 ``not_authorized``, or the very one that the function raised.
        """
        if self._decide is None:
            return
        try:
            with host_request(app) as request:
                asked = AuthorizationRequest(action, namespace, room, event, data, client, request)
                allowed = bool(self._decide(asked))
        except AccessDenied:
            raise
        except Exception:
            logger.exception("the function that authorizes raised; refused")
            allowed = False
        if not allowed:
            raise AccessDenied(f"the application does not allow this ({action})", code="not_authorized", action=action)
