"""Our URLs: the methods that each takes, and who may use it. This table is the whole of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from ..settings import Settings

STREAM = "/api/events/stream"
WEBSOCKET = "/api/events/ws"
CONNECT = "/api/events/connect"
DISCONNECT = "/api/events/disconnect"
TICKET = "/api/events/ticket"
EMIT = "/api/events/emit"
PUBLISH = "/api/events/publish"
ACK = "/api/events/ack"
CONTROL = "/api/governor/control"
OUTCOME = "/api/governor/control/<id>"
STATUS = "/api/hybrid/status"
OPENAPI = "/api/hybrid/openapi.json"
CLIENTS = "/api/hybrid/clients"
HISTORY = "/api/hybrid/history"
METRICS = "/api/hybrid/metrics"
DASHBOARD = "/api/hybrid/"
DASHBOARD_FILE = "/api/hybrid/dashboard/<file>"
LIVE = "/api/hybrid/live"
READY = "/api/hybrid/ready"
SEEN = "/api/hybrid/seen"
STACKS = "/api/hybrid/stacks"
BACKPLANE = "/api/hybrid/backplane"
CLIENT = "/api/hybrid/client.js"
CLASSIC_CLIENT = "/api/hybrid/client.classic.js"

_READ, _POST = "GET, HEAD, OPTIONS", "POST, OPTIONS"


class Access(enum.Enum):
    """Who may use a URL, as far as address, origin and key say; :func:`hakgal_hybrid.web.access.check` decides."""

    #: Everybody, pages of other origins included: code that is the same for all, loaded before anything can be proven.
    PUBLIC = "public"
    #: This machine, and requests with the key.
    READ = "read"
    #: The same, and requests with a ticket, which only somebody who may read can get.
    TICKET = "ticket"
    #: Requests with the key; those of this machine where no key is set. Limited in number by ``HYBRID_COMMAND_RATE``.
    COMMAND = "command"
    #: Everybody; behind the gate the application decides. So it is of the clients' URLs with ``HYBRID_ACCESS=app``.
    APP = "app"


@dataclass(frozen=True, slots=True)
class Route:
    """One URL of ours.

    The gate applies ``methods`` and ``access`` before any view runs. What the body says is judged behind it: by
    :func:`.client_of` where ``token`` is true, and last of all by the application's own function, where there is one.

    :ivar rule: the path, in the form of Flask's routing rules.
    :ivar methods: the methods that the URL takes, as the header ``Allow`` lists them.
    :ivar access: who may use the URL.
    :ivar clients: true if this is for the application's clients, not for its operator: with ``HYBRID_ACCESS=app`` it is
        open from anywhere, and where every origin is allowed, it is for pages of every origin.
    :ivar token: true where a ``sid`` in the body counts only together with its client's ``X-Hybrid-Token``.
    :ivar actions: the actions that the function given to ``transport.authorize`` is called for.
    """

    rule: str
    methods: str
    access: Access
    clients: bool = False
    token: bool = False
    actions: tuple[str, ...] = ()

    def access_by(self, settings: Settings) -> Access:
        """Return who may use the URL with some settings.

        :param settings: say whether the application decides.
        """
        opened = self.clients and self.access is not Access.PUBLIC and settings.access == "app"
        return Access.APP if opened else self.access


#: All URLs of ours, by rule.
ROUTES = {route.rule: route for route in (
    Route(STREAM, _READ, Access.TICKET, clients=True, actions=("stream", "connect")),
    Route(WEBSOCKET, "GET, OPTIONS", Access.TICKET, clients=True, actions=("stream", "connect")),
    Route(CONNECT, _POST, Access.READ, clients=True, actions=("connect",)),
    Route(DISCONNECT, _POST, Access.READ, clients=True, token=True),
    Route(TICKET, _POST, Access.COMMAND, clients=True),
    Route(EMIT, _POST, Access.COMMAND, clients=True, token=True, actions=("emit",)),
    Route(PUBLISH, _POST, Access.COMMAND, actions=("publish",)),
    Route(ACK, _POST, Access.COMMAND, clients=True, token=True),
    Route(CONTROL, _POST, Access.COMMAND, actions=("command",)),
    Route(OUTCOME, _READ, Access.COMMAND),
    Route(STATUS, _READ, Access.READ),
    Route(OPENAPI, _READ, Access.READ),
    Route(CLIENTS, _READ, Access.READ),
    Route(HISTORY, _READ, Access.READ),
    Route(METRICS, _READ, Access.READ),
    Route(LIVE, _READ, Access.PUBLIC),
    Route(READY, _READ, Access.PUBLIC),
    Route(SEEN, _READ, Access.READ),
    Route(STACKS, _POST, Access.COMMAND),
    Route(BACKPLANE, _POST, Access.COMMAND),
    Route(DASHBOARD, _READ, Access.PUBLIC),
    Route(DASHBOARD_FILE, _READ, Access.PUBLIC),
    Route(CLIENT, _READ, Access.PUBLIC, clients=True),
    Route(CLASSIC_CLIENT, _READ, Access.PUBLIC, clients=True),
)}
#: The routes whose last part is a variable, by what stands before it.
_FOLDERS = {rule.rpartition("/")[0]: ROUTES[rule] for rule in (OUTCOME, DASHBOARD_FILE)}


def normal(path: str) -> str:
    """Return a path as Werkzeug's routing sees it: the slashes that it begins with count as one.

    :param path: ``PATH_INFO`` of a request.
    """
    return "/" + path.lstrip("/")


def find(path: str, prefix: str = "") -> Route | None:
    """Return the route of a path, or ``None`` if the path is not ours.

    A rule of Flask's routing can be given as well. One with a variable where we have none is not ours.

    :param path: ``PATH_INFO`` of a request.
    :param prefix: what our URLs begin with (``HYBRID_PREFIX``).
    """
    path = normal(path)
    if prefix:
        path, whole = path.removeprefix(prefix), path
        if path == whole:
            return None
    route = ROUTES.get(path)
    if route is None:
        folder, _, name = path.rpartition("/")
        route = _FOLDERS.get(folder) if name else None
    return route


class Paths:
    """Our URLs as our own server sees them: below the prefix, and below what the app is mounted at.

    The app learns from its requests what it is mounted at. Until then, they are the host's to the server: they are
    answered all the same, by the host's threads.

    :param prefix: what our URLs begin with (``HYBRID_PREFIX``).
    """

    #: How many mounts are remembered. An app has one or two.
    MOUNTS = 8

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._roots: tuple[str, ...] = (prefix,)

    def find(self, path: str) -> Route | None:
        """Return the route of a path, or ``None`` if the path is not ours.

        :param path: the path of a request, percent-decoded.
        """
        for root in self._roots:
            route = find(path, root)
            if route is not None:
                return route
        return None

    def learn(self, path: str, path_info: str) -> None:
        """Remember what the app is mounted at.

        :param path: the path of a request for one of our URLs, as the server has it.
        :param path_info: the same, as the app has it.
        """
        root = path.removesuffix(path_info) + self._prefix
        if path.endswith(path_info) and root not in self._roots and len(self._roots) <= self.MOUNTS:
            self._roots += (root,)

    def is_ours(self, path: str) -> bool:
        """Return true if a path is one of our URLs.

        :param path: the path of a request, percent-decoded.
        """
        return self.find(path) is not None

    def is_stream(self, path: str) -> bool:
        """Return true if a request for a path opens a stream.

        :param path: the path of a request, percent-decoded.
        """
        route = self.find(path)
        return route is not None and route.rule in (STREAM, WEBSOCKET)

    def lane_of(self, path: str) -> Literal["host", "stream", "control"]:
        """Return the thread pool of our own server that answers a request: our URLs never wait for the host's threads.

        :param path: the path of a request, percent-decoded.
        """
        route = self.find(path)
        if route is None:
            return "host"
        if route.rule in (STREAM, CONNECT, DISCONNECT):
            return "stream"
        if route.rule in (CONTROL, TICKET) or route.rule.startswith((CONTROL + "/", DASHBOARD)):
            return "control"
        return "host"
