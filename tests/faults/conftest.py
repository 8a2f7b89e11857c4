"""The table of faults: each test tells a row, and ``make faults`` prints them all, green or red, with their figures."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import faults, kept, shared_faults

_BEGAN = time.monotonic()
_ABOUT: dict[str, Any] = {}


def pytest_sessionstart() -> None:
    _ABOUT.update(kept.about())


@pytest.fixture
def fault(record_property: Callable[[str, object], None]) -> Callable[..., AbstractContextManager[faults.Scene]]:
    """Return a function that begins a scene, whose row goes into the table."""
    return partial(faults.scene, partial(record_property, "fault"))


@pytest.fixture
def shared_fault(record_property: Callable[[str, object], None],
                 tmp_path: Path) -> Callable[..., AbstractContextManager[shared_faults.Shared]]:
    """Return a function that begins a scene of several processes with one log."""
    return partial(shared_faults.shared_scene, partial(record_property, "fault"), tmp_path)


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, Path]:
    """A library that has the wall clock of whoever loads it jump, and the file that says by how many seconds."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    faults.need(sys.platform == "linux" and compiler, "a clock that jumps needs LD_PRELOAD and a C compiler")
    library, jump = tmp_path / "clock.so", tmp_path / "jump"
    done = subprocess.run([str(compiler), "-shared", "-fPIC", "-O1", "-o", str(library),
                           str(Path(__file__).with_name("clock.c")), "-ldl"], capture_output=True, check=False)
    faults.need(done.returncode == 0, f"the clock cannot be compiled: {done.stderr!r}")
    jump.write_bytes(struct.pack("l", 0))
    return library, jump


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
