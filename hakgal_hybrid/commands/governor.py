"""Governor: commands run in order, away from requests, and their outcomes can be asked for later."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from ..broker.payload import json_safe
from ..errors import Overloaded, RequestError
from ..logs import get_logger
from .worker import Worker

logger = get_logger(__name__)

#: How long an answer waits for its command (seconds): leaves half of the promised 50 ms for everything else.
INLINE_WAIT_S = 0.025
#: Longest ``Idempotency-Key``.
MAX_KEY = 255


class Command:
    """One accepted command and, in time, its outcome.

    :param action: what the governor shall do.
    :param arguments: its arguments, by name.
    :ivar status: ``accepted``, ``running``, ``done`` or ``failed``.
    """

    def __init__(self, action: str, arguments: dict[str, Any]) -> None:
        self.id = secrets.token_urlsafe(12)
        self.action = action
        self.arguments = arguments
        self.status = "accepted"
        self.result: Any = None
        self.error: str | None = None
        self._finished = threading.Event()

    def run(self, call: Callable[[], Any]) -> None:
        """Run the command. Its result is turned into something that JSON can hold.

        :param call: calls the governor; takes nothing.
        """
        self.status = "running"
        try:
            self.result = json_safe(call())
        except BaseException as error:  # a governor that exits has failed too; the worker goes on
            logger.exception("command %s raised", self.action)
            self.error = f"{type(error).__name__}: {_text_of(error)}"
        # The outcome is complete before :attr:`finished` says that there is one.
        self.status = "done" if self.error is None else "failed"
        self._finished.set()

    @property
    def finished(self) -> bool:
        """True once there is an outcome."""
        return self._finished.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the outcome; false if there is none yet.

        :param seconds: how long to wait at most.
        """
        return self._finished.wait(seconds)

    def report(self) -> dict[str, Any]:
        """Return what clients get: ``status``, ``id``, ``action`` and, once there is one, the outcome."""
        report: dict[str, Any] = {"status": self.status, "id": self.id, "action": self.action}
        if self.status == "done":
            report["result"] = self.result
        if self.status == "failed":
            report["error"] = self.error
        return report


class CommandStore:
    """Remembers commands by id and by ``Idempotency-Key``; the oldest finished ones are forgotten first.

    :param limit: how many commands are remembered, those without an outcome left aside.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._commands: OrderedDict[str, Command] = OrderedDict()
        self._keys: dict[str, Command] = {}
        self._lock = threading.Lock()

    def find(self, command_id: str) -> Command:
        """Return a command.

        :param command_id: the command's id.
        :raises RequestError: 404 if there is none, or it was so long ago that it is forgotten.
        """
        command = self._commands.get(command_id)
        if command is None:
            raise RequestError(f"no command {command_id!r} is remembered", status=404, code="unknown_command")
        return command

    def enter(self, action: str, arguments: dict[str, Any], key: str | None, *,
              room: bool) -> tuple[Command, bool]:
        """Accept a command, or return the one that was accepted under the same key before.

        :param action: what the governor shall do.
        :param arguments: its arguments, by name.
        :param key: the ``Idempotency-Key``, or ``None``.
        :param room: false if no new command can be taken; one that was accepted before is returned all the same.
        :return: the command, and whether it is a repetition.
        :raises RequestError: if the key was used for another command, or is too long.
        :raises Overloaded: if there is no room; nothing is remembered then, the key may be used again.
        """
        if key is not None and not 0 < len(key) <= MAX_KEY:
            raise RequestError(f"Idempotency-Key must have 1 to {MAX_KEY} characters", code="bad_idempotency_key")
        with self._lock:
            earlier = self._keys.get(key) if key is not None else None
            if earlier is not None:
                if (earlier.action, earlier.arguments) != (action, arguments):
                    raise RequestError("this Idempotency-Key was used for another command",
                                       code="idempotency_key_reused")
                return earlier, True
            if not room:
                raise Overloaded("too many commands are waiting (HYBRID_COMMAND_QUEUE)",
                                 code="command_queue_full", status=429, retry_after=5)
            command = Command(action, arguments)
            self._commands[command.id] = command
            if key is not None:
                self._keys[key] = command
            self._forget()
        return command, False

    def _forget(self) -> None:
        while len(self._commands) > self._limit:
            oldest = next((item for item in self._commands.values() if item.finished), None)
            if oldest is None:
                return  # none has an outcome yet; how many those can be is bounded by the queue
            del self._commands[oldest.id]
            self._keys = {key: command for key, command in self._keys.items() if command is not oldest}


#: What ``POST /api/governor/control`` takes, and the arguments each needs.
ACTIONS: dict[str, tuple[str, ...]] = {"start": (), "stop": (), "status": (), "set_mode": ("mode",)}


class _BoundedWorker:
    """Runs commands one after the other in a thread of its own, and counts how many more may wait.

    :param name: the name of the thread.
    :param limit: how many commands may wait.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.worker = Worker(name, limit)
        self.free = threading.Semaphore(limit)


class GovernorQueue:
    """Takes commands for a governor and runs them in order, one at a time, in a thread of its own.

    ``status`` has a thread of its own, so that it is answered while ``stop()`` blocks.

    :param governor: returns the governor, or ``None``.
    :param queue_limit: how many commands may wait, and how many calls of ``status``.
    :param results: how many commands are remembered.
    :param on_received: called with a command in the worker's thread, right before it runs.
    :param on_finished: called with a command that has run, and with the governor's status after it; ``None`` if that
        could not be had.
    :param inline_wait_s: how long (seconds) an answer waits for its command.
    :ivar store: the commands that are remembered.
    """

    def __init__(self, governor: Callable[[], Any], *, queue_limit: int, results: int,
                 on_received: Callable[[Command], None],
                 on_finished: Callable[[Command, dict[str, Any] | None], None],
                 inline_wait_s: float = INLINE_WAIT_S) -> None:
        self.store = CommandStore(results)
        self._governor, self._inline_wait_s = governor, inline_wait_s
        self._on_received, self._on_finished = on_received, on_finished
        self._commands = _BoundedWorker("hakgal-hybrid-commands", queue_limit)
        self._status = _BoundedWorker("hakgal-hybrid-status", queue_limit)

    @property
    def there(self) -> bool:
        """Whether there is a governor."""
        return self._governor() is not None

    @property
    def waiting(self) -> int:
        """How many commands have not begun."""
        return self._commands.worker.waiting

    def take(self, action: object, arguments: dict[str, Any], key: str | None = None) -> tuple[Command, bool]:
        """Accept a command and wait a moment for its outcome.

        :param action: one of :data:`ACTIONS`.
        :param arguments: what came with it; what the action does not need is left out.
        :param key: the ``Idempotency-Key``, or ``None``.
        :return: the command, which may be finished already, and whether it repeats an earlier one.
        :raises RequestError: 422 for an unknown action or a missing argument, 409 without a governor.
        :raises Overloaded: 429 if too many commands wait.
        """
        if not isinstance(action, str) or action not in ACTIONS:
            raise RequestError(f"unknown action {action!r:.80}; use one of {', '.join(ACTIONS)}",
                               code="unknown_action", accepted=list(ACTIONS))
        for name in ACTIONS[action]:
            if not isinstance(arguments.get(name), str) or not arguments[name]:
                raise RequestError(f"action {action!r} needs {name!r}, a text", code="missing_argument")
        arguments = {name: arguments[name] for name in ACTIONS[action]}
        governor = self._governor()
        if governor is None:
            raise RequestError("this host has no governor", status=409, code="no_governor")
        queue = self._status if action == "status" else self._commands
        room = queue.free.acquire(blocking=False)
        taken = False
        try:
            command, repeated = self.store.enter(action, arguments, key, room=room)
            taken = not repeated
        finally:
            if room and not taken:
                queue.free.release()
        if taken:
            queue.worker.submit(partial(self._execute, queue, governor, command))
        command.wait(self._inline_wait_s)
        return command, repeated

    def _execute(self, queue: _BoundedWorker, governor: Any, command: Command) -> None:
        queue.free.release()
        method = "get_status" if command.action == "status" else command.action
        self._on_received(command)
        command.run(lambda: getattr(governor, method)(*command.arguments.values()))
        self._on_finished(command, None if command.action == "status" else _status_of(governor))


def _text_of(error: BaseException) -> str:
    try:
        return str(json_safe(str(error)))
    except Exception:
        return "(it cannot say why)"


def _status_of(governor: Any) -> dict[str, Any] | None:
    try:
        status = json_safe(governor.get_status())
    except Exception:
        logger.exception("the governor's status could not be had")
        return None
    return status if isinstance(status, dict) else {"status": status}
