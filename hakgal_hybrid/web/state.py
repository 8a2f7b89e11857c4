"""AppState: what one app has of us: the node that serves its clients, and our URLs in front of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Flask

from ..commands.authorization import Authorizer
from ..commands.edge import ask_hosts, edge_parts
from ..commands.handlers import Handlers
from ..commands.node import Node
from ..logs import LIMIT, redact_server_logs
from ..monitoring.backlog import BacklogMonitor
from ..monitoring.samples import SampleHistory
from ..monitoring.statistics import Statistics
from ..settings import Profile, Settings
from .app import answer_in_front, refuse_conflicts, refuse_other_socketio
from .gate import Gate
from .origins import Origins
from .ratelimit import RateLimiter
from .services import Services
from .statistics import remember, snapshot
from .tickets import Tickets
from .urls import ROUTES, Paths, Route


class AppState:
    """What one app has of us. Making it answers our URLs in front of the app (in profile WEBSOCKET: none).

    :param app: the app to serve.
    :param settings: frozen.
    :param otherwise: what has counted in place of the defaults, by setting.
    :raises ConfigurationError: for an app that owns one of our URLs.
    :ivar handlers: the handlers of this app.
    :ivar authorizer: has the application decide what clients of this app may do.
    :ivar services: the parts that views use.
    :ivar node: the log, the hub, and what takes commands.
    :ivar hub: clients, rooms and streams.
    :ivar log: the events that are retained.
    :ivar governor: the governor of this app alone, if one was named.
    :ivar governors: each returns a governor that was named for all apps of an object, or ``None``.
    :ivar host: the object that the app belongs to, if there is one.
    :ivar mode: ``sse``; ``websocket`` where the host kept its own WebSocket.
    :ivar facade: the ``SocketIO`` of this app, once there is one.
    :ivar paths: our URLs as our own server sees them.
    :ivar refuses: returns whether a request, by its WSGI environment, seems not to be permitted: :meth:`.Gate.refuses`.
    """

    def __init__(self, app: Flask, settings: Settings, otherwise: Mapping[str, Any]) -> None:
        self.app, self.settings, self.otherwise = app, settings, otherwise
        self.paths = Paths(settings.prefix)
        if settings.is_edge:
            settings.check_edge()
        self.handlers, self.authorizer = edge_parts() if settings.is_edge else (Handlers(), Authorizer())
        self.governor: Any = None
        self.governors: list[Callable[[], Any]] = []
        self.host: Any = None
        self._mode = "sse"
        self.facade: Any = None
        self.refuses: Callable[[dict[str, Any]], bool] = lambda environ: False
        self._served: Collection[str] = ()
        self._gate: Gate | None = None
        LIMIT.forget()  # what an earlier app has said too often, this one has not
        self.node = Node(app, settings, self.handlers, self.authorizer, self.find_governor)
        if self.node.neighbours is not None and self.node.neighbours.hosts is not None:
            ask_hosts(self.handlers, self.authorizer, self.node.neighbours.hosts)
        self.hub, self.log = self.node.hub, self.node.log
        backlog, samples = BacklogMonitor(self.hub), SampleHistory()
        backlog.on_sample = partial(remember, samples, self.statistics)
        tickets = Tickets(lambda: _secret_keys(app), self.hub.sessions.find)
        if self.node.backplane is not None:
            self.hub.sessions.new_ticket = lambda: tickets.name_session(self.hub.broker.process)
        self.services = Services(self.node, tickets, Origins(settings.origins), RateLimiter(settings.command_rate),
                                 backlog, samples, self.statistics)
        if settings.profile is not Profile.WEBSOCKET:
            self._gate = gate = answer_in_front(app, self.services, self.paths)
            self._served, self.refuses = gate.served, gate.refuses
            redact_server_logs()

    def withdraw(self) -> bool:
        """Answer our URLs no more, so that the app can be served anew by other settings, if nothing has happened yet.

        :return: true if it is so; false where something was emitted or served, is kept in a file or in Redis, or stands
            in front of our URLs.
        """
        node, gate = self.node, self._gate
        used = node.serving or node.journal or node.backplane or self.log.newest or self.hub.clients()
        named = self.host is not None or self.governor is not None
        if used or named or gate is None or self.app.wsgi_app is not gate:
            return False
        self.app.wsgi_app = gate.host  # type: ignore[method-assign]
        return True

    @property
    def mode(self) -> str:
        """How clients are served."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        self.node.host_socketio = mode != "sse"

    def routes(self) -> list[Route]:
        """Return the URLs that are served in front of the app; its ``url_map`` does not have them."""
        prefix = self.settings.prefix
        return [replace(route, rule=prefix + route.rule) for route in ROUTES.values() if route.rule in self._served]

    def refuse_conflicts(self) -> None:
        """Check that nothing of the app's own serves one of our URLs; see :func:`.refuse_conflicts`.

        It is called again when a host has registered all of its routes.

        :raises ConfigurationError: naming the URL and the app's endpoint.
        """
        refuse_conflicts(self.app, self._served, self.settings.prefix)
        path = self.node.engine_options.path
        if self.node.serves_engineio(path):
            refuse_other_socketio(self.app, path)

    def find_governor(self) -> Any:
        """Return the governor: the one of this app, the one for all apps, or the host's own; ``None`` without any."""
        named = (self.governor, *(find() for find in self.governors), getattr(self.host, "governor", None))
        return next((governor for governor in named if governor is not None), None)

    def statistics(self) -> Statistics:
        """Return a snapshot of everything that is counted."""
        node = self.node
        more = "+socketio" if self.mode == "sse" and node.serves_engineio(node.engine_options.path) else ""
        return snapshot(node, self.services.backlog, self.mode + more, self.services.origins.open_to)


def _secret_keys(app: Flask) -> list[bytes]:
    """Return the keys that the app signs with, the current one last, as itsdangerous takes them."""
    if not app.secret_key:
        return []
    keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
    return [key.encode() if isinstance(key, str) else key for key in keys]
