"""Facts in SQLite: every call opens its own connection, so any thread may call."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.seed import facts

COUNT_TTL_S = 30.0
_BUSY_TIMEOUT_S = 10.0
_SEEDED = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    id INTEGER PRIMARY KEY,
    statement TEXT NOT NULL UNIQUE
)
"""


class FactRepository:
    """The knowledge base.

    :param path: the database file; it is created and seeded when it is not there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count_lock = threading.Lock()
        self._cached_count = 0
        self._cached_until = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._seed_once()

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        # isolation_level=None: no transaction is opened behind our back, each statement commits itself.
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def _seed_once(self) -> None:
        """Seed in one exclusive transaction: a second process waits, a crash leaves an empty file."""
        with self._connect() as connection:
            if self._is_seeded(connection):
                return
            connection.execute("BEGIN EXCLUSIVE")
            if self._is_seeded(connection):  # another process was quicker while this one waited
                connection.execute("ROLLBACK")
                return
            connection.execute(_SCHEMA)
            connection.executemany("INSERT INTO facts (statement) VALUES (?)", ((fact,) for fact in facts()))
            connection.execute(f"PRAGMA user_version = {_SEEDED}")
            connection.execute("COMMIT")

    @staticmethod
    def _is_seeded(connection: sqlite3.Connection) -> bool:
        return connection.execute("PRAGMA user_version").fetchone()[0] == _SEEDED

    def count(self) -> int:
        """The number of facts, read now."""
        with self._connect() as connection:
            return connection.execute("SELECT COUNT(*) FROM facts").fetchone()[0]

    def cached_count(self) -> tuple[int, bool]:
        """The number of facts, at most 30 s old, and whether it came from the cache."""
        with self._count_lock:
            if time.monotonic() < self._cached_until:
                return self._cached_count, True
            self._cached_count = self.count()
            self._cached_until = time.monotonic() + COUNT_TTL_S
            return self._cached_count, False

    def newest(self, limit: int) -> list[str]:
        """The newest facts, newest first."""
        with self._connect() as connection:
            rows = connection.execute("SELECT statement FROM facts ORDER BY id DESC LIMIT ?", (limit,))
            return [statement for (statement,) in rows]

    def search(self, query: str, limit: int) -> list[str]:
        """Facts that contain the query, whatever its case."""
        pattern = "".join(f"\\{c}" if c in "%_\\" else c for c in query)
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT statement FROM facts WHERE statement LIKE ? ESCAPE '\\' ORDER BY id LIMIT ?",
                (f"%{pattern}%", limit),
            )
            return [statement for (statement,) in rows]

    def add(self, statement: str) -> bool:
        """Store a fact; ``False`` if it was there already."""
        with self._connect() as connection:
            cursor = connection.execute("INSERT OR IGNORE INTO facts (statement) VALUES (?)", (statement,))
            return cursor.rowcount == 1

    def metrics(self) -> dict[str, object]:
        """Number of facts, size in bytes and time of the last change of the file."""
        file = self.path.stat()
        return {
            "fact_count": self.count(),
            "size_bytes": file.st_size,
            "last_modified": file.st_mtime,
            "writes_enabled": True,
        }
