"""Journal: keeps events over restarts, in the background.

It is one more reader of the log: a thread that takes what is new, in batches, and writes it to an
:class:`~hakgal_hybrid.broker.sqlite.SQLiteStore`. An emit does nothing for it but wake it up, so that it cannot hold
up an emit; what it cannot write yet stays in the log, within the log's bounds, and what the log has dropped by then is
noted in the file as lost. Only what is for everybody of a namespace is written: rooms and clients end with the
process.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..logs import get_logger
from .epochs import Record, RestoredHistory
from .log import EventLog
from .sqlite import FAILURES, Row, SQLiteStore, row_of

logger = get_logger(__name__)

#: How long to wait for whoever has the file locked (seconds); at the start, too.
WAIT_S = 1.0
#: After a failure it is tried again so much later (seconds), and warned about no more often than that.
RETRY_S, WARN_S = 1.0, 60.0
#: How long the end of the process waits for the last events to be written (seconds).
CLOSE_S = 5.0
#: How many events are written in one transaction.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """What the journal is doing.

    :ivar state: ``off``, ``on``, or ``degraded``: events are not being kept.
    :ivar reason: why it is degraded.
    :ivar restored: events and gaps of earlier lives that the log began with.
    :ivar written: events written; ``waiting``: events that it has not looked at yet.
    :ivar lost: events that the log had dropped before they could be written.
    :ivar bytes: size of the file, as far as it is in use.
    """

    state: str = "off"
    reason: str | None = None
    restored: int = 0
    written: int = 0
    waiting: int = 0
    lost: int = 0
    bytes: int = 0


class Journal:
    """The journal of one log. Call :meth:`begin`, then :meth:`follow`.

    :param path: the file; it is made if there is none. :param flush_s: how old an event becomes before it is written.
    :param max_bytes: size of the file; ``max_age_s``: age of events in it.
    :param degraded: called in the background when events cannot be kept (any more).
    :param wall_ms: milliseconds since 1970.
    """

    def __init__(self, path: str, *, flush_s: float, max_bytes: int, max_age_s: float, degraded: Callable[[], None],
                 wall_ms: Callable[[], int]) -> None:
        self._path = os.path.abspath(path)  # the host may change its directory
        self._flush_s, self._max_bytes, self._max_age_s = flush_s, max_bytes, max_age_s
        self._degraded, self._wall_ms = degraded, wall_ms
        self._reason: str | None = None
        self._warned_at = float("-inf")
        self._restored = self._written = self._lost = self._bytes = 0
        self._log: EventLog | None = None
        self._archive: SQLiteStore | None = None
        self._serial = 0
        self._position = 0
        self._thread: threading.Thread | None = None
        # Whoever takes the token out must ring the bell: so an emit costs nothing while the thread is busy anyway.
        # Both are safe to use from a signal handler that interrupts their use.
        self._asleep: deque[None] = deque([None])
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._ended = False
        self._finishing = threading.Lock()

    # -- the beginning ---------------------------------------------------------------------------------------

    def begin(self, epoch: int, *, max_events: int, max_bytes: int) -> tuple[int, RestoredHistory, list[Record]]:
        """Read what earlier lives have left, and note that a new one begins.

        The file is let go of then, until there is something to write: a process that only starts others does not
        keep it from them.

        :param epoch: of the new life, if no other has had it. :param max_events: how much is read at most.
        :return: the epoch, and what was before.
        :raises ConfigurationError: if the path leads to what can be no journal.
        """
        if os.path.isdir(self._path):
            raise ConfigurationError.bad_value("HYBRID_JOURNAL", self._path, "a file, not a directory")
        past = RestoredHistory()
        records: list[Record] = []
        try:
            archive = SQLiteStore(self._path, wait_s=WAIT_S)
            try:
                self._trim(archive)
                past, records = archive.read(max_events=max_events, max_bytes=max_bytes)
                epoch = past.fresh(epoch)
                archive.begin(epoch, len(records) + 1 if past.lives else 0, self._wall_ms())
                self._bytes = archive.used()
            finally:
                archive.close()
        except FAILURES as error:
            self._fail(error)
        self._restored = len(records)
        return epoch, past, records

    def follow(self, log: EventLog) -> None:
        """Keep what ``log`` is given from now on."""
        self._position = log.born
        self._log = log
        atexit.register(self.close)

    # -- while it lives --------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Say that there is something new. Costs next to nothing; may be called from anywhere."""
        log = self._log
        if log is None or log.newest <= self._position:
            return
        if self._ended:
            self._finish()
        elif self._asleep:
            try:
                self._asleep.pop()
            except IndexError:
                return
            if self._thread is None:
                self._start_thread()
            else:
                self._bell.put(None)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="hakgal-hybrid-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has none to give now, or never again because the interpreter is ending
            self._asleep.append(None)
        else:
            self._thread = thread

    def statistics(self) -> JournalStatistics:
        """Return a snapshot."""
        waiting = 0 if self._log is None else self._log.newest - self._position
        return JournalStatistics("on" if self._reason is None else "degraded", self._reason, self._restored,
                                 self._written, waiting, self._lost, self._bytes)

    def close(self) -> None:
        """Write what there is, and note that this life has ended well. What is emitted later is written at once."""
        atexit.unregister(self.close)
        if self._log is None or self._ending.is_set():
            return
        self._ending.set()
        self._bell.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                logger.warning("the journal cannot be finished: it has been waiting for its file for %g s", CLOSE_S)
                return
        self._ended = True
        self._finish()

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            self._await_news()
            # Half the time to gather, half of it to write.
            self._ending.wait(self._flush_s / 2 if self._reason is None else RETRY_S)
            self._flush()

    def _await_news(self) -> None:
        log = self._log
        assert log is not None  # the thread was started after that
        if self._position < log.newest and not self._bell.qsize():
            return
        if not self._bell.qsize():
            self._asleep.append(None)
            if self._position < log.newest:  # it came before it could see that we sleep
                try:
                    self._asleep.pop()
                    return
                except IndexError:
                    pass
        self._bell.get()

    def _flush(self) -> bool:
        """Write what is new; false if that failed."""
        try:
            archive = self._opened()
            self._write_news(archive)
            self._trim(archive)
            self._bytes = archive.used()
        except Exception as error:  # whatever it is, the next try begins with a new connection
            if self._archive is not None:
                self._archive.close()
                self._archive = None
            self._fail(error)
            return False
        if self._reason is not None:
            self._reason = None
            logger.warning("the journal keeps events again")
        return True

    def _opened(self) -> SQLiteStore:
        """Return the open file; it may be another one than before, or a new one."""
        log = self._log
        assert log is not None
        if self._archive is not None and not self._archive.still_there():
            self._archive.close()
            self._archive = None
        if self._archive is None:
            archive = SQLiteStore(self._path, wait_s=WAIT_S)
            try:
                self._serial, known = archive.begin(log.epoch, log.born, self._wall_ms())
                if not known and self._position > log.born:  # what was written before is in another file
                    archive.write(self._serial, [row_of(self._position, self._wall_ms(), None)])
            except BaseException:
                archive.close()
                raise
            self._archive = archive
        return self._archive

    def _write_news(self, archive: SQLiteStore) -> None:
        log = self._log
        assert log is not None
        while self._position < log.newest:
            entries = log.since(self._position)[1]
            for first in range(0, len(entries), _BATCH):
                batch = entries[first:first + _BATCH]
                rows: list[Row] = [row_of(entry.seq, entry.ts, entry.event) for entry in batch
                                   if entry.event.target.rooms is None]
                lost = batch[0].seq - 1 - self._position
                if lost:
                    rows.insert(0, row_of(batch[0].seq - 1, batch[0].ts, None))
                if rows:
                    archive.write(self._serial, rows)
                self._lost += lost
                self._written += len(rows) - bool(lost)
                self._position = batch[-1].seq

    def _trim(self, archive: SQLiteStore) -> None:
        archive.trim(max_bytes=self._max_bytes, not_before=self._wall_ms() - round(self._max_age_s * 1000))

    def _finish(self) -> None:
        """Write the last events and the note that they were the last. Whoever comes in meanwhile need not wait."""
        log = self._log
        while log is not None and self._finishing.acquire(blocking=False):
            try:
                if not self._flush() or self._archive is None:
                    return
                last = self._position
                self._archive.end(self._serial, last)
                self._archive.close()
                self._archive = None
            except FAILURES as error:
                self._fail(error)
                return
            finally:
                self._finishing.release()
            if log.newest == last:
                return

    def _fail(self, error: BaseException) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        first, self._reason = self._reason is None, f"{type(error).__name__}: {text}"
        now = time.monotonic()
        if first or now > self._warned_at + WARN_S:
            self._warned_at = now
            logger.warning("the journal %s cannot be written, so that events are not kept: %s; it is tried again",
                           self._path, self._reason)
        if first:
            self._degraded()
