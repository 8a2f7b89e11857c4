"""The table of faults: each test tells a row, and ``make faults`` prints them all, green or red, with their figures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import faults, kept

_BEGAN = time.monotonic()
_ABOUT: dict[str, Any] = {}


def pytest_sessionstart() -> None:
    _ABOUT.update(kept.about())


@pytest.fixture
def fault(record_property: Callable[[str, object], None]) -> Callable[..., AbstractContextManager[faults.Scene]]:
    """Return a function that begins a scene, whose row goes into the table."""
    return partial(faults.scene, partial(record_property, "fault"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, if that was asked for (``FAULTS=…``); write it as JSON where ``FAULTS_JSON`` says."""
    rows = []
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if getattr(report, "when", "") == "call" or outcome != "passed":
                properties = dict(getattr(report, "user_properties", ()))  # a file that cannot be collected has none
                row = properties.get("fault", {"fault": report.nodeid.rpartition("::")[2]})
                rows.append({"outcome": "failed" if outcome == "error" else outcome, "test": report.nodeid, **row})
    rows = [row for row in rows if "faults/" in row["test"]]
    rows.sort(key=lambda row: row["test"])
    if "FAULTS_JSON" in os.environ and rows:
        kept.write(Path(os.environ["FAULTS_JSON"]),
                   {"about": {**(_ABOUT or kept.about()), "length": "full" if faults.FULL else "short",
                              "seconds": round(time.monotonic() - _BEGAN)}, "rows": rows})
    if "FAULTS" in os.environ and rows:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Faults", show_lines=True)
    for name in ("", "fault", "what stays up", "served\nrefused\nfailed", "p95\nms", "emits\np95 ms",
                 "delivered\nowed\nmissing, told", "threads\ndescriptors\nMiB", "note"):
        table.add_column(name, overflow="fold")
    for row in rows:
        color = {"passed": "green", "failed": "red"}.get(row["outcome"], "yellow")
        cells = [f"[{color}]{row['outcome']}[/]", row["fault"]]
        if "up" in row:
            cells += [row["up"], "{served}\n{refused}\n{failed}".format(**row), f"{row['p95_ms']:.0f}",
                      f"{row['emits']}\n{row['emit_p95_ms']:.2f}", "{delivered}\n{owed}\n{missing}".format(**row),
                      "\n".join(f"{row[name][0]:g} → {row[name][1]:g}"
                                for name in ("threads", "descriptors", "memory_mib")), row["note"]]
        table.add_row(*cells)
    Console(width=max(150, Console().width)).print(table)
