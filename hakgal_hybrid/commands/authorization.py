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

Action = Literal["stream", "connect", "join", "emit", "publish", "command"]


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """An action to be allowed or refused: the argument of the function that :meth:`.HybridTransport.authorize` sets.

    :ivar action: ``stream``: open a stream or a WebSocket, a resumed one included; ``connect``: become a client;
        ``join``: be put into a room; ``emit``: have the handler of an event run; ``publish``: send an event
        to clients; ``command``: command the governor.
    :ivar namespace: the namespace it is about.
    :ivar room: the room, for ``join``.
    :ivar event: the event's name for ``emit`` and ``publish``, the governor's action for ``command``.
    :ivar data: what comes with it: for ``connect`` what the client brings along, for ``emit`` and ``publish`` the
        arguments.
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
    """Calls the function of the application that decides. Without one, everything is allowed."""

    def __init__(self) -> None:
        self._decide: Decision | None = None
        self._inherited = False  # from another app: this one may set its own

    @property
    def decides(self) -> bool:
        """True if the application has given a function that decides."""
        return self._decide is not None

    def use(self, decide: Decision) -> None:
        """Set the function that decides.

        :param decide: takes an :class:`AuthorizationRequest`; returns something true to allow it.
        :raises ConfigurationError: if another function decides already.
        """
        if self._decide is not None and self._decide is not decide and not self._inherited:
            raise ConfigurationError(f"{self._decide!r} decides already; only one function can authorize")
        self._decide, self._inherited = decide, False

    def inherit(self, decide: Decision, *, replace: bool = False) -> None:
        """Set the function that decides until :meth:`use` sets another one, where none decides yet.

        :param decide: the function, which was set for another app.
        :param replace: true to put it in the place of one that was inherited.
        """
        if self._decide is None or (replace and self._inherited):
            self._decide, self._inherited = decide, True

    def take(self, other: Authorizer) -> None:
        """Set the function of another object, if it has one.

        :param other: that object.
        :raises ConfigurationError: if another function decides already.
        """
        if other._decide is not None:
            (self.inherit if other._inherited else self.use)(other._decide)

    def check(self, app: Flask, action: Action, namespace: str = "/", *, room: Hashable = None,
              event: str | None = None, data: Any = None, client: Client | None = None) -> None:
        """Refuse an action that the application does not allow. If its function raises, the action is refused, too.

        :param app: the host's app, in whose context the function is called.
        :param action: what is to be done; this and the following are the fields of :class:`AuthorizationRequest`.
        :param namespace: the namespace it is about.
        :param room: the room, for ``join``.
        :param event: the event's name, or the governor's action.
        :param data: the arguments, or what a connecting client sends along.
        :param client: the client in whose name it is done, if there is one.
        :raises AccessDenied: 403 ``not_authorized``, or the very one that the function raised.
        """
        if self._decide is None:
            return
        try:
            with host_request(app) as request:
                allowed = bool(self._decide(
                    AuthorizationRequest(action, namespace, room, event, data, client, request)))
        except AccessDenied:
            raise
        except Exception:
            logger.exception("the function that authorizes raised; refused")
            allowed = False
        if not allowed:
            raise AccessDenied(f"the application does not allow this ({action})", code="not_authorized", action=action)
