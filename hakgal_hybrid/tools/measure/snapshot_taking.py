"""Taking a snapshot: what a host and its database answer, and where each figure came from."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError
from ..remote.request import Base, key_headers, request
from .snapshot import Snapshot

_TIMEOUT_S = 30.0


def take(url: str, db: str | os.PathLike[str] | None = None, *, key: str | None = None,
         timeout: float = _TIMEOUT_S) -> Snapshot:
    """Take a snapshot of the host at ``url``. A host that does not answer gives one too, which says so.

    :param url: where the host is.
    :param db: path of the SQLite file, if it can be reached from here; it is opened for reading only.
    :param key: the API key; by default that of the environment's ``HAKGAL_API_KEY``.
    :param timeout: seconds for each part of each answer.
    :raises ConfigurationError: for a URL that is none, or a ``db`` that is no file.
    """
    base = Base.of(url)
    path = None if db is None else Path(db)
    if path is not None and not path.is_file():
        raise ConfigurationError.bad_value("db", str(path), "the path of the SQLite file of the knowledge base")
    taken: dict[str, Any] = {"versions": _own_versions(), "notes": {}}
    host = _Host(base, key_headers(key), timeout)
    _take_health(host, taken)
    _take_transport(host, taken)
    _take_database(path, taken)
    _take_facts(host, path, taken)
    _take_writes(host, path, taken)
    now = datetime.now(timezone.utc)
    return Snapshot(taken_at=now.isoformat(timespec="milliseconds"), url=base.url, **taken)


class _Host:
    """The host's own answers: JSON objects, or a sentence that says why there is none.

    :param base: the host.
    :param headers: sent with the request, by name.
    :param timeout: how long an address may take to accept, and each part of an answer, in seconds.
    """

    def __init__(self, base: Base, headers: dict[str, str], timeout: float) -> None:
        self._base, self._headers, self._timeout = base, headers, timeout
        self._answers: dict[str, tuple[dict[str, Any], str, float, str]] = {}

    def ask(self, path: str) -> tuple[dict[str, Any], str, float, str]:
        """Return the object, what went wrong (or nothing), the milliseconds it took, and the ``Server`` header.

        :param path: the path with its query.
        """
        if path not in self._answers:
            self._answers[path] = self._ask(path)
        return self._answers[path]

    def _ask(self, path: str) -> tuple[dict[str, Any], str, float, str]:
        try:
            answer = request(self._base, "GET", path, headers=self._headers, timeout=self._timeout)
        except OSError as error:
            return {}, f"GET {path} was not answered: {error or type(error).__name__}", 0.0, ""
        document = answer.json()
        wrong = "" if answer.status == 200 else f"GET {path} was answered with status {answer.status}"
        if not wrong and not isinstance(document, dict):
            wrong = f"GET {path} did not answer with a JSON object"
        return (document if isinstance(document, dict) else {}, wrong, round(answer.total_s * 1000, 1),
                answer.headers.get("Server", ""))


def _take_health(host: _Host, taken: dict[str, Any]) -> None:
    document, wrong, took, server = host.ask("/health")
    taken["healthy"] = not wrong
    if server:
        taken["versions"]["host.server"] = server
    if wrong:
        taken["notes"]["health"] = taken["notes"]["health_ms"] = wrong
        return
    taken["health"], taken["health_ms"] = str(document.get("status", "answered 200")), took
    taken["notes"]["health_ms"] = "one GET /health on a new connection"


def _take_transport(host: _Host, taken: dict[str, Any]) -> None:
    document, wrong, _, _ = host.ask("/api/hybrid/status")
    if wrong:
        taken["notes"]["profile"] = taken["notes"]["transport"] = wrong
        return
    taken["profile"], taken["transport"] = document.get("profile"), document.get("transport")
    versions = host.ask("/api/hybrid/seen")[0].get("versions")
    if not isinstance(versions, dict):
        taken["notes"]["versions"] = "the host tells no versions of its own"
        return
    for name, version in versions.items():
        taken["versions"][f"host.{name}"] = str(version)


def _take_database(path: Path | None, taken: dict[str, Any]) -> None:
    if path is None:
        for name in ("db_bytes", "db_modified"):
            taken["notes"][name] = "no path was given (--db)"
        return
    taken["db_path"] = str(path)
    times = [path.stat().st_mtime]
    # What is written in WAL mode reaches the file itself only at a checkpoint.
    with contextlib.suppress(OSError):
        wal = path.with_name(path.name + "-wal").stat()
        times += [wal.st_mtime] if wal.st_size else []
    taken["db_bytes"] = path.stat().st_size
    taken["db_modified"] = datetime.fromtimestamp(max(times), timezone.utc).isoformat(timespec="milliseconds")


def _take_facts(host: _Host, path: Path | None, taken: dict[str, Any]) -> None:
    counted = _first([
        lambda: _count_of(host, "/api/facts/count", "count", fresh=True),
        lambda: _count_of(host, "/api/status", "fact_count"),
        lambda: _rows(path),
        lambda: _count_of(host, "/api/facts/count", "count"),
    ])
    if counted is None:
        taken["notes"]["facts"] = host.ask("/api/facts/count")[1] or "neither the host nor a database has it"
        return
    taken["facts"], taken["notes"]["facts"] = counted


def _count_of(host: _Host, path: str, member: str, *, fresh: bool = False) -> tuple[int, str] | None:
    document, wrong, _, _ = host.ask(path)
    count, cached = document.get(member), bool(document.get("cached"))
    if wrong or isinstance(count, bool) or not isinstance(count, int) or (fresh and cached):
        return None
    return count, f"{member} of GET {path}{' (cached by the host)' if cached else ''}"


def _rows(path: Path | None) -> tuple[int, str] | None:
    if path is None:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            return int(database.execute("SELECT count(*) FROM facts").fetchone()[0]), "rows of the table facts"
    except sqlite3.Error:
        return None


def _take_writes(host: _Host, path: Path | None, taken: dict[str, Any]) -> None:
    for url in ("/health", "/api/status"):
        document = host.ask(url)[0]
        for member, means in (("writes_enabled", True), ("write_enabled", True), ("read_only", False)):
            value = document.get(member)
            if isinstance(value, bool):
                taken["writes_enabled"], taken["notes"]["writes_enabled"] = value is means, f"{member} of GET {url}"
                return
    if path is None:
        taken["notes"]["writes_enabled"] = "the host does not tell it, and no path was given (--db)"
        return
    taken["writes_enabled"] = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    taken["notes"]["writes_enabled"] = "the database file and its folder are writable for who took this snapshot"


def _first(ways: list[Callable[[], tuple[int, str] | None]]) -> tuple[int, str] | None:
    return next((found for way in ways if (found := way()) is not None), None)


def _own_versions() -> dict[str, str]:
    versions = {"tool.python": platform.python_version(), "tool.sqlite": sqlite3.sqlite_version,
                "tool.platform": platform.platform()}
    for name in ("hakgal_hybrid", "flask"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[f"tool.{name}"] = importlib.metadata.version(name)
    return versions
