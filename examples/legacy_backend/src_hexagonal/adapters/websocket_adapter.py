"""The push channel: what the dashboards are told, and what they may ask."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

from flask import Flask, request

from adapters import settings
from adapters.fact_repository import FactRepository
from adapters.reasoning_engine import ReasoningEngine
from adapters.request_stats import RequestStats

if settings.broadcaster() == "blocking":
    from adapters.blocking_socketio import SocketIO, emit, join_room, leave_room
else:
    from flask_socketio import SocketIO, emit, join_room, leave_room

log = logging.getLogger(__name__)

DASHBOARDS = "dashboards"
_INITIAL_FACTS = 20


class WebSocketAdapter:
    """What the host calls when something happened; each call emits right there and then."""

    def __init__(self, socketio: Any, facts: FactRepository, engine: ReasoningEngine) -> None:
        self.socketio = socketio
        self.fact_repository = facts
        self.reasoning_engine = engine
        self.connected_clients: set[str] = set()
        self.stats = RequestStats()

    def emit_fact_added(self, statement: str, success: bool) -> None:
        """A fact was stored: the fact itself and two summaries, three events in all."""
        metrics = self.fact_repository.metrics()
        update = {"fact_count": metrics["fact_count"], "last_fact": statement, "timestamp": time.time()}
        fact = {"statement": statement, "success": success, "timestamp": time.time()}
        self.socketio.emit("fact_added", fact)
        self.socketio.emit("kb_update", update)
        self.socketio.emit("kb_metrics", metrics)

    def emit_reasoning_complete(self, query: str, confidence: float, duration_ms: float) -> None:
        """A query was answered."""
        result = {
            "query": query,
            "confidence": confidence,
            "duration_ms": duration_ms,
            "timestamp": time.time(),
        }
        self.socketio.emit("reasoning_complete", result)

    def emit_governor_update(self, running: bool, mode: str) -> None:
        """The governor was started or stopped."""
        self.socketio.emit("governor_update", {"running": running, "mode": mode, "timestamp": time.time()})

    def emit_request_served(
        self, method: str, path: str, endpoint: str, status: int, duration_ms: float
    ) -> None:
        """A request was served. This leaves with every single one, ``/health`` included."""
        self.stats.add(method, path, endpoint, status, duration_ms)
        update = {**self.stats.snapshot(), "connected_clients": len(self.connected_clients)}
        self.socketio.emit("system_status_update", update)

    def client_connected(self) -> None:
        """Welcome the client that is being handled."""
        self.connected_clients.add(request.sid)
        join_room(DASHBOARDS)
        emit("connection_status", {"connected": True, "sid": request.sid, "timestamp": time.time()})

    def client_gone(self) -> None:
        """Forget the client that is being handled."""
        self.connected_clients.discard(request.sid)
        leave_room(DASHBOARDS)

    def send_initial_data(self) -> None:
        """All that a fresh dashboard needs, to the client that is being handled."""
        emit(
            "initial_data",
            {
                "facts": self.fact_repository.newest(_INITIAL_FACTS),
                "metrics": self.fact_repository.metrics(),
                "connected_clients": len(self.connected_clients),
            },
        )
        self.socketio.emit("llm_status", {"available": False, "model": None}, room=request.sid)


class LaterWebSocketAdapter(WebSocketAdapter):
    """What the later vintage added: answers of agents, through a queue and a thread."""

    def __init__(self, socketio: Any, facts: FactRepository, engine: ReasoningEngine) -> None:
        super().__init__(socketio, facts, engine)
        self._responses: queue.Queue[tuple[str, Any]] = queue.Queue()
        threading.Thread(target=self._send_responses, name="agent-responses", daemon=True).start()

    def emit_agent_response(self, task_id: str, response: Any) -> None:
        """An agent answered; the event leaves from the worker thread."""
        self._responses.put((task_id, response))

    def _send_responses(self) -> None:
        while True:
            task_id, response = self._responses.get()
            payload = {"task_id": task_id, "response": response, "timestamp": time.time()}
            try:
                self.socketio.emit("agent_task_response", payload)
            except Exception:  # one response that cannot be sent must not silence all later ones
                log.exception("the response to %s could not be sent", task_id)

    def emit_hrm_feedback_update(
        self, query: str, new_confidence: float, adjustment: float, metadata: dict[str, Any] | None = None
    ) -> None:
        """The reasoner learned from feedback."""
        self.socketio.emit(
            "hrm_feedback_update",
            {
                "query": query,
                "new_confidence": new_confidence,
                "adjustment": adjustment,
                "metadata": metadata or {},
                "timestamp": time.time(),
            },
        )


def _async_mode() -> str:
    """The later vintage asks for eventlet if it is there; without it threads keep everything working."""
    if settings.is_later():
        try:
            import eventlet  # noqa: F401
        except ImportError:
            return "threading"
        return "eventlet"
    return "threading"


def create_websocket_adapter(
    app: Flask, fact_repository: FactRepository, reasoning_engine: ReasoningEngine
) -> tuple[WebSocketAdapter, Any]:
    """Build the push channel of an application.

    :return: the adapter and its ``SocketIO``.
    """
    socketio = SocketIO(
        app,
        cors_allowed_origins="*",
        async_mode=_async_mode(),
        logger=False,
        engineio_logger=False,
        ping_timeout=60,
        ping_interval=25,
        max_http_buffer_size=1_000_000,
    )
    kind = LaterWebSocketAdapter if settings.is_later() else WebSocketAdapter
    adapter = kind(socketio, fact_repository, reasoning_engine)
    _register_handlers(adapter)
    return adapter, socketio


def _register_handlers(adapter: WebSocketAdapter) -> None:
    """The handlers that need the adapter only; the host registers the others."""
    socketio = adapter.socketio
    if settings.is_later():

        @socketio.on("connect")
        def on_connect(auth: Any = None) -> None:
            adapter.client_connected()

        @socketio.on("disconnect")
        def on_disconnect(reason: Any = None) -> None:
            adapter.client_gone()

    else:
        socketio.on("connect")(lambda: adapter.client_connected())
        socketio.on("disconnect")(lambda: adapter.client_gone())

    @socketio.on("request_initial_data")
    def on_request_initial_data(data: Any = None) -> None:
        adapter.send_initial_data()

    @socketio.on("kb_metrics_request")
    def on_kb_metrics_request(data: Any = None) -> None:
        emit("kb_metrics", adapter.fact_repository.metrics())

    @socketio.on("request_status")
    def on_request_status(data: Any = None) -> None:
        emit("system_status", adapter.stats.snapshot())
