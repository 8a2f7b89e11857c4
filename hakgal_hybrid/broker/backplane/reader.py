"""Reader: tails the shared log in a thread of its own, the only one that appends to the process' own log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...logs import get_logger
from ..wakeups import make_wakeup
from .beginning import Beginning
from .faults import Away, Misconfigured, Retry, State
from .presence import Presence
from .shared_log import START, Position, Settling, SharedLog
from .tail import Tail

logger = get_logger(__name__)

#: How long one call waits for news, in seconds.
BLOCK_S = 0.5
#: How many entries one call puts back.
REFILL_ITEMS = 500
#: Seconds for which a process that cannot reach the log is not said to be away.
AWAY_S = 1.0
#: Seconds between two looks whether an entry has come that somebody waits for.
POLL_S = 0.02
#: How many wait for an entry at a time.
MAX_WAITING = 2


class Reader:
    """Keeps a :class:`.Tail` up to date. Its thread begins with :meth:`start`.

    :param connect: returns a new connection to the log.
    :param tail: takes what is read.
    :param seed: how many of the newest entries the process begins with.
    :param changed: called, in the reader's thread, whenever ``live`` has changed.
    :param taken: called, in the reader's thread, after entries that were taken together.
    :param on_message: called with what another process has sent to this one.
    :param presence: says that this process is there, and takes what others say; ``None`` for one that serves nobody.
    :param wait_s: how long one call waits for news, in seconds.
    :ivar state: how it stands with the log.
    :ivar beginning: how the process begins.
    :ivar live: false once the log could not be reached for a second; true again as soon as it can be.
    """

    def __init__(self, connect: Callable[[], SharedLog], tail: Tail, *, seed: int,
                 changed: Callable[[], object] = lambda: None, taken: Callable[[], object] = lambda: None,
                 on_message: Callable[[bytes], object] = lambda message: None,
                 presence: Presence | None = None, wait_s: float = BLOCK_S) -> None:
        self._connect, self.tail, self._seed, self._changed, self._wait_s = connect, tail, seed, changed, wait_s
        self._on_message, self._presence, self._taken = on_message, presence, taken
        self._asked: SharedLog | None = None
        self.state, self.error, self.live = State.NEW, "", True
        self.refilled = 0
        self._lost_at: float | None = None
        self._ending, self._end, self.beginning = False, make_wakeup(), Beginning()
        self._thread: threading.Thread | None = None
        self._starting, self._waiting = threading.Lock(), threading.Semaphore(MAX_WAITING)

    def position(self) -> Position | None:
        """Return the last id that was read; ``None`` before the log has said where this process begins."""
        return self.tail.position

    def unreachable_s(self) -> float:
        """Return for how long the log could not be reached, in seconds; 0 if it can be."""
        lost_at = self._lost_at
        return 0.0 if lost_at is None else time.monotonic() - lost_at

    def start(self) -> None:
        """Start the thread, unless it was started. May be called often, from any thread."""
        if self._thread is not None or self._ending or not self._starting.acquire(blocking=False):
            return
        self._end = make_wakeup()
        self.beginning.started()
        thread = threading.Thread(target=self._run, name="hakgal-hybrid-reader", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._starting.release()
        else:
            self._thread = thread

    @property
    def begun(self) -> bool:
        """True once the process knows where it begins in the log, and which others there are."""
        return self.tail.position is not None and self.beginning.known

    def wait_begun(self, seconds: float) -> bool:
        """Wait until the process knows where it begins in the log.

        :param seconds: until how long after the thread has begun, at most; not at all in that thread, which would wait
            for itself.
        :return: true if it does.
        """
        self.start()
        tried = self.begun or self.state in (State.AWAY, State.MISCONFIGURED)  # nobody waits for that again
        if not tried and threading.current_thread() is not self._thread:
            self.beginning.wait(seconds)
        return self.begun

    def wait_for(self, position: Position, seconds: float) -> bool:
        """Wait until an entry was read.

        :param position: its id.
        :param seconds: for how long, at most; not at all while the log cannot be reached.
        :return: false if too many wait already.
        """
        end = time.monotonic() + seconds
        if self._has_read(position):
            return True
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            while (left := end - time.monotonic()) > 0 and not self._has_read(position):
                time.sleep(min(left, POLL_S))
        finally:
            self._waiting.release()
        return True

    def _has_read(self, position: Position) -> bool:
        """True if an entry was read, or cannot be now."""
        read = self.tail.position
        return read is None or read >= position or self.state in (State.AWAY, State.MISCONFIGURED)

    def stop(self) -> None:
        """End the thread, which may take until its present call has returned."""
        self._ending = True
        self._end.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._wait_s + 1)

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        log: SharedLog | None = None
        retry = Retry()
        while not self._ending:
            try:
                log = log or self._connect()
                self.step(log)
                retry.succeeded()
                continue
            except (Away, Misconfigured) as failed:
                error: Exception = failed
            except Exception as failed:
                logger.exception("the reader has failed; it begins again with a new connection")
                error = Away(f"{type(failed).__name__}: {failed}")
            try:
                self._failed(error)
            except Exception:
                logger.exception("what was to be said of the backplane could not be")
            if log is not None and not (isinstance(error, Away) and error.connected):
                log.close()
                log = None
            self._end.wait(retry.after(error))
        if log is not None:
            if self._presence is not None:
                self._presence.say_gone(log)
            log.close()

    def step(self, log: SharedLog) -> None:
        """Read what has come; if nothing has, look whether the log is still there.

        :param log: the connection.
        :raises Away: if it cannot be reached.
        """
        if log is not self._asked:  # one that refuses this process is not read either
            log.look(self.tail.position or START)
            self._asked = log
        if self._presence is not None:
            self._presence.say(log, settling=self.state is State.SETTLING)
        if self.tail.position is None:
            newest = log.newest(self._seed if self.beginning.seeds else 1)
            if self.beginning.decide():
                self.tail.begin(newest)
            else:
                self.tail.begin_after(newest)
            self._taken()
        assert self.tail.position is not None
        records, messages, said = log.tail(max(self.tail.position, self.tail.looked_at), self._wait_s)
        if said and self._presence is not None:
            self._presence.peers.heard(said)
        self.beginning.end()
        try:
            for record in records:
                self.tail.take(record)
        finally:
            self._taken()
        for message in messages:
            self._on_message(message)
        if not records and not messages:
            answer = log.look(self.tail.position)
            if isinstance(answer, Settling):
                self._move(State.SETTLING)
                self.tail.looked_at = START  # what was there may be gone
                self._refill(log, self.tail.position, answer.at)
                return
            if self._presence is not None:
                self._presence.lag_s = 0.0
        self._move(State.LIVE)

    def _refill(self, log: SharedLog, position: Position, newest: Position) -> None:
        """Put back what the log has lost, as long as it comes to hold more, by whomever that is."""
        while todo := self.tail.after(newest):
            self.refilled += log.refill(todo[:REFILL_ITEMS], more=len(todo) > REFILL_ITEMS)
            answer = log.look(position)
            if not isinstance(answer, Settling) or answer.at <= newest:
                break
            newest = answer.at

    def _move(self, state: State) -> None:
        self.error, self._lost_at = "", None
        changed, self.state, self.live = state is not self.state or not self.live, state, True
        if changed:
            self._changed()

    def _failed(self, error: Exception) -> None:
        now = time.monotonic()
        before, self.error = (self.state, self.error), str(error)
        self.state = State.MISCONFIGURED if isinstance(error, Misconfigured) else State.AWAY
        changed = self.state is not before[0] or (self.state is State.MISCONFIGURED and self.error != before[1])
        self.beginning.end()
        if self._lost_at is None:
            self._lost_at = now
        if self.live and (now - self._lost_at >= AWAY_S or self.state is State.MISCONFIGURED):
            self.live, changed = False, True
        if changed:
            self._changed()
