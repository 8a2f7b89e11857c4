"""What an edge has in place of the application's handlers and of its function that decides: it asks a host."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import flask
from flask import Flask

from ..broker.client import Client
from ..errors import HybridError
from ..logs import get_logger
from .authorization import Action, Authorizer
from .backplane.hosts import Hosts
from .handlers import Handlers

logger = get_logger(__name__)

#: What a host decides when it is asked to run the handler.
_WITH_THE_HANDLER = ("emit", "join")
#: What a host decides as it lets a client in, if its function that decides is not known here yet.
_OF_STREAMS = ("stream", "connect")


class EdgeAuthorizer(Authorizer):
    """Has a host decide what clients may do.

    :ivar hosts: the hosts; set before any client comes.
    """

    hosts: Hosts

    @property
    def decides(self) -> bool:
        """True if the application has a function that decides, as far as is known."""
        return self.hosts.decide

    def check(self, app: Flask, action: Action, namespace: str = "/", *, room: Hashable = None,
              event: str | None = None, data: Any = None, client: Client | None = None) -> None:
        """Refuse an action that the application does not allow.

        :param app: means nothing: no function of this process is called.
        :param action: what is to be done; this and the following are as in :meth:`.Authorizer.check`.
        :param namespace: the namespace it is about.
        :param room: means nothing: clients are put into rooms by hosts.
        :param event: the event's name, or the governor's action.
        :param data: the arguments, or what a connecting client sends along.
        :param client: the client in whose name it is done, if there is one.
        :raises AccessDenied: if it is not allowed.
        :raises Overloaded: if no host is there.
        """
        if action in _WITH_THE_HANDLER or (action in _OF_STREAMS and not self.hosts.decide):
            return
        self.hosts.ask({"do": "authorize", "action": action, "namespace": namespace, "event": event, "data": data,
                        "sid": None if client is None else client.sid, "environ": environ_for(client)}, admit=True)


class EdgeHandlers(Handlers):
    """Has a host run the handlers. All those of one client are run by the host that has let it in.

    :ivar hosts: the hosts; set before any client comes.
    """

    hosts: Hosts

    def __init__(self) -> None:
        super().__init__()
        self._admitted_by: dict[str, str] = {}

    def serves(self, namespace: str) -> bool:
        """Return true: the host says, when it is asked to let a client in.

        :param namespace: the namespace.
        """
        return True

    def connect(self, app: Flask, client: Client, auth: Any = None) -> None:
        """Have a host run the ``connect`` handler.

        :param app: means nothing.
        :param client: the new client.
        :param auth: what it sent along.
        :raises AccessDenied: if the host refuses the client.
        :raises Overloaded: if no host is there.
        :raises HybridError: 504 if the host has not answered in time.
        """
        hosts = self.hosts
        question = {"do": "connect", "sid": client.sid, "namespace": client.namespace, "auth": auth,
                    "decided": hosts.decide, "environ": texts_of(client.opening_environ())}
        self._admitted_by[client.sid] = hosts.ask(question, admit=True)[0]

    def disconnect(self, app: Flask, client: Client, reason: str) -> None:
        """Have the host that has let the client in run its ``disconnect`` handler.

        :param app: means nothing.
        :param client: the client, which has ended.
        :param reason: the argument of the handler.
        """
        host = self._admitted_by.pop(client.sid, "")
        if host:
            try:
                self.hosts.ask({"do": "disconnect", "sid": client.sid, "reason": reason}, host)
            except HybridError as error:  # the host has ended as well
                logger.debug("no disconnect handler was run for %s: %s", client.sid, error)

    def trigger(self, app: Flask, client: Client, event: str, args: tuple[Any, ...]) -> Any:
        """Have the host that has let the client in run the handler of an event.

        :param app: means nothing.
        :param client: whose event it is.
        :param event: the event's name.
        :param args: the event's arguments.
        :return: what the handler returns.
        :raises HybridError: what the host refuses it with; 410 if the host has ended, 504 if it has not answered.
        """
        question = {"do": "trigger", "sid": client.sid, "namespace": client.namespace, "event": event,
                    "args": list(args), "environ": environ_for(client)}
        _, answer = self.hosts.ask(question, self._admitted_by.get(client.sid, ""))
        return tuple(answer["value"]) if answer["several"] else answer["value"]


def edge_parts() -> tuple[Handlers, Authorizer]:
    """Return what an edge has in place of handlers, and of what decides; :func:`ask_hosts` is to be called next."""
    return EdgeHandlers(), EdgeAuthorizer()


def ask_hosts(handlers: Handlers, authorizer: Authorizer, hosts: Hosts) -> None:
    """Have both ask hosts.

    :param handlers: of an edge.
    :param authorizer: of an edge.
    :param hosts: the hosts.
    """
    assert isinstance(handlers, EdgeHandlers)
    assert isinstance(authorizer, EdgeAuthorizer)
    handlers.hosts = authorizer.hosts = hosts


def environ_for(client: Client | None) -> dict[str, str]:
    """Return the environment of the request that is being answered; outside of any, of the one that opened a client.

    :param client: the client, if there is one.
    """
    if flask.has_request_context():
        return texts_of(flask.request.environ)
    return {} if client is None else texts_of(client.opening_environ())


def texts_of(environ: dict[str, Any]) -> dict[str, str]:
    """Return what of a WSGI environment can be sent to another process.

    :param environ: the environment.
    """
    return {key: value for key, value in environ.items() if isinstance(key, str) and isinstance(value, str)}
