"""Journal: keeps events over restarts, in the background.

It is one more reader of the log: a thread that writes what is new to a file, in batches. An emit only wakes it, so that
it cannot hold up an emit. What it cannot write yet stays in the log, within the log's bounds; what the log has dropped
by then is noted in the file as a loss. Only events for a whole namespace are written: rooms and clients end with the
process.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError
from ..logs import get_logger
from .epochs import Record, RestoredHistory
from .journal_file import JournalFile
from .log import EventLog
from .sqlite import FAILURES
from .wakeups import Wakeup, make_wakeup, threads_are_green

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """What the journal is doing.

    :ivar state: ``off``, ``on``, or ``degraded``: events are not being kept.
    :ivar reason: why it is degraded.
    :ivar restored: events and losses of earlier epochs that the log began with.
    :ivar written: events written.
    :ivar waiting: events that it has not looked at yet.
    :ivar lost: events that the log had dropped before they could be written.
    :ivar bytes: how much of the file is in use.
    """

    state: str = "off"
    reason: str | None = None
    restored: int = 0
    written: int = 0
    waiting: int = 0
    lost: int = 0
    bytes: int = 0


class Journal:
    """The journal of one log. Call :meth:`begin`, then :meth:`follow`; then have :meth:`wake` called for each event.

    :param path: the file; it is made if there is none.
    :param flush_s: how old an event becomes before it is written, in seconds.
    :param max_bytes: size of the file.
    :param max_age_s: age of events in the file, in seconds.
    :param degraded: called in the background when events cannot be kept (any more).
    :param wall_ms: milliseconds since 1970.
    :param wait_s: seconds to wait for another process that has the file locked; at the start, too.
    :param retry_s: seconds until the next try after a failure; also an attribute, which may be changed.
    :param warn_s: seconds between two warnings about failures.
    :param close_s: seconds that :meth:`close` waits for what is being written.
    """

    def __init__(self, path: str, *, flush_s: float, max_bytes: int, max_age_s: float, degraded: Callable[[], None],
                 wall_ms: Callable[[], int], wait_s: float = 1.0, retry_s: float = 1.0, warn_s: float = 60.0,
                 close_s: float = 5.0) -> None:
        self._path = os.path.abspath(path)  # the host may change its directory
        self._file = JournalFile(self._path, wait_s=wait_s, max_bytes=max_bytes, max_age_s=max_age_s, wall_ms=wall_ms)
        self.retry_s = retry_s
        self._flush_s, self._warn_s, self._close_s = flush_s, warn_s, close_s
        self._degraded = degraded
        self._reason: str | None = None
        self._warned_at = float("-inf")
        self._restored = 0
        self._log: EventLog | None = None
        self._ending = self._ended = False
        self.forked()

    def forked(self) -> None:
        """Begin without a thread, and without a connection, which is no good in a child."""
        self._file.abandon()
        self._thread: threading.Thread | None = None
        self._starting, self._finishing = threading.Lock(), threading.Lock()
        # Made with the thread: the threads of this process may be patched until then.
        self._news: Wakeup | None = None
        self._end: Wakeup | None = None

    # -- the beginning ---------------------------------------------------------------------------------------

    def begin(self, epoch: int, *, max_events: int, max_bytes: int) -> tuple[int, RestoredHistory, list[Record]]:
        """Read what earlier epochs have left, and note that a new one begins.

        The file is closed then until there is something to write: a process that only starts others does not keep them
        from it.

        :param epoch: the new epoch, if no other run has had it.
        :param max_events: how many events are read at most.
        :param max_bytes: how many bytes of data they have at most.
        :return: the new epoch, the earlier ones, and what was kept of their events.
        :raises ConfigurationError: if the path leads to what can be no journal.
        """
        _refuse_impossible(self._path)
        try:
            epoch, history, records = self._file.restore(epoch, max_events=max_events, max_bytes=max_bytes)
        except FAILURES as error:
            self._fail(error)
            return epoch, RestoredHistory(), []
        self._restored = len(records)
        return epoch, history, records

    def follow(self, log: EventLog) -> None:
        """Keep what a log is given from now on, until the process ends.

        :param log: the log; it has inherited what :meth:`begin` returned.
        """
        self._file.position = log.base
        self._log = log
        atexit.register(self.close)
        if threads_are_green() and self._starting.acquire(blocking=False):
            self._start_thread()  # now: a native thread may emit first, and what is green there ends with it

    # -- while it runs ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Say that there is something new. Costs next to nothing; never waits, but after :meth:`close`."""
        if self._ended:
            self._finish()
        elif self._log is not None and self._log.newest > self._file.position:
            if self._news is not None:
                self._news.set()
            if self._thread is None and not self._ending and self._starting.acquire(blocking=False):
                self._start_thread()

    def _start_thread(self) -> None:
        self._news, self._end = make_wakeup(), make_wakeup()
        thread = threading.Thread(target=self._run, args=(self._news, self._end), name="hakgal-hybrid-journal",
                                  daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has none to give now, or never again because the interpreter is ending
            self._starting.release()
        else:
            self._thread = thread  # and nobody starts another one: the lock is kept

    def statistics(self) -> JournalStatistics:
        """Return a snapshot."""
        file = self._file
        waiting = 0 if self._log is None else self._log.newest - file.position
        return JournalStatistics("on" if self._reason is None else "degraded", self._reason, self._restored,
                                 file.written, waiting, file.lost, file.bytes)

    def close(self) -> None:
        """Write what there is, and note that this epoch has shut down cleanly. Later events are written at once."""
        if self._log is None or self._ending:
            return
        if self.stop():
            self._ended = True
            self._finish()
        else:
            logger.warning("the journal cannot be finished: it has been waiting for its file for %g s", self._close_s)

    def stop(self) -> bool:
        """End the thread. What was not written is not kept, and the epoch counts as one that was killed.

        :return: true if the thread has ended in time.
        """
        atexit.unregister(self.close)
        self._ending = True
        for wakeup in (self._end, self._news):
            if wakeup is not None:
                wakeup.set()
        if self._thread is not None:
            self._thread.join(self._close_s)
            if self._thread.is_alive():
                return False
        self._file.close()
        return True

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self, news: Wakeup, end: Wakeup) -> None:
        log, file = self._log, self._file
        assert log is not None  # the thread was started after that
        while not self._ending:
            news.clear()
            if file.position == log.newest:  # looked at after the flag was cleared
                news.wait()
            # Half of the time is for gathering, half of it for writing.
            end.wait(self._flush_s / 2 if self._reason is None else self.retry_s)
            if not self._ending:
                self.flush()

    def flush(self) -> bool:
        """Write what is new. Not for two threads at once; the journal's own does it by itself.

        :return: false if that failed.
        """
        assert self._log is not None
        try:
            self._file.write(self._log)
        except Exception as error:  # whatever it is, the next try begins with a new connection
            self._fail(error)
            return False
        if self._reason is not None:
            self._reason = None
            logger.warning("the journal keeps events again")
        return True

    def _finish(self) -> None:
        """Write the last events and the note that they were the last. A second caller need not wait for the first."""
        while self._log is not None and self._finishing.acquire(blocking=False):
            try:
                if not self.flush():
                    return
                self._file.finish()
            except FAILURES as error:
                self._fail(error)
                return
            finally:
                self._finishing.release()
            if self._log.newest == self._file.position:
                return

    def _fail(self, error: BaseException) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        first, self._reason = self._reason is None, f"{type(error).__name__}: {text}"
        now = time.monotonic()
        if first or now > self._warned_at + self._warn_s:
            self._warned_at = now
            logger.warning("the journal %s cannot be written, so that events are not kept: %s; it is tried again",
                           self._path, self._reason)
        if first:
            self._degraded()


def _refuse_impossible(path: str) -> None:
    """Check that a file could be there. A folder that is missing may yet come; a file in its place is a mistake."""
    if os.path.isdir(path):
        raise ConfigurationError.bad_value("HYBRID_JOURNAL", path, "a file, not a directory")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigurationError.bad_value("HYBRID_JOURNAL", path, "an ordinary file, no device, pipe or socket")
    above = next((folder for folder in Path(path).parents if os.path.exists(folder)), None)
    if above is not None and not os.path.isdir(above):
        raise ConfigurationError.bad_value("HYBRID_JOURNAL", path, f"a file in a folder; {above} is none")
