"""SQLiteStore: the SQLite file that keeps events over restarts. One object is one open connection; it has no thread.

While it is open no other process can open the file: if two wrote one history, a client would get two at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator

from ..errors import ConfigurationError
from .epochs import Epoch, Record, RestoredHistory
from .event import Event, Target, checked_name

#: Marks the file as ours (``hakj``), and its layout.
_APPLICATION, _LAYOUT = 0x68616B6A, 2
#: How many epochs are remembered whose events are gone. A client of an older one gets a gap, ``restarted``.
MAX_EPOCHS = 1000
#: How many events are deleted at once. More would hold up those that wait to be written.
_BATCH = 64
#: To which part of its limit a file is cut that has become too large, so that not every event cuts it.
_RELIEF = 0.9
#: What the write-ahead log is cut down to when it has been taken over into the file (bytes).
_WAL_BYTES = 4 << 20

_TABLES = """
CREATE TABLE epochs (serial INTEGER PRIMARY KEY, epoch INTEGER NOT NULL UNIQUE, last INTEGER,
                     forgotten INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (place INTEGER PRIMARY KEY, ts INTEGER NOT NULL, namespace TEXT, name TEXT, count INTEGER,
                     data TEXT, html TEXT);
"""
#: An event's ``place`` is its epoch's serial number times this, and its own number: so they are in order.
_EPOCH = 1 << 40

#: What can go wrong with a file: also that it holds what we did not write.
FAILURES = (sqlite3.Error, OSError)

#: Connections of the process that has forked this one.
_leaked: list[sqlite3.Connection] = []

Row = tuple[int, int, "str | None", "str | None", "int | None", "str | None", "str | None"]


def row_of(number: int, ts: int, event: Event | None) -> Row:
    """Return what is kept of an event.

    :param number: its number in its epoch.
    :param ts: milliseconds since 1970.
    :param event: the event; ``None`` for a loss.
    :return: a row of the table of events, with the number in place of its ``place``.
    """
    if event is None:
        return number, ts, None, None, None, None, None
    return number, ts, event.target.namespace, event.name, event.arg_count, event.data, event.html


class SQLiteStore:
    """One open file.

    :param path: the file; it is made if there is none.
    :param wait_s: seconds to wait for another process that has it locked.
    :raises ConfigurationError: if the file is somebody else's database.
    :raises OSError: if it cannot be opened.
    :raises sqlite3.Error: if it is locked, full, damaged, or no database. (So may every method.)
    """

    def __init__(self, path: str, *, wait_s: float) -> None:
        self._path = path
        # SQLite would say little about why it cannot; and what was emitted is nobody else's on this machine.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # takes effect in a new file only
            self._refuse_foreign()
            self._db.execute("PRAGMA journal_mode=WAL")
            # A commit is in the kernel's hands then: the end of the process costs nothing, that of the machine may.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
            with self._transaction():
                if not self._number("PRAGMA user_version"):
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id={_APPLICATION}")
                    self._db.execute(f"PRAGMA user_version={_LAYOUT}")
            self._identity = self._stat()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def leak(self) -> None:
        """Have the connection never be closed, not even by the end of the process."""
        _leaked.append(self._db)
        with contextlib.suppress(ImportError):  # without it, it is closed when the interpreter ends
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))

    def still_there(self) -> bool:
        """True if the path still leads to the file that was opened."""
        try:
            return self._stat() == self._identity
        except OSError:
            return False

    def used(self) -> int:
        """Return how many bytes of the file are in use."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, *, max_events: int, max_bytes: int) -> tuple[RestoredHistory, list[Record]]:
        """Return what earlier epochs have left: the newest events.

        :param max_events: how many events at most.
        :param max_bytes: how many bytes of data they have at most.
        :return: the epochs, and what was kept of their events, in order.
        """
        epochs = self._db.execute("SELECT serial, epoch, last, forgotten FROM epochs ORDER BY serial").fetchall()
        forgotten = max([(0, 0), *((serial, number) for serial, _, _, number in epochs if number)])
        records: list[Record] = []
        size = 0
        for place, ts, *rest in self._db.execute("SELECT place, ts, namespace, name, count, data, html FROM events "
                                                 "ORDER BY place DESC LIMIT ?", (max_events + 1,)):
            serial, number = divmod(place, _EPOCH)
            size += len(rest[3] or "")
            if len(records) == max_events or size > max_bytes:
                forgotten = max(forgotten, (serial, number))
                break
            records.append(Record(serial, number, ts, _event(*rest)))
        records.reverse()
        history = RestoredHistory(tuple(Epoch(serial, epoch, last) for serial, epoch, last, _ in epochs),
                                  tuple((record.serial, record.number) for record in records), forgotten)
        return history, records

    # -- writing ---------------------------------------------------------------------------------------------

    def begin(self, epoch: int, base: int, ts: int) -> tuple[int, bool]:
        """Note that an epoch has begun, if that has not been noted.

        :param epoch: the first part of its ids.
        :param base: the number before its first event; a loss is noted there if the epoch before was killed.
        :param ts: milliseconds since 1970.
        :return: its serial number, and true if it was known already.
        """
        with self._transaction():
            for (serial,) in self._db.execute("SELECT serial FROM epochs WHERE epoch = ?", (epoch,)):
                return serial, True
            unclean = self._number("SELECT count(*) FROM (SELECT last FROM epochs ORDER BY serial DESC LIMIT 1) "
                                   "WHERE last IS NULL")
            serial = self._number("SELECT max(serial) FROM epochs") + 1
            self._db.execute("INSERT INTO epochs (serial, epoch) VALUES (?, ?)", (serial, epoch))
            if unclean:
                self._insert(serial, [row_of(base, ts, None)])
            oldest = self._number("SELECT min(place) FROM events") // _EPOCH
            self._db.execute("DELETE FROM epochs WHERE serial < ?", (min(oldest, serial - MAX_EPOCHS),))
        return serial, False

    def write(self, serial: int, rows: Iterable[Row]) -> None:
        """Add events of an epoch; what is there already is replaced.

        :param serial: the epoch's serial number.
        :param rows: the events.
        """
        with self._transaction():
            self._insert(serial, rows)

    def mark_clean_shutdown(self, serial: int, last: int) -> None:
        """Note that an epoch has shut down cleanly: all its events for whole namespaces are in the file.

        :param serial: its serial number.
        :param last: the number of its last event.
        """
        with self._transaction():
            self._db.execute("UPDATE epochs SET last = ? WHERE serial = ?", (last, serial))

    def trim(self, *, max_bytes: int, not_before: int) -> None:
        """Delete what is too old, and the oldest events if the file is too large.

        :param max_bytes: how large it may be.
        :param not_before: when the oldest event that is kept was emitted, in milliseconds since 1970.
        """
        first = self._db.execute("SELECT ts FROM events ORDER BY place LIMIT 1").fetchone()
        if first is None or (first[0] >= not_before and self.used() <= max_bytes):
            return
        deleted = False
        limit: float = max_bytes
        while True:
            excess = self.used() - limit
            oldest = self._db.execute("SELECT place, ts, length(data) FROM events ORDER BY place LIMIT ?",
                                      (_BATCH,)).fetchall()
            gone = None
            for place, ts, size in oldest:
                if ts >= not_before and excess <= 0:
                    break
                gone = place
                excess -= size or 0
            if gone is None:
                break
            self._delete(gone)
            deleted, limit = True, max_bytes * _RELIEF
        while deleted and self._number("PRAGMA freelist_count"):
            self._db.execute(f"PRAGMA incremental_vacuum({_BATCH})").fetchall()

    def _delete(self, upto: int) -> None:
        serial, number = divmod(upto, _EPOCH)
        with self._transaction():
            self._db.execute("DELETE FROM events WHERE place <= ?", (upto,))
            self._db.execute("UPDATE epochs SET forgotten = ? WHERE serial = ?", (number, serial))

    def _insert(self, serial: int, rows: Iterable[Row]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
                             ((serial * _EPOCH + number, *rest) for number, *rest in rows))

    # -- how -------------------------------------------------------------------------------------------------

    def _refuse_foreign(self) -> None:
        ours = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        if ours == (0, 0) and not self._number("SELECT count(*) FROM sqlite_master"):
            return  # a new file
        if ours != (_APPLICATION, _LAYOUT):
            raise ConfigurationError.bad_value("HYBRID_JOURNAL", self._path, "a path of its own: the file there is "
                                               "another program's database, or another version's")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # some failures have rolled back already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _number(self, query: str, *values: int) -> int:
        (value,) = self._db.execute(query, values).fetchone()
        return int(value or 0)

    def _stat(self) -> tuple[int, int]:
        status = os.stat(self._path)
        return status.st_dev, status.st_ino


def _event(namespace: object, name: object, count: object, data: object, html: object) -> Event | None:
    """Return an event that was kept; ``None`` for a loss, or for what cannot have been an event."""
    try:
        json.loads(data)  # type: ignore[arg-type]
        if isinstance(namespace, str) and namespace[:1] == "/" and isinstance(data, str) and isinstance(count, int):
            return Event(checked_name(name), data, count, Target(namespace), html=None if html is None else str(html))
    except (TypeError, ValueError):  # EventError is a ValueError
        pass
    return None
