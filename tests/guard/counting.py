"""Count the workloads under callgrind, and hold the counts against the baseline."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")
#: How much more than the baseline is a regression.
ALLOWED = 0.10
#: What else may change the counts; a failure names the differences.
PACKAGES = ("flask", "werkzeug", "gevent", "blinker")

_WORKLOADS = Path(__file__).with_name("workloads.py")
_CALIBRATION = "calibration"


class Unavailable(Exception):
    """This machine cannot count instructions; the text says why."""


def key() -> str:
    """Return what a baseline is good for: this very Python on this kind of machine, by this compiler."""
    compiler = "-".join(re.findall(r"^\w+|\d+(?:\.\d+)+", platform.python_compiler())[:2])
    return f"{sys.implementation.name}-{platform.python_version()} {platform.machine()} {compiler}"


def packages() -> dict[str, str]:
    """Return the versions of what an emit runs through besides this package."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def counted(*options: str, seconds: float = 900) -> dict[str, int]:
    """Run the workloads under callgrind and return the instructions of one operation of each.

    :param options: of ``workloads.py``.
    :raises Unavailable: without valgrind, or where this Python does not run under it.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise Unavailable("valgrind is not installed (Debian and Ubuntu: apt-get install valgrind)")
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        out = Path(folder) / "callgrind.out"
        # Nothing of this environment: its size alone moves what is in memory.
        environment = {"PATH": os.defpath, "HOME": folder, "LC_ALL": "C", "PYTHONHASHSEED": "0"}
        command = [valgrind, "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}", "--dump-before=getpgid",
                   "--separate-threads=yes",
                   sys.executable, "-B", str(_WORKLOADS), *options]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=seconds,
                              check=False)
        if done.returncode != 0:
            raise Unavailable(f"valgrind ended with status {done.returncode}: {done.stderr[-2000:]}")
        lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
        # The loop's thread alone: what others do is by the clock, and comes more often where time passes faster.
        parts = sorted((int(path.suffix[1:].partition("-")[0]), path) for path in Path(folder).glob("*.out.*-01"))
        totals = [_total(path) for _, path in parts]
    if len(totals) != 3 * len(lines):
        raise Unavailable(f"callgrind wrote {len(totals)} parts for {len(lines)} workloads; it must see the calls of "
                          "getpgid")
    # The first part of each three is what came before it.
    return {name: round((totals[3 * n + 2] - totals[3 * n + 1]) / (2 * int(times)))
            for n, (times, name) in enumerate(lines)}


def _total(part: Path) -> int:
    with part.open() as lines:
        for line in lines:
            if line.startswith(("summary:", "totals:")):
                return int(line.split()[1])
    raise Unavailable(f"callgrind's {part.name} has no totals")


def baseline() -> dict[str, Any]:
    """Return the committed baseline: of each key its counts and the versions they were taken with."""
    return dict(json.loads(BASELINE.read_text(encoding="utf-8"))) if BASELINE.exists() else {}


def record(counts: dict[str, int]) -> None:
    """Make these counts the baseline of this Python."""
    known = baseline()
    known[key()] = {"packages": packages(), "instructions": counts}
    BASELINE.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", encoding="utf-8")


def judged(counts: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Return a line for each workload that takes more than it may, or that only one side knows."""
    wrong = [f"{name}: {counts[name]:,} instructions, {counts[name] / expected[name] - 1:+.1%} of {expected[name]:,}"
             for name in counts if name in expected and counts[name] > expected[name] * (1 + ALLOWED)]
    return wrong + [f"{name}: only in the {'baseline' if name in expected else 'workloads'}"
                    for name in sorted(counts.keys() ^ expected.keys())]
