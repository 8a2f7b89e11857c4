"""Commands for the governor, and what is remembered of them: their outcomes, by id and by ``Idempotency-Key``."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..broker.payload import json_safe
from ..errors import Overloaded, RequestError
from ..logs import get_logger

logger = get_logger(__name__)

#: Longest ``Idempotency-Key``.
MAX_KEY = 255


class Command:
    """One accepted command and, in time, its outcome.

    :param action: what the governor shall do.
    :param arguments: its arguments, by name.
    :param id: its id, if another process has given it, or an ``Idempotency-Key``.
    :ivar noted: true once every process has been given it.
    :ivar status: ``accepted``, ``running``, ``done`` or ``failed``; ``unknown`` if another process was to carry it out,
        and there was no outcome in time.
    """

    def __init__(self, action: str, arguments: dict[str, Any], id: str | None = None) -> None:
        self.id = secrets.token_urlsafe(12) if id is None else id
        self.action = action
        self.arguments = arguments
        self.noted = False
        self.status = "accepted"
        self.result: Any = None
        self.error: str | None = None
        self._finished = threading.Event()
        self._deadline = float("inf")

    def expires(self, deadline: float) -> None:
        """Have the outcome be ``unknown`` from a moment on, unless there is one by then.

        :param deadline: the moment, by the monotonic clock.
        """
        self._deadline = deadline

    def learn(self, report: dict[str, Any]) -> None:
        """Take the outcome from the process that has carried the command out.

        :param report: what :meth:`report` has returned there.
        """
        self.result, self.error, self.status = report.get("result"), report.get("error"), str(report["status"])
        self._finished.set()

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
        """True once there is an outcome, or none is waited for any more."""
        return self._finished.is_set() or time.monotonic() >= self._deadline

    def wait(self, seconds: float) -> bool:
        """Wait for the outcome; false if there is none yet.

        :param seconds: how long to wait at most.
        """
        return self._finished.wait(seconds)

    def report(self) -> dict[str, Any]:
        """Return what clients get: ``status``, ``id``, ``action`` and, once there is one, the outcome."""
        late = not self._finished.is_set() and self.finished
        report: dict[str, Any] = {"status": "unknown" if late else self.status, "id": self.id, "action": self.action}
        if self.status == "done":
            report["result"] = self.result
        if self.status == "failed":
            report["error"] = self.error
        return report


class CommandStore:
    """Remembers commands by id; the oldest finished ones are forgotten first.

    One with an ``Idempotency-Key`` has an id that is made of it, so that it has the same one in every process.

    :param limit: how many commands are remembered, those without an outcome left aside.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._commands: OrderedDict[str, Command] = OrderedDict()
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
            id = None if key is None else _id_of(key)
            earlier = None if id is None else self._commands.get(id)
            if earlier is not None:
                if (earlier.action, earlier.arguments) != (action, arguments):
                    raise RequestError("this Idempotency-Key was used for another command",
                                       code="idempotency_key_reused")
                return earlier, True
            if not room:
                raise Overloaded("too many commands are waiting (HYBRID_COMMAND_QUEUE)",
                                 code="command_queue_full", status=429, retry_after=5)
            command = Command(action, arguments, id)
            self._commands[command.id] = command
            self._forget()
        return command, False

    def note(self, given: Command) -> None:
        """Remember a command that some process has given to all. Of several with one id the first counts everywhere.

        :param given: the command.
        """
        with self._lock:
            known = self._commands.get(given.id)
            if known is None or not (known.noted or (known.action, known.arguments) == (given.action, given.arguments)):
                known = self._commands[given.id] = given
                self._forget()
            known.noted = True

    def learn(self, report: dict[str, Any]) -> None:
        """Remember the outcome of a command that another process has carried out. Any process may have given it.

        :param report: what :meth:`Command.report` has returned there.
        """
        with self._lock:
            command = self._commands.setdefault(report["id"], Command(report["action"], {}, report["id"]))
            command.learn(report)
            self._forget()

    def _forget(self) -> None:
        while len(self._commands) > self._limit:
            oldest = next((item for item in self._commands.values() if item.finished), None)
            if oldest is None:
                return  # none has an outcome yet; how many those can be is bounded by the queue
            del self._commands[oldest.id]


def _id_of(key: str) -> str:
    return "key-" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]


def _text_of(error: BaseException) -> str:
    try:
        return str(json_safe(str(error)))
    except Exception:
        return "(it cannot say why)"
