"""Archive: the SQLite file that keeps events over restarts. One object is one open connection; no thread of its own.

While it is open nobody else can open the file: two processes that wrote one history would tell a client two stories.
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
_APPLICATION, _LAYOUT = 0x68616B6A, 1
#: How many lives are remembered whose events are gone. A client of an older one is told ``restarted``.
MAX_LIVES = 1000
#: How many events are deleted at once. More would hold up those that wait to be written.
_BATCH = 64
#: How full a file is that had become too large (of 1): so that it does not become so with every event.
_RELIEF = 0.9
#: What the write-ahead log is cut down to when it has been taken over into the file (bytes).
_WAL_BYTES = 4 << 20

_TABLES = """
CREATE TABLE lives (serial INTEGER PRIMARY KEY, epoch INTEGER NOT NULL UNIQUE, last INTEGER,
                    forgotten INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (place INTEGER PRIMARY KEY, ts INTEGER NOT NULL, namespace TEXT, name TEXT, count INTEGER,
                     data TEXT);
"""
#: An event's ``place`` is its life's serial number times this, and its own number: so they are in order.
_LIFE = 1 << 40

#: What can go wrong with a file: also that it holds what we did not write.
FAILURES = (sqlite3.Error, OSError)

Row = tuple[int, int, "str | None", "str | None", "int | None", "str | None"]


def row_of(number: int, ts: int, event: Event | None) -> Row:
    """Return what is kept of an event; without one, of a place where events were lost."""
    if event is None:
        return number, ts, None, None, None, None
    return number, ts, event.target.namespace, event.name, event.count, event.data


class SQLiteStore:
    """One open file.

    :param wait_s: how long to wait for whoever has it locked.
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
        """Let go of the file."""
        self._db.close()

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
        """Return what earlier lives have left: the newest events, at most so many with so much data."""
        lives = [(serial, epoch, last, forgotten) for serial, epoch, last, forgotten in
                 self._db.execute("SELECT serial, epoch, last, forgotten FROM lives ORDER BY serial")]
        forgotten = max([(0, 0), *((serial, number) for serial, _, _, number in lives if number)])
        records: list[Record] = []
        size = 0
        for place, ts, *rest in self._db.execute("SELECT place, ts, namespace, name, count, data FROM events "
                                                 "ORDER BY place DESC LIMIT ?", (max_events + 1,)):
            serial, number = divmod(place, _LIFE)
            size += len(rest[3] or "")
            if len(records) == max_events or size > max_bytes:
                forgotten = max(forgotten, (serial, number))
                break
            records.append(Record(serial, number, ts, _event(*rest)))
        records.reverse()
        past = RestoredHistory(tuple(Epoch(serial, epoch, last) for serial, epoch, last, _ in lives),
                    tuple((record.serial, record.number) for record in records), forgotten)
        return past, records

    # -- writing ---------------------------------------------------------------------------------------------

    def begin(self, epoch: int, born: int, ts: int) -> tuple[int, bool]:
        """Note that a life has begun, if that has not been noted.

        :param born: its first number, under which it is noted if the life before it did not end well.
        :return: its serial number, and true if it was known already.
        """
        with self._transaction():
            for (serial,) in self._db.execute("SELECT serial FROM lives WHERE epoch = ?", (epoch,)):
                return serial, True
            torn = self._number("SELECT count(*) FROM (SELECT last FROM lives ORDER BY serial DESC LIMIT 1) "
                                "WHERE last IS NULL")
            serial = self._number("SELECT max(serial) FROM lives") + 1
            self._db.execute("INSERT INTO lives (serial, epoch) VALUES (?, ?)", (serial, epoch))
            if torn:
                self._insert(serial, [row_of(born, ts, None)])
            oldest = self._number("SELECT min(place) FROM events") // _LIFE
            self._db.execute("DELETE FROM lives WHERE serial < ?", (min(oldest, serial - MAX_LIVES),))
        return serial, False

    def write(self, serial: int, rows: Iterable[Row]) -> None:
        """Add events of a life; what is there already is replaced."""
        with self._transaction():
            self._insert(serial, rows)

    def end(self, serial: int, last: int) -> None:
        """Note that a life has ended well: everything up to number ``last`` is here that was for everybody."""
        with self._transaction():
            self._db.execute("UPDATE lives SET last = ? WHERE serial = ?", (last, serial))

    def trim(self, *, max_bytes: int, not_before: int) -> None:
        """Delete what is older than ``not_before`` (ms since 1970), and the oldest if it is all too much."""
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
        serial, number = divmod(upto, _LIFE)
        with self._transaction():
            self._db.execute("DELETE FROM events WHERE place <= ?", (upto,))
            self._db.execute("UPDATE lives SET forgotten = ? WHERE serial = ?", (number, serial))

    def _insert(self, serial: int, rows: Iterable[Row]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)",
                             ((serial * _LIFE + number, *rest) for number, *rest in rows))

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


def _event(namespace: object, name: object, count: object, data: object) -> Event | None:
    """Return an event that was kept; nothing if it is a tear, or something that cannot have been an event."""
    try:
        json.loads(data)  # type: ignore[arg-type]
        if isinstance(namespace, str) and namespace[:1] == "/" and isinstance(data, str) and isinstance(count, int):
            return Event(checked_name(name), data, count, Target(namespace))
    except (TypeError, ValueError):  # EventError is a ValueError
        pass
    return None
