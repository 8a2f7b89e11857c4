"""Sessions of Socket.IO's clients without requests, threads and time of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from hakgal_hybrid.broker.budget import Budget
from hakgal_hybrid.broker.engineio.packets import Packet, PacketType
from hakgal_hybrid.broker.engineio.session import EngineSession
from hakgal_hybrid.commands.socketio_admission import Admission
from hakgal_hybrid.commands.socketio_calls import Sharing
from hakgal_hybrid.commands.socketio_session import SocketIOSession
from hakgal_hybrid.socketio import SocketIO

from .engines import Clock

URL = "/socket.io/?EIO=4&transport=polling"


class Bench:
    """A host, and sessions of it without requests. What they have called runs when :meth:`run` says so.

    :ivar got: what the handlers were called with.
    :ivar budget: has room for what the clients send.
    """

    def __init__(self, *, json: Any = None, max_http_buffer_size: int = 1_000_000, budget: Budget | None = None,
                 **config: Any) -> None:
        self.app = Flask("bench")
        self.app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True, **config)
        self.socketio = SocketIO(self.app, namespaces="*", json=json, max_http_buffer_size=max_http_buffer_size)
        self.socketio.on("say")(self._said)
        self.socketio.on("disconnect")(self._ended)
        self.node = self.app.extensions["hakgal_hybrid"].state.node
        self.clock = Clock()
        self.budget = Budget(1 << 30) if budget is None else budget
        self.got: list[Any] = []
        self.tasks: list[Callable[[], object]] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.waits: list[float] = []

    def _said(self, value: Any) -> None:
        self.got.append(value)

    def _ended(self, reason: str) -> None:
        self.got.append(reason)

    def _submit(self, task: Callable[[], object]) -> bool:
        self.tasks.append(task)
        return True

    def session(self, admission: Admission | None = None, *, websocket: bool = True) -> EngineSession:
        sharing = Sharing(self.node, self._submit, lambda address: self.waits.pop(0) if self.waits else 0.0,
                          lambda seconds, call: self.timers.append((self.clock.now + seconds, call)), self.clock,
                          self.budget)
        upper = SocketIOSession(sharing, EnvironBuilder(environ_base={"REMOTE_ADDR": "127.0.0.1"}).get_environ(),
                                admission or Admission())
        return EngineSession(upper, self.node.engine_options, self.clock, websocket=websocket)

    def wait(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self.clock.now += seconds
        due = [call for at, call in self.timers if at <= self.clock.now]
        self.timers = [(at, call) for at, call in self.timers if at > self.clock.now]
        for call in due:
            call()

    def run(self) -> None:
        """Run what was handed to threads."""
        while self.tasks:
            self.tasks.pop(0)()

    def ask(self, method: str = "GET", query: str = "", body: str = "", **environ: Any) -> tuple[int, str]:
        answer = self.app.test_client().open(URL + query, method=method, data=body or None, environ_overrides=environ)
        return answer.status_code, answer.get_data(as_text=True)

    def counted(self) -> Any:
        return self.node.engine_counters.snapshot()


def say(session: EngineSession, *messages: str | bytes) -> None:
    for message in messages:
        session.receive(Packet(PacketType.MESSAGE, message))
