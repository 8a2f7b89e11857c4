"""JournalFile: writes what a log is given to its file, which is open only while there is something to write."""

from __future__ import annotations

from collections.abc import Callable

from .epochs import Record, RestoredHistory
from .log import EventLog
from .sqlite import Row, SQLiteStore, row_of

#: How many events are written in one transaction.
_BATCH = 1000


class JournalFile:
    """The file of one epoch's events. Not for two threads at once. After an error it begins with a new connection.

    Every method raises :class:`OSError` or :class:`sqlite3.Error` if the file cannot be read or written.

    :param path: the file; it is made if there is none.
    :param wait_s: seconds to wait for another process that has the file locked.
    :param max_bytes: size of the file; the oldest events are deleted for it.
    :param max_age_s: age of events in the file, in seconds.
    :param wall_ms: milliseconds since 1970.
    :ivar position: the number of the last event that was looked at.
    :ivar written: how many events were written.
    :ivar lost: how many events the log had dropped before they could be written.
    :ivar bytes: how much of the file is in use.
    """

    def __init__(self, path: str, *, wait_s: float, max_bytes: int, max_age_s: float,
                 wall_ms: Callable[[], int]) -> None:
        self.position = self.written = self.lost = self.bytes = 0
        self._path, self._wait_s = path, wait_s
        self._max_bytes, self._max_age_s, self._wall_ms = max_bytes, max_age_s, wall_ms
        self._store: SQLiteStore | None = None
        self._serial = 0

    def restore(self, epoch: int, *, max_events: int, max_bytes: int) -> tuple[int, RestoredHistory, list[Record]]:
        """Read what earlier epochs have left, note that a new one begins, and close the file.

        :param epoch: the new epoch, if no other run has had it.
        :param max_events: how many events are read at most.
        :param max_bytes: how many bytes of data they have at most.
        :return: the new epoch, the earlier ones, and what was kept of their events.
        """
        store = SQLiteStore(self._path, wait_s=self._wait_s)
        try:
            self._trim(store)
            history, records = store.read(max_events=max_events, max_bytes=max_bytes)
            epoch = history.unused(epoch)
            store.begin(epoch, len(records) + 1 if history.epochs else 0, self._wall_ms())
            self.bytes = store.used()
        finally:
            store.close()
        return epoch, history, records

    def write(self, log: EventLog) -> None:
        """Write what is new in the log, and delete what is too old or too much.

        :param log: the log.
        """
        try:
            store = self._opened(log)
            while self.position < log.newest:
                self._write_news(store, log)
            self._trim(store)
            self.bytes = store.used()
        except BaseException:
            self.close()
            raise

    def finish(self) -> None:
        """Note that this epoch has shut down cleanly at the present position, and close the file."""
        try:
            if self._store is not None:
                self._store.mark_clean_shutdown(self._serial, self.position)
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def abandon(self) -> None:
        """Forget an open file without closing it, in a child: to close it would change what the other process has."""
        if self._store is not None:
            self._store.leak()
            self._store = None

    def _opened(self, log: EventLog) -> SQLiteStore:
        """Return the open file; it may be another one than before, or a new one."""
        if self._store is not None and not self._store.still_there():
            self.close()
        if self._store is None:
            store = SQLiteStore(self._path, wait_s=self._wait_s)
            try:
                self._serial, known = store.begin(log.epoch, log.base, self._wall_ms())
                if not known and self.position > log.base:  # what was written before is in another file
                    store.write(self._serial, [row_of(self.position, self._wall_ms(), None)])
            except BaseException:
                store.close()
                raise
            self._store = store
        return self._store

    def _write_news(self, store: SQLiteStore, log: EventLog) -> None:
        entries = log.since(self.position)[1]
        for first in range(0, len(entries), _BATCH):
            batch = entries[first:first + _BATCH]
            rows: list[Row] = [row_of(entry.seq, entry.ts, entry.event) for entry in batch
                               if entry.event.target.rooms is None]
            lost = batch[0].seq - 1 - self.position
            if lost:
                rows.insert(0, row_of(batch[0].seq - 1, batch[0].ts, None))
            if rows:
                store.write(self._serial, rows)
            self.lost += lost
            self.written += len(rows) - bool(lost)
            self.position = batch[-1].seq

    def _trim(self, store: SQLiteStore) -> None:
        store.trim(max_bytes=self._max_bytes, not_before=self._wall_ms() - round(self._max_age_s * 1000))
