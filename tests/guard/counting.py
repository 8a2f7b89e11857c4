"""Count the workloads of two trees under callgrind, and compare the counts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
#: How much more than before is a regression.
ALLOWED = 0.10

_WORKLOADS = "tests/guard/workloads.py"


class Unavailable(Exception):
    """This machine cannot count instructions; the text says why."""


def base_commit() -> str:
    """Return the commit at which this branch left main; on main itself the one before, if nothing is changed."""
    head = _git("rev-parse", "HEAD")
    base = _git("merge-base", "HEAD", next(name for name in ("origin/main", "main", "HEAD") if _is_commit(name)))
    return base if base != head or _git("status", "--porcelain") else _git("rev-parse", "HEAD~1")


@contextmanager
def checked_out(commit: str) -> Iterator[tuple[Path, Path]]:
    """Check a commit out; yield its folder and one for what is here, with paths of the same length.

    :param commit: whatever git takes for one.
    """
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        before, here = Path(folder, "before"), Path(folder, "as-now")
        _git("worktree", "add", "--quiet", "--detach", str(before), commit)
        try:
            here.symlink_to(REPOSITORY, target_is_directory=True)
            yield before, here
        finally:
            _git("worktree", "remove", "--force", str(before))


def counted(tree: Path, *options: str, seconds: float = 900) -> dict[str, int]:
    """Run the workloads of a tree under callgrind; return the instructions of one operation of each.

    :param tree: the folder of a checkout; its own workloads are run, with its own package.
    :param options: of ``workloads.py``.
    :param seconds: how long this may take.
    :raises Unavailable: without valgrind, or where this Python does not run under it.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise Unavailable("valgrind is not installed (Debian and Ubuntu: apt-get install valgrind)")
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        out = Path(folder) / "callgrind.out"
        # Nothing of this environment: its size alone moves what is in memory.
        environment = {"PATH": os.defpath, "HOME": folder, "LC_ALL": "C", "PYTHONHASHSEED": "0",
                       "PYTHONPATH": str(tree)}
        command = [valgrind, "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}", "--dump-before=getpgid",
                   "--separate-threads=yes",
                   sys.executable, "-B", str(tree / _WORKLOADS), *options]
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


def judged(counts: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Return a line for each workload that takes more than it may.

    :param counts: the instructions of each workload now.
    :param expected: those before; a workload that only one side has is not compared.
    """
    return [f"{name}: {counts[name]:,} instructions, {counts[name] / expected[name] - 1:+.1%} of {expected[name]:,}"
            for name in counts if name in expected and counts[name] > expected[name] * (1 + ALLOWED)]


def _total(part: Path) -> int:
    with part.open() as lines:
        for line in lines:
            if line.startswith(("summary:", "totals:")):
                return int(line.split()[1])
    raise Unavailable(f"callgrind's {part.name} has no totals")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(done.stderr.strip())
    return done.stdout.strip()


def _is_commit(name: str) -> bool:
    return subprocess.run(["git", "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}"], cwd=REPOSITORY,
                          capture_output=True, check=False).returncode == 0
