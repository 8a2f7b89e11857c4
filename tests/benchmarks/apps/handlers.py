"""What a host's handlers do in the benchmarks: answer at once, ask SQLite, compute. And how late its loop runs."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from flask import Flask, request

from ..publisher import percentiles

NOTES = 5_000
_burned: list[int] = []
LAG_STEP_S = 0.005


def install(app: Flask) -> None:
    """Give the app ``/small``, ``/notes`` (one SQLite query of 20 rows) and ``/burn?ms=`` (computes, in Python)."""
    database = _database()

    @app.get("/small")
    def small() -> Any:
        return {"status": "ok"}

    @app.get("/notes")
    def notes() -> Any:
        with sqlite3.connect(database) as connection:
            rows = connection.execute("SELECT id, text FROM notes WHERE kind = ? ORDER BY id DESC LIMIT 20",
                                      (time.monotonic_ns() % 50,)).fetchall()
        connection.close()
        return {"notes": rows}

    @app.get("/burn")
    def burn() -> Any:
        # Of processor time: four of them at once are four times the work, however threads take turns.
        ends = time.thread_time() + float(request.args["ms"]) / 1000
        while time.thread_time() < ends:
            sum(range(200))
        _burned.append(1)
        return {}


class Lag:
    """How late the timers of a gevent loop ring: :meth:`watch` is for a greenlet, :meth:`told` an order."""

    def __init__(self) -> None:
        self._late: list[int] = []

    def watch(self) -> None:
        """Sleep, and note how much too long that was, for ever."""
        import gevent

        while True:
            due = time.monotonic_ns() + int(LAG_STEP_S * 1e9)
            gevent.sleep(LAG_STEP_S)
            self._late.append(max(0, time.monotonic_ns() - due))

    def told(self) -> dict[str, Any]:
        """Return the lags since the last time, in microseconds, and how many requests have burned in all."""
        late, self._late = self._late, []
        return {"lag_us": percentiles(late), "burned": len(_burned)}


def _database() -> Path:
    path = Path(tempfile.mkdtemp(prefix="bench-notes-")) / "notes.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, kind INTEGER, text TEXT)")
        connection.executemany("INSERT INTO notes (kind, text) VALUES (?, ?)",
                               ((number % 50, f"note {number} " + "x" * 40) for number in range(NOTES)))
        connection.execute("CREATE INDEX kinds ON notes (kind, id)")
    connection.close()
    return path
