"""The guard of performance counts instructions, and compares two commits (``tests/guard``, ``make guard``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guard import counting
from support.hosts import REPOSITORY, environment
from support.needs import missing

pytestmark = [pytest.mark.once, pytest.mark.timeout(900)]

ONE = "wire decode, 50 events"


def counted(*options: str) -> int:
    try:
        return counting.counted(REPOSITORY, "--only", ONE, *options)[ONE]
    except counting.Unavailable as error:
        missing(str(error))
        raise


def test_the_workloads_run(tmp_path: Path) -> None:
    """Every workload ends by itself, also where nothing counts."""
    script = REPOSITORY / "tests" / "guard" / "workloads.py"
    done = subprocess.run([sys.executable, "-B", str(script)], env=environment(tmp_path), cwd=tmp_path, timeout=100,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10


@pytest.mark.long
def test_more_work_is_seen() -> None:
    """A workload that is made to do about twice as much is counted so, and judged to be a regression."""
    usual, slowed = counted(), counted("--slower-by", "4")
    (line,) = counting.judged({ONE: slowed}, {ONE: usual})
    assert line.startswith(f"{ONE}: ")
    calibration = counting.counted(REPOSITORY, "--only", "calibration")["calibration"]
    assert slowed - usual == pytest.approx(4 * calibration, rel=0.1), "it counts what was added, and that alone"


def test_the_limit_is_ten_percent() -> None:
    """At 10 % more all is well, above it is not; a workload that only one side has is not compared."""
    assert counting.judged({"a": 1100, "b": 1}, {"a": 1000, "b": 9}) == []
    (line,) = counting.judged({"a": 1101}, {"a": 1000})
    assert "+10.1%" in line
    assert counting.judged({"new": 1}, {"old": 1}) == []


def test_two_commits_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is the commit where the branch left main; it is checked out, and taken away again."""

    def git(*words: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@localhost"]
        return subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True,
                              check=True).stdout.strip()

    def commit(text: str) -> str:
        (tmp_path / "file").write_text(text)
        git("add", "-A")
        git("commit", "-qm", text)
        return git("rev-parse", "HEAD")

    monkeypatch.setattr(counting, "REPOSITORY", tmp_path)
    git("init", "-q", "-b", "main")
    first, second = commit("first"), commit("second")
    assert counting.base_commit() == first, "on main: the commit before"
    (tmp_path / "file").write_text("changed")
    assert counting.base_commit() == second, "with changes: what they are made to"
    git("checkout", "-q", "-b", "branch")
    commit("third")
    assert counting.base_commit() == second
    with counting.checked_out(counting.base_commit()) as (before, here):
        assert (before / "file").read_text() == "second"
        assert (here / "file").read_text() == "third"
        assert len(str(before)) == len(str(here))
    assert not before.exists()
    assert len(git("worktree", "list").splitlines()) == 1
