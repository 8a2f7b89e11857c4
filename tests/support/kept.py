"""Figures that are kept: when they were taken, of what, on which machine; and, as a pytest plugin, those of tests.

``pytest -p support.kept`` with ``PROOFS_JSON=path`` writes what became of each test, all cases of it together: that is
how ``make faults ARGS=--keep`` takes the figures of the page of guarantees.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .hosts import REPOSITORY


def about(**more: Any) -> dict[str, Any]:
    """Return what there is to say about figures that are being taken."""
    return {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": _commit(),
            "python": platform.python_version(), "system": platform.system(), "kernel": platform.release(),
            "processors": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg")
            else None, "scheduling": _scheduling(), **more}


def _scheduling() -> str:
    """Return ``fifo`` for a run that others of the machine did not disturb (``chrt -f 10 make faults``)."""
    return "fifo" if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_FIFO else "other"


def write(path: Path, value: Any) -> None:
    """Write figures as JSON that can be compared line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    """Return the commit, with a ``+`` if what is tried is not all of it."""
    git = shutil.which("git")
    if git is None:
        return ""

    def ask(*words: str) -> str:
        return subprocess.run([git, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=30,
                              check=False).stdout.strip()

    changed = ask("status", "--porcelain", "--", "hakgal_hybrid", "tests")
    return ask("rev-parse", "--short", "HEAD") + ("+" if changed else "")


# -- the plugin ----------------------------------------------------------------------------------------------------

_ABOUT: dict[str, Any] = {}


def pytest_sessionstart() -> None:
    _ABOUT.update(about())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write how many cases of each test have passed, failed and been skipped, and how long they took."""
    found: dict[str, dict[str, Any]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call" or outcome != "passed":
                name = re.sub(r"\[.*|::runTest$", "", report.nodeid)
                row = found.setdefault(name, {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0})
                row["failed" if outcome == "error" else outcome] += 1
                row["seconds"] = round(row["seconds"] + report.duration, 2)
    if "PROOFS_JSON" in os.environ and found:
        write(Path(os.environ["PROOFS_JSON"]), {"about": _ABOUT, "tests": dict(sorted(found.items()))})
