"""The Flask app that answers our URLs. It stands in front of the host's app, and shares nothing with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from typing import Any

from flask import Blueprint, Flask, Request
from werkzeug.routing import MapAdapter, Rule

from ..errors import ConfigurationError
from ..logs import get_logger
from ..settings import Profile
from . import assets, clients, control, diagnosis, monitor, openapi, probes, stream
from .engineio import EngineEndpoint
from .forwarding import server_of
from .gate import Gate
from .services import Services
from .urls import Paths, find, normal
from .websocket import view as websocket

logger = get_logger(__name__)


class HybridApp(Flask):
    """Runs the view of a request, and nothing else.

    There are no sessions, hooks or signals around a view: what a host, or a library that it uses, connects to every
    Flask app of the process finds nothing here. Errors are raised; the gate in front makes problem documents of them.

    :param host: the host's app.
    :param max_body_bytes: the largest body that is read, in bytes.
    """

    def __init__(self, host: Flask, max_body_bytes: int) -> None:
        super().__init__("hakgal_hybrid.web", static_folder=None)
        self.host = host
        # The environment's FLASK_DEBUG is about the host.
        self.config.update(DEBUG=False, MAX_CONTENT_LENGTH=max_body_bytes)

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request.

        :param environ: the WSGI environment.
        :param start_response: takes status and headers of the answer.
        :return: the chunks of the answer.
        :raises HybridError: what the view raises.
        :raises HTTPException: what Werkzeug raises: no view for this URL, a body that is too large.
        """
        with self.request_context(environ):
            response = self.make_response(self.dispatch_request())
        return response(environ, start_response)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Find the view of a request. The gate has checked its method, so most paths say all.

        :param request: the request; ``None`` outside of any.
        :return: what Flask is to match the request by; ``None`` if its view was found.
        """
        rule = None if request is None else self._fixed_rules.get(normal(request.environ["PATH_INFO"]))
        if request is None or rule is None:
            return super().create_url_adapter(request)
        request.url_rule, request.view_args = rule, {}
        return None

    @cached_property
    def _fixed_rules(self) -> dict[str, Rule]:
        """The rules by their paths, without those that have variables or share their path."""
        paths = Counter(rule.rule for rule in self.url_map.iter_rules())
        return {rule.rule: rule for rule in self.url_map.iter_rules() if not rule.arguments and paths[rule.rule] == 1}


def answer_in_front(host: Flask, services: Services, paths: Paths) -> Gate:
    """Answer our URLs in front of a host's app, as its settings ask for them.

    :param host: the host's app, whose ``wsgi_app`` is wrapped.
    :param services: the parts that the views use.
    :param paths: our URLs as our own server sees them; learns what the app is mounted at.
    :return: the middleware that answers them.
    :raises ConfigurationError: if the host has a route of its own for one of them.
    """
    settings = services.node.settings
    app = HybridApp(host, settings.max_message_bytes)
    prefix = settings.prefix
    for blueprint in _blueprints(services):
        app.register_blueprint(blueprint, url_prefix=prefix)
    served = frozenset(rule.rule.removeprefix(prefix) for rule in app.url_map.iter_rules())
    refuse_conflicts(host, served, prefix)
    gate = Gate(
        host.wsgi_app, app, served, settings, origins=services.origins, paths=paths,
        known_as=services.known_as, knows_ticket=services.tickets.admits, rate=services.rate,
        refusals=services.node.refusals, on_serving=services.node.begin,
        engineio=EngineEndpoint(services) if settings.serves_socketio else None)
    if services.node.requests is not None:
        services.node.requests.serve = server_of(app, prefix)
    host.wsgi_app = gate  # type: ignore[method-assign]
    return gate


def refuse_conflicts(host: Flask, served: Collection[str], prefix: str) -> None:
    """Check that a host has no route of its own for one of our URLs: it would never be called.

    A route with variables where ours has none, such as ``/<path:path>``, is no conflict: it is for other URLs.

    :param host: the host's app.
    :param served: the rules of the URLs that are answered in front of it, without prefix.
    :param prefix: what these begin with.
    :raises ConfigurationError: naming the URL and the host's endpoint.
    """
    for rule in host.url_map.iter_rules():
        route = find(rule.rule, prefix)
        if route is not None and route.rule in served:
            raise ConfigurationError(f"the host's endpoint {rule.endpoint!r} owns {rule.rule}, a URL that "
                                     "hakgal_hybrid needs; move the host's route")


def refuse_other_socketio(host: Flask, path: str) -> None:
    """Check that nothing else serves the URL of Socket.IO's clients: some of them would come there, and miss events.

    Files below it, such as ``/socket.io/<path:name>``, are no conflict.

    :param host: the host's app.
    :param path: the path of the URL, without a slash at its end.
    :raises ConfigurationError: naming what does.
    """
    other = next((f"the host's endpoint {rule.endpoint!r}" for rule in host.url_map.iter_rules()
                  if rule.rule.rstrip("/") == path), None) or _other_socketio(host.wsgi_app, path)
    if other is not None:
        raise ConfigurationError(f"{other} owns {path}/, the URL where hakgal_hybrid serves clients of Socket.IO; move "
                                 "it, give SocketIO another path (path=…), or set APP_PROFILE=HYBRID and "
                                 "ENABLE_WS_SPECIAL=false")


def _other_socketio(app: Any, path: str) -> str | None:
    """Return what serves a path among the WSGI apps that are put around an app."""
    seen: set[int] = set()
    while app is not None and id(app) not in seen and not isinstance(app, Flask):
        seen.add(id(app))
        if getattr(app, "engineio_path", "").rstrip("/") == path:
            return f"a server of python-socketio's ({type(app).__module__}.{type(app).__qualname__})"
        if path in (getattr(app, "mounts", None) or ()):
            return f"an app that is mounted there by {type(app).__qualname__}"
        # The names that Werkzeug's and python-engineio's middleware have for the app behind them, and ours.
        app = next((found for name in ("wsgi_app", "app", "host")
                    if (found := getattr(app, name, None)) is not None), None)
    return None


def _blueprints(services: Services) -> Iterator[Blueprint]:
    """Yield what answers the URLs that the settings ask for."""
    settings = services.node.settings
    yield monitor.blueprint(services)
    yield probes.blueprint(services)
    yield assets.blueprint()
    yield diagnosis.blueprint(services)
    yield openapi.blueprint()
    if settings.enable_sse:
        yield stream.blueprint(services)
        yield clients.blueprint(services)
    elif settings.enable_ws_special or settings.profile is Profile.DUAL:
        logger.warning("ENABLE_SSE=false: nobody is served, clients of Socket.IO neither, whatever APP_PROFILE=%s and "
                       "ENABLE_WS_SPECIAL say; APP_PROFILE=WEBSOCKET leaves the app to Flask-SocketIO",
                       settings.profile.value)
    if settings.enable_control_http:
        yield control.blueprint(services)
    if settings.enable_ws_special:
        yield websocket.blueprint(services)
