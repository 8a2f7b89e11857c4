"""The later vintage's door to coding agents: they identify themselves, get a task, and answer."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any


class CursorAdapter:
    """Hands tasks to the agents that have identified themselves.

    :param socketio: the push channel as it is **now**, or ``None``; the reference is kept.
    """

    def __init__(self, socketio: Any = None) -> None:
        self.socketio = socketio
        self.agents: dict[str, str] = {}
        self.responses: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def identify(self, sid: str, data: Any) -> None:
        """Remember an agent and give it its first task."""
        name = data.get("name") if isinstance(data, dict) else None
        with self._lock:
            self.agents[sid] = str(name or "cursor")
        self.send_task("Review the newest facts of the knowledge base.", sid)

    def send_task(self, description: str, sid: str | None = None) -> str | None:
        """Emit ``cursor_task`` to one agent or to all; ``None`` while there is no push channel."""
        if self.socketio is None:
            return None
        task_id = f"task-{next(self._numbers)}"
        task = {"task_id": task_id, "description": description, "timestamp": time.time()}
        self.socketio.emit("cursor_task", task, to=sid)
        return task_id

    def respond(self, data: Any) -> tuple[str, Any]:
        """Keep what an agent answered.

        :return: the id of the task and the response.
        """
        answer = data if isinstance(data, dict) else {"response": data}
        task_id, response = str(answer.get("task_id", "")), answer.get("response")
        with self._lock:
            self.responses[task_id] = response
        return task_id, response

    def forget(self, sid: str) -> None:
        """An agent has gone."""
        with self._lock:
            self.agents.pop(sid, None)


def get_agent_adapter(name: str, socketio: Any = None) -> CursorAdapter:
    """The adapter of one kind of agent."""
    if name != "cursor":
        raise ValueError(f"no adapter for agents of kind {name!r}: only 'cursor' is known")
    return CursorAdapter(socketio)
