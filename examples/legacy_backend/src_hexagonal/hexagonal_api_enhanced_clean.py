"""The backend of the knowledge base: a Flask application class with an optional push channel."""

from __future__ import annotations

from adapters.settings import patch_eventlet

# The later vintage patches the process before anything else is imported, as eventlet asks for.
EVENTLET_PATCHED = patch_eventlet()

# ruff: noqa: E402
import logging
import time
from typing import Any

from flask import Flask, Response, g, jsonify, request

# isort: split
from adapters import settings
from adapters.agent_adapter import get_agent_adapter
from adapters.cors import open_cors
from adapters.fact_repository import COUNT_TTL_S, FactRepository
from adapters.governor_adapter import get_governor_adapter
from adapters.http_helpers import (
    STATEMENT,
    key_accepted,
    limit_argument,
    refuse,
    require_key,
    seconds_argument,
    text_field,
    work,
)
from adapters.reasoning_engine import ReasoningEngine
from adapters.system_monitor import get_system_monitor
from adapters.websocket_adapter import create_websocket_adapter, emit

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_S = 120


class HexagonalAPI:
    """The host.

    :param use_legacy: keep the name of the former storage in ``/health``.
    :param enable_websocket: build the push channel; without it nothing is ever emitted.
    :param enable_governor: offer the governor.
    :param enable_sentry: report errors to Sentry; this example only says that it does not.
    """

    def __init__(
        self,
        use_legacy: bool = True,
        enable_websocket: bool = True,
        enable_governor: bool = True,
        enable_sentry: bool = False,
    ) -> None:
        self.app = Flask(__name__)
        self.port = settings.port()
        self.repository_name = "legacy" if use_legacy else "sqlite"
        self._own_endpoints: frozenset[str] = frozenset()
        open_cors(self.app)
        if enable_sentry:
            log.warning("enable_sentry: this example reports to nobody")
        self.fact_repository = FactRepository(settings.database_path())
        self.reasoning_engine = ReasoningEngine(self.fact_repository)
        self._build_adapters(enable_websocket, enable_governor)
        self._register_routes()
        self._register_websocket_routes()

    def _build_adapters(self, enable_websocket: bool, enable_governor: bool) -> None:
        """The order matters: whoever wants the push channel gets what it is at that moment."""
        self.websocket_adapter = None
        self.socketio = None
        if settings.is_later():
            self.system_monitor = None
        if enable_websocket:
            self.websocket_adapter, self.socketio = create_websocket_adapter(
                self.app, self.fact_repository, self.reasoning_engine
            )
            if settings.is_later():
                self.system_monitor = get_system_monitor(self.socketio)
                self.system_monitor.start_monitoring()
        self.governor = get_governor_adapter() if enable_governor else None
        if settings.is_later():
            self.cursor_adapter = get_agent_adapter("cursor", socketio=self.socketio)

    def _register_routes(self) -> None:
        before = set(self.app.view_functions)
        self._register_system_routes()
        self._register_fact_routes()
        self._register_query_routes()
        self._register_governor_routes()
        self._own_endpoints = frozenset(set(self.app.view_functions) - before)
        if self.websocket_adapter:
            self.websocket_adapter.stats.expect(self._own_endpoints)
        self.app.before_request(self._note_start)
        self.app.after_request(self._tell_dashboards)

    @staticmethod
    def _note_start() -> None:
        g.request_started = time.perf_counter()

    def _tell_dashboards(self, response: Response) -> Response:
        """Every request that one of the host's own routes served is broadcast before it is answered."""
        served = request.endpoint in self._own_endpoints and request.method != "OPTIONS"
        if self.websocket_adapter and served:
            started = g.get("request_started", time.perf_counter())
            duration_ms = (time.perf_counter() - started) * 1000
            self.websocket_adapter.emit_request_served(
                request.method, request.path, request.endpoint, response.status_code, duration_ms
            )
        return response

    def _register_system_routes(self) -> None:
        @self.app.get("/health")
        def health() -> Response:
            return jsonify(
                status="operational",
                architecture="hexagonal",
                port=self.port,
                repository=self.repository_name,
            )

        @self.app.get("/api/status")
        def status() -> Response:
            return jsonify(self._status())

        @self.app.get("/api/work")
        def long_report() -> Response:
            seconds, burn = seconds_argument(), request.args.get("burn", "").lower() in ("1", "true", "yes")
            started = time.perf_counter()
            rounds = work(seconds, burn)
            return jsonify(seconds=round(time.perf_counter() - started, 3), burn=burn, rounds=rounds)

    def _status(self) -> dict[str, Any]:
        adapter, governor = self.websocket_adapter, self.governor
        return {
            "status": "operational",
            "architecture": "hexagonal",
            "port": self.port,
            "vintage": settings.vintage(),
            "fact_count": self.fact_repository.count(),
            "websocket": {
                "enabled": adapter is not None,
                "connected_clients": len(adapter.connected_clients) if adapter else 0,
            },
            "governor": {"enabled": governor is not None, "running": bool(governor and governor.running)},
        }

    def _register_fact_routes(self) -> None:
        @self.app.get("/api/facts")
        def list_facts() -> Response:
            facts = self.fact_repository.newest(limit_argument())
            return jsonify(facts=[{"statement": statement} for statement in facts], count=len(facts))

        @self.app.post("/api/facts")
        def add_fact() -> tuple[Response, int]:
            require_key()
            statement = text_field("statement")
            if not STATEMENT.fullmatch(statement):
                refuse(422, f"{statement[:80]!r} does not read Predicate(Entity1, Entity2).")
            if not self.fact_repository.add(statement):
                return jsonify(success=False, statement=statement, message="the fact exists"), 409
            if self.websocket_adapter:
                self.websocket_adapter.emit_fact_added(statement, True)
            return jsonify(success=True, statement=statement), 201

        @self.app.get("/api/facts/count")
        def count_facts() -> Response:
            count, cached = self.fact_repository.cached_count()
            return jsonify(count=count, cached=cached, ttl_sec=COUNT_TTL_S)

    def _register_query_routes(self) -> None:
        @self.app.post("/api/search")
        def search() -> Response:
            query = text_field("query")
            found = self.fact_repository.search(query, limit_argument())
            return jsonify(query=query, results=[{"statement": fact} for fact in found], count=len(found))

        @self.app.post("/api/reason")
        def reason() -> Response:
            result = self.reasoning_engine.reason(text_field("query"))
            if self.websocket_adapter:
                self.websocket_adapter.emit_reasoning_complete(
                    result["query"], result["confidence"], result["duration_ms"]
                )
            return jsonify(result)

    def _register_governor_routes(self) -> None:
        @self.app.get("/api/governor/status")
        def governor_status() -> Response:
            return jsonify(self._governor_or_refuse().get_status())

        @self.app.post("/api/governor/start")
        def governor_start() -> Response:
            require_key()
            success = self._governor_or_refuse().start()
            self._tell_governor()
            return jsonify(success=success, running=self.governor.running)

        @self.app.post("/api/governor/stop")
        def governor_stop() -> Response:
            require_key()
            success = self._governor_or_refuse().stop()
            self._tell_governor()
            return jsonify(success=success, running=self.governor.running)

    def _governor_or_refuse(self) -> Any:
        return self.governor or refuse(503, "the governor is not enabled")

    def _tell_governor(self) -> None:
        if self.websocket_adapter:
            self.websocket_adapter.emit_governor_update(self.governor.running, self.governor.mode)

    def _register_websocket_routes(self) -> None:
        if not self.socketio:
            return

        @self.socketio.on("request_status")  # the adapter has registered one too; the last one wins
        def on_request_status(data: Any = None) -> None:
            emit("system_status", self._status())

        @self.socketio.on("governor_status_request")
        def on_governor_status_request(data: Any = None) -> None:
            if self.governor:
                emit("governor_update", self.governor.get_status())

        @self.socketio.on("reasoning_request")
        def on_reasoning_request(data: Any) -> None:
            query = str(data.get("query", "")) if isinstance(data, dict) else ""
            result = self.reasoning_engine.reason(query)
            self.socketio.emit("reasoning_result", result, room=request.sid)
            self.socketio.emit("hrm_update", {"query": query, "confidence": result["confidence"]})
            self.websocket_adapter.emit_reasoning_complete(query, result["confidence"], result["duration_ms"])

        @self.socketio.on("governor_control")
        def on_governor_control(data: Any) -> None:
            self._control_governor(data if isinstance(data, dict) else {})

        if settings.is_later():
            self._register_agent_handlers()

    def _control_governor(self, data: dict[str, Any]) -> None:
        """What a dashboard may do to the governor; the answer goes to that dashboard only."""
        action, sid = data.get("action"), request.sid
        commands = {"start": self.governor.start, "stop": self.governor.stop} if self.governor else {}
        if not key_accepted(data.get("apiKey") or request.args.get("apiKey")):
            self.socketio.emit("governor_update", {"error": "apiKey is missing or wrong"}, to=sid)
        elif action not in commands:
            self.socketio.emit("governor_update", {"error": f"cannot {action!r} the governor"}, to=sid)
        else:
            success = commands[action]()
            state = {"running": self.governor.running, "mode": self.governor.mode}
            emit("governor_update", {"action": action, "success": success, **state})

    def _register_agent_handlers(self) -> None:
        @self.socketio.on("cursor_identify")
        def on_cursor_identify(data: Any = None) -> None:
            self.cursor_adapter.identify(request.sid, data)

        @self.socketio.on("cursor_response")
        def on_cursor_response(data: Any = None) -> None:
            self.websocket_adapter.emit_agent_response(*self.cursor_adapter.respond(data))

    def run(self, host: str = "127.0.0.1", port: int = settings.DEFAULT_PORT, debug: bool = False) -> None:
        """Serve until the process ends."""
        self.port = port
        if self.socketio:
            self.socketio.run(
                self.app,
                host=host,
                port=port,
                debug=debug,
                use_reloader=False,
                log_output=False,
                **self._server_options(),
            )
        else:
            self.app.run(host=host, port=port, debug=debug, threaded=True, use_reloader=False)

    def _server_options(self) -> dict[str, Any]:
        """Flask-SocketIO passes unknown options on to its server, and Werkzeug's knows no socket_timeout."""
        bases = {base.__module__.partition(".")[0] for base in type(self.socketio).__mro__}
        if "flask_socketio" in bases and self.socketio.async_mode == "threading":
            return {"allow_unsafe_werkzeug": True}
        return {"socket_timeout": SOCKET_TIMEOUT_S} if settings.is_later() else {}


def create_app(use_legacy: bool = False, enable_all: bool = True) -> HexagonalAPI:
    """Build the host with everything on or off."""
    return HexagonalAPI(
        use_legacy=use_legacy,
        enable_websocket=enable_all,
        enable_governor=enable_all,
        enable_sentry=False,
    )
