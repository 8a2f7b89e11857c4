"""Supervisor: keeps processes running that do nothing but what the test says."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.servers import wait_until

from hakgal_hybrid.host.supervisor import Supervisor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process serves there")

#: Appends a line to a file, and does what else its argument says, in a process that has a supervisor.
WORKER = "import sys, time; open(sys.argv[1], 'a').write('begun\\n'); exec(sys.argv[2])"
RUN = """
import sys
from hakgal_hybrid.host.supervisor import Supervisor
sys.exit(Supervisor([sys.executable, "-c", *sys.argv[1:4]], 2, 1.0, pauses_s=(0.05, 0.2)).run())
"""


def supervised(path: Path, code: str) -> subprocess.Popen[Any]:
    return subprocess.Popen([sys.executable, "-c", RUN, WORKER, str(path), code], stderr=subprocess.PIPE, text=True)


def begun(path: Path) -> int:
    return path.read_text().count("begun") if path.exists() else 0


def test_workers_that_end_are_started_again_with_longer_pauses(tmp_path: Path) -> None:
    """However often they end; the supervisor says so, and ends when it is asked to, with status 0."""
    process = supervised(tmp_path / "begun", "sys.exit(7)")
    wait_until(lambda: begun(tmp_path / "begun") >= 8, 30)
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=20)[1]
    assert process.returncode == 0
    assert "exit status 7" in log
    assert "0.05 s" in log
    assert "0.2 s" in log
    assert "0.4 s" not in log


def test_a_wrong_configuration_ends_all(tmp_path: Path) -> None:
    """A worker with exit status 2 is not started again; the others are stopped, and the status is 2."""
    code = "while open(sys.argv[1]).read().count('begun') < 2: time.sleep(0.01)\nsys.exit(2)"
    process = supervised(tmp_path / "begun", code)
    process.communicate(timeout=20)
    assert process.returncode == 2
    assert begun(tmp_path / "begun") == 2


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """After its own time and some more; a second signal does so at once."""
    code = ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "open(sys.argv[1], 'a').write('begun to ignore\\n'); time.sleep(60)")
    process = supervised(tmp_path / "begun", code)
    wait_until(lambda: begun(tmp_path / "begun") == 4, 30, "both to ignore the signal")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.7)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """It is tried again and again, as it may be there later."""
    tried = [0]

    def start(*_: Any, **__: Any) -> Any:
        tried[0] += 1
        if tried[0] == 5:
            signal.raise_signal(signal.SIGTERM)
        raise FileNotFoundError("no such command")

    supervisor = Supervisor(["none"], 1, 1.0, start=start, pauses_s=(0.01, 0.02))
    assert supervisor.run() == 0
    assert tried[0] >= 5
