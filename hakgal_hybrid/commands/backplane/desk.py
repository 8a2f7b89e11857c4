"""Desk: of all processes that have a governor, one at a time carries out commands, each of them at most once.

A command is an entry of the shared log, which every process reads. The process that holds the desk claims it in Redis,
and only in the generation of the log in which it was given: so neither a Redis that lost its data nor a process that
was stopped for a while has it carried out a second time. What nobody has claimed by its deadline, or whose executor has
ended, has the outcome ``unknown``. The deadline is one by the clock of Redis, so that nobody carries it out later: a
process that lags, or begins and reads what was given before, claims it in vain.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ...broker.backplane.faults import Away, Misconfigured, Retry
from ...broker.backplane.shared_log import Order, Position, SharedLog
from ...logs import get_logger
from ..command_store import Command
from ..governor import GovernorQueue

logger = get_logger(__name__)

#: Seconds between two renewals of the lease, and how long it lasts; and between two tries to claim.
RENEW_S, LEASE_S, AGAIN_S = 3.0, 10.0, 0.25
#: How many commands may wait to be claimed; one more is left to other processes.
MAX_WAITING = 1000

#: Has every process do something, see :meth:`.Broker.elsewhere`.
Elsewhere = Callable[..., bool]


class _Given(NamedTuple):
    command: Command
    order: Order
    deadline: float


class Desk:
    """Gives commands to whichever process holds the desk, and carries out those that this one claims.

    :param governor: carries commands out, if this process has a governor; remembers them in any case.
    :param connect: connects to the shared log.
    :param process: returns the name of this process.
    :param position: returns the last id that it has read.
    :param log_ms: returns a moment by the log's clock, so many seconds from now, see :meth:`.Presence.log_ms`.
    :param elsewhere: has every process do something.
    :param deadline_s: after how long a command without an outcome is ``unknown``, in seconds.
    :param executes: true if this process may carry out commands.
    :param stopped: returns true once this process is to have the desk no more.
    """

    def __init__(self, governor: GovernorQueue, connect: Callable[[], SharedLog], *, process: Callable[[], str],
                 position: Callable[[], Position | None], log_ms: Callable[[float], int], elsewhere: Elsewhere,
                 deadline_s: float, executes: bool, stopped: Callable[[], bool]) -> None:
        self._governor, self._connect, self._process, self._position = governor, connect, process, position
        self._log_ms = log_ms
        self._elsewhere, self._deadline_s, self._executes, self._stopped = elsewhere, deadline_s, executes, stopped
        self.forked()
        governor.route = self.give

    def forked(self) -> None:
        """Begin without a thread."""
        self._given: queue.SimpleQueue[_Given] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask for the desk, if this process has a governor."""
        if self._executes and self._governor.there and self._thread is None and self._starting.acquire(blocking=False):
            self._thread = threading.Thread(target=self._run, name="hakgal-hybrid-desk", daemon=True)
            self._thread.start()

    def give(self, command: Command) -> None:
        """Have the process carry out a command that holds the desk.

        :param command: the command.
        """
        position = self._position()
        command.expires(time.monotonic() + self._deadline_s)
        self._elsewhere("command", id=command.id, generation=position.generation if position else 0,
                        action=command.action, arguments=command.arguments, seconds=self._deadline_s,
                        until_ms=self._log_ms(self._deadline_s))

    def carry_out(self, data: dict[str, Any]) -> None:
        """Take note of a command that some process has given. Called in the reader's thread.

        :param data: the command.
        """
        self.start()
        noted = Command(data["action"], data["arguments"], data["id"])
        noted.expires(time.monotonic() + data["seconds"])
        self._governor.store.note(noted)
        if self._thread is not None and self._given.qsize() < MAX_WAITING:
            command = Command(data["action"], data["arguments"], data["id"])
            order = Order(data["id"], data["generation"], data["until_ms"])
            self._given.put(_Given(command, order, time.monotonic() + data["seconds"]))

    def outcome(self, data: dict[str, Any]) -> None:
        """Take note of the outcome of a command.

        :param data: what its executor reports.
        """
        self._governor.store.learn(data["report"])

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        log: SharedLog | None = None
        retry, renew_at, waiting = Retry(), 0.0, list[_Given]()
        while not self._stopped():
            try:
                waiting.append(self._given.get(timeout=AGAIN_S))
                while not self._given.empty():
                    waiting.append(self._given.get())
            except queue.Empty:
                pass
            try:
                log = log or self._connect()
                if time.monotonic() >= renew_at:
                    log.lease(self._process(), LEASE_S)
                    renew_at = time.monotonic() + RENEW_S
                waiting = [given for given in waiting if self._is_left(log, given)]
                if waiting:  # perhaps Redis has lost who has the desk
                    renew_at = 0.0
                retry.succeeded()
            except (Away, Misconfigured) as error:
                if log is not None:
                    log.close()
                    log = None
                renew_at = 0.0
                time.sleep(retry.after(error))
            except Exception:
                logger.exception("a command of the backplane cannot be carried out")
                waiting.clear()
        try:
            (log or self._connect()).lease(self._process(), 0)  # another one need not wait for its end
        except (Away, Misconfigured):
            pass

    def _is_left(self, log: SharedLog, given: _Given) -> bool:
        """Claim a command, and carry it out if this process may; return true if it is left for another one."""
        if time.monotonic() >= given.deadline:
            return False
        claim = log.claim(self._process(), given.order)
        if claim.answer == "go":
            self._governor.execute(given.command, self._report, fence=claim.term)
        return claim.answer == "other"

    def _report(self, command: Command) -> None:
        self._elsewhere("outcome", report=command.report())
