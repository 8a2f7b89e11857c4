"""Governor: commands run in order, away from requests, and their outcomes can be asked for later."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ..broker.payload import json_safe
from ..errors import Overloaded, RequestError
from ..logs import get_logger
from .command_store import Command, CommandStore
from .worker import Worker

logger = get_logger(__name__)

#: How long an answer waits for its command (seconds): leaves half of the promised 50 ms for everything else.
INLINE_WAIT_S = 0.025


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
    :ivar route: has another process carry out commands, or this one, as they are divided; ``None`` without a backplane.
    """

    def __init__(self, governor: Callable[[], Any], *, queue_limit: int, results: int,
                 on_received: Callable[[Command], None],
                 on_finished: Callable[[Command, dict[str, Any] | None], None],
                 inline_wait_s: float = INLINE_WAIT_S) -> None:
        self.store = CommandStore(results)
        self._governor, self._inline_wait_s = governor, inline_wait_s
        self.route: Callable[[Command], None] | None = None
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
        if governor is None and self.route is None:
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
        if taken and self.route is not None:
            queue.free.release()
            self.route(command)
        elif taken:
            queue.worker.submit(partial(self._execute, queue, governor, command))
        command.wait(self._inline_wait_s)
        return command, repeated

    def execute(self, command: Command, report: Callable[[Command], object], *, fence: int) -> None:
        """Carry out a command that this process has claimed, after those before it.

        :param command: the command.
        :param report: called with it when there is an outcome.
        :param fence: greater than that of any process that has carried out commands before this one: a number for a
            governor that has to refuse what an earlier one still orders.
        """
        queue = self._status if command.action == "status" else self._commands
        if not queue.worker.submit(partial(self._claimed, self._governor(), command, report, fence)):
            command.run(partial(_refuse, "too many commands are waiting (HYBRID_COMMAND_QUEUE)"))
            report(command)

    def _claimed(self, governor: Any, command: Command, report: Callable[[Command], object], fence: int) -> None:
        status = self._call(governor, command, fence)
        report(command)
        self._on_finished(command, status)

    def _execute(self, queue: _BoundedWorker, governor: Any, command: Command) -> None:
        queue.free.release()
        self._on_finished(command, self._call(governor, command))

    def _call(self, governor: Any, command: Command, fence: int | None = None) -> dict[str, Any] | None:
        """Call the governor; return its status after that, ``None`` if that could not be had."""

        def call() -> Any:
            method = getattr(governor, "get_status" if command.action == "status" else command.action)
            more = {} if fence is None or not _takes_fence(method) else {"fence": fence}
            return method(*command.arguments.values(), **more)

        self._on_received(command)
        command.run(call)
        return None if command.action == "status" else _status_of(governor)


def _refuse(why: str) -> None:
    raise Overloaded(why)


def _takes_fence(method: Any) -> bool:
    try:
        return "fence" in inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


def _status_of(governor: Any) -> dict[str, Any] | None:
    try:
        status = json_safe(governor.get_status())
    except Exception:
        logger.exception("the governor's status could not be had")
        return None
    return status if isinstance(status, dict) else {"status": status}
