"""Sender: takes what is in the outbox to the shared log, in a thread of its own, one batch at a time."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...logs import get_logger
from ..wakeups import make_wakeup
from .faults import Away, Misconfigured, Retry, State
from .messages import Messages
from .outbox import Outbox, OutboxStatistics
from .shared_log import Append, Appended, Forgotten, Item, Position, Settling, SharedLog

logger = get_logger(__name__)

#: Seconds after which a sender that has nothing to send shows the log that it is still there.
IDLE_S = 60.0
#: Seconds between two calls that ask how the log is, at most, while it settles or a process is missing; and while this
#: process does not know from where on it reads.
SETTLING_S = 0.1
STARTING_S = 0.02
#: Seconds between two tries to have a full log hold less.
TRIM_S = 60.0


@dataclass(frozen=True, slots=True)
class SenderStatistics:
    """What a sender has done.

    :ivar state: how it stands with the log.
    :ivar error: what is wrong; ``None`` if nothing is.
    :ivar sent: how many items the log has acknowledged.
    :ivar resent: how many of them were sent again, because the log had lost them.
    :ivar twins: how often another process went by the same name.
    :ivar append_s: how long the last call took, in seconds.
    :ivar outbox: what waits.
    """

    state: str = "off"
    error: str | None = None
    sent: int = 0
    resent: int = 0
    twins: int = 0
    append_s: float = 0.0
    outbox: OutboxStatistics = OutboxStatistics()


class Sender:
    """Sends the items of one outbox. Its thread begins with :meth:`start`.

    :param connect: returns a new connection to the log.
    :param outbox: what is sent.
    :param position: returns the last id that this process has read; ``None`` while it does not know where it begins,
        and nothing is sent, so that its first events do not lie before its own beginning.
    :param renamed: called with the sender's new name, and the new number of each item that waits.
    :param changed: called, in the sender's thread, whenever its state has changed.
    :param undelivered: called, in the sender's thread, with a message for a process that is gone.
    :ivar name: the name under which the log knows its items; it is made anew in each process.
    :ivar state: how it stands with the log.
    """

    def __init__(self, connect: Callable[[], SharedLog], outbox: Outbox, *, position: Callable[[], Position | None],
                 renamed: Callable[[str, dict[int, int]], object] = lambda name, numbers: None,
                 changed: Callable[[], object] = lambda: None,
                 undelivered: Callable[[bytes], object] = lambda message: None) -> None:
        self._connect, self.outbox, self._position, self._messages = connect, outbox, position, Messages(undelivered)
        self._renamed, self._changed = renamed, changed
        self.name = secrets.token_hex(8)
        self.state, self._error = State.NEW, ""
        self._expect, self._previous, self._token, self._generation = 0, "", "", 0
        self._batch: list[Item] = []
        self._sent = self._resent = self._twins = 0
        self._append_s, self._trimmed_at = 0.0, float("-inf")
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._news, self._end = make_wakeup(), make_wakeup()
        self._ending, self._idle = False, threading.Condition()

    def start(self) -> None:
        """Start the thread, unless it was started. May be called often, from any thread."""
        if self._thread is not None or self._ending or not self._starting.acquire(blocking=False):
            return
        self._news, self._end = make_wakeup(), make_wakeup()  # for the threads that this process has by now
        thread = threading.Thread(target=self._run, name="hakgal-hybrid-sender", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has none to give now
            self._starting.release()
        else:
            self._thread = thread

    def ring(self) -> None:
        """Say that there is something in the outbox. Never waits."""
        self.start()
        self._news.set()

    def post(self, process: str, message: bytes) -> None:
        """Send a message to one process, at most once. Never waits.

        :param process: the name of the process.
        :param message: the message.
        """
        self._messages.put(process, message)
        self.ring()

    @property
    def unsent(self) -> bool:
        """True while the log has not acknowledged everything."""
        return self._expect < self.outbox.last

    def flush(self, seconds: float) -> bool:
        """Wait until the log has acknowledged everything.

        :param seconds: for how long, at most.
        :return: true if it has.
        """
        self.ring()
        with self._idle:
            return self._idle.wait_for(lambda: not self.unsent, seconds)

    def stop(self, seconds: float = 0.0) -> bool:
        """End the thread.

        :param seconds: how long what is in the outbox may take to be sent.
        :return: true if nothing is left.
        """
        done = not self.unsent or (self._thread is not None and self.flush(seconds))
        self._ending = True
        self._end.set()
        self._news.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(min(1.0, seconds))
        return done

    def statistics(self) -> SenderStatistics:
        """Return a snapshot."""
        return SenderStatistics(self.state.value, self._error or None, self._sent, self._resent, self._twins,
                                self._append_s, self.outbox.statistics())

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        log: SharedLog | None = None
        retry = Retry()
        while not self._ending:
            self._news.clear()
            if not self.unsent and not self._messages and self.state is State.LIVE:
                self._news.wait(IDLE_S)
                if self._ending:
                    break
            try:
                log = log or self._connect()
                pause = self.step(log)  # which also finds out what the log has lost
                if not self._messages.send(log):
                    pause = pause or SETTLING_S
                retry.succeeded()
            except Exception as error:
                if not isinstance(error, (Away, Misconfigured)):
                    logger.exception("the sender has failed; it begins again with a new connection")
                log = self._failed(error, log)
                pause = retry.after(error)
            if pause:
                self._end.wait(pause)
        if log is not None:
            log.close()

    def _failed(self, error: Exception, log: SharedLog | None) -> SharedLog | None:
        self._move(State.MISCONFIGURED if isinstance(error, Misconfigured) else State.AWAY, str(error))
        if log is not None and isinstance(error, Away) and error.connected:
            return self._trim(log) if error.full else log
        if log is not None:
            log.close()
        return None

    def _trim(self, log: SharedLog) -> SharedLog | None:
        """Have a full log drop what is more than it is to hold, once in a while."""
        if time.monotonic() < self._trimmed_at + TRIM_S:
            return log
        self._trimmed_at = time.monotonic()
        try:
            log.trim()
        except (Away, Misconfigured) as error:
            self._error = str(error)
        return log

    def _move(self, state: State, error: str = "") -> None:
        self._error = error
        if state is not State.LIVE or self.state not in (State.LIVE, State.NEW):
            self._messages.doubt()
        if state is not self.state:
            self.state = state
            self._changed()

    def step(self, log: SharedLog) -> float:
        """Make one call.

        :param log: the connection.
        :return: how long to wait before the next one, in seconds.
        :raises Away: if the log cannot be reached; what was under way is sent again.
        """
        position = self._position()
        if position is None:
            return STARTING_S
        if not self._batch:
            self._batch, self._token = self.outbox.take(), secrets.token_hex(4)
        began = time.monotonic()
        answer = log.append(Append(position, self.name, self._expect, self._previous, self._token, self._generation,
                                   self._batch))
        self._append_s = time.monotonic() - began
        if isinstance(answer, Settling):
            self._move(State.SETTLING)
            return min(SETTLING_S, answer.ms / 1000)
        if isinstance(answer, Appended):
            self._appended(answer.at)
        elif isinstance(answer, Forgotten):
            self._resent += self.outbox.forgotten(self._batch, answer.q, self._expect)
            self._expect, self._previous, self._batch = answer.q, answer.token, []
        else:
            self._rename()
        return 0.0

    def _appended(self, at: Position) -> None:
        batch, self._generation = self._batch, at.generation
        if batch:
            self._expect, self._previous = batch[-1].q, self._token
            self.outbox.acknowledged(batch)
            self._sent += len(batch)
        self._batch = []
        self._move(State.LIVE)
        if not self.unsent:
            with self._idle:
                self._idle.notify_all()

    def _rename(self) -> None:
        """Go by a new name: another process has this one."""
        self._twins += 1
        logger.warning("another process sends under the name of this one, which takes a new one")
        name = secrets.token_hex(8)
        batch, self._batch = self._batch, []
        self._expect, self._previous = 0, ""

        def moved(numbers: dict[int, int]) -> None:
            self.name = name
            self._renamed(name, numbers)

        self.outbox.renumber(batch, moved)
