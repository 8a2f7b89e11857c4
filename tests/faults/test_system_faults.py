"""A system that does what it should not: the clock jumps, descriptors and disk run out, the process is ended."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import accounting
from support.faults import FULL, SETTINGS, Client, Holdings, Scene, need, root
from support.servers import STATUS, Server, wait_until

pytestmark = pytest.mark.once

UP = "streams, host, status"
HOUR = 3600


# -- the clock -----------------------------------------------------------------------------------------------------


def told_time(scene: Scene) -> float:
    """Return the time that the server thinks it is."""
    return parsedate_to_datetime(scene.server.ask("GET", "/health").headers["date"]).timestamp()


@pytest.mark.long
def test_the_clock_jumps(fault: Any, clock: tuple[Path, Path]) -> None:
    """The wall clock jumping by an hour or a year, forth and back, ends no stream and times nothing out."""
    library, jump = clock
    with fault("the wall clock jumps by hours and a year", UP, LD_PRELOAD=library, CLOCK_JUMP=jump,
               HYBRID_STALL_S=5, HYBRID_MAX_BACKLOG_S=20, HYBRID_REQUEST_S=5) as scene:
        for seconds in (HOUR, -HOUR, 365 * 24 * HOUR, 0):
            with open(jump, "r+b") as file:
                file.write(struct.pack("l", seconds))
            wait_until(lambda seconds=seconds: abs(told_time(scene) - time.time() - seconds) < 600, 30,
                       "the server to see the jump")
            scene.last(0.5)
        assert {client.connections for client in scene.crowd.clients} == {1}
        scene.row.note = "no stream ended"


# -- descriptors ---------------------------------------------------------------------------------------------------


def test_no_descriptor_left(fault: Any) -> None:
    """With no descriptor left open streams go on; when there are some again, new connections are served."""
    need(sys.platform == "linux", "limits of another process can be set on Linux only")
    import resource

    with fault("descriptors exhausted (EMFILE)", "streams; status as descriptors come free", paths=(STATUS,)) as scene:
        wait_until(lambda: scene.asker.took, 30)
        scene.asker.stop()  # what it is refused meanwhile is no news
        former = resource.prlimit(scene.pid, resource.RLIMIT_NOFILE)
        limit = Holdings.of(scene.pid).descriptors + 20
        resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, (limit, former[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(60):  # more than there are descriptors; the kernel takes all of them in
                stack.enter_context(socket.create_connection(("127.0.0.1", scene.server.port), 20))
            wait_until(lambda: Holdings.of(scene.pid).descriptors >= limit - 1, 30, "no descriptor to be left")
            cpu, began = psutil.Process(scene.pid).cpu_times(), time.monotonic()
            where = scene.crowd.clients[0].last
            wait_until(lambda: all(client.last != where for client in scene.crowd.clients), 30, "streams to go on")
            time.sleep(5 if FULL else 2)  # that is how long the fault lasts
            now = psutil.Process(scene.pid).cpu_times()
            share = (now.user + now.system - cpu.user - cpu.system) / (time.monotonic() - began)
            assert share < 0.9, f"it spins: {share:.0%} of a processor"
        wait_until(lambda: scene.server.status()["streams"] == 4, 30, "it to serve again")
        resource.prlimit(scene.pid, resource.RLIMIT_NOFILE, former)
        scene.asker = type(scene.asker)(scene.server, ("/health", STATUS))
        scene.last(0.5)
        scene.row.note = f"{share:.0%} of a processor meanwhile; served again at once"


# -- the disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    need(sys.platform == "linux" and root(), "a small file system needs Linux and root")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True,
                          check=False)
    need(done.returncode == 0, f"this system mounts nothing: {done.stderr!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.long
def test_the_disk_is_full(fault: Any, small_disk: Path) -> None:
    """While the journal's disk is full, it says so and everything else goes on; when there is room, it keeps again."""
    with fault("the journal's disk is full (ENOSPC)", UP + "; journal degraded, then on",
               HYBRID_JOURNAL=small_disk / "journal.sqlite3") as scene:
        def state() -> Any:
            return scene.server.status()["journal"]["state"]

        wait_until(lambda: state() == "on", 30)
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        wait_until(lambda: state() == "degraded", 60, "the trouble to be told")
        scene.last(1)
        lost = scene.server.status()["journal"]["reason"]
        filler.unlink()
        wait_until(lambda: state() == "on", 60, "the journal to keep events again")
        scene.last(0.2)
        scene.row.note = f"degraded ({lost}), then on"


# -- the end -------------------------------------------------------------------------------------------------------


def again(scene: Scene, server: Server, **settings: Any) -> Server:
    """Start the next life of a server on the port of the one before."""
    found = Server("ours", "--port", str(server.port), **{**SETTINGS, **settings})
    scene.restarted(found)
    return found


@pytest.mark.parametrize(("end", "journal"), [
    pytest.param("SIGTERM", True, id="SIGTERM-journal", marks=pytest.mark.long),
    pytest.param("SIGKILL", False, id="SIGKILL-no journal"),
    pytest.param("SIGTERM", False, id="SIGTERM-no journal", marks=pytest.mark.long),
    pytest.param("SIGKILL", True, id="SIGKILL-journal", marks=pytest.mark.long),
])
def test_ended_under_load_and_started_again(fault: Any, tmp_path: Path, end: str, journal: bool) -> None:
    """Ended under load and started again: clients come back by themselves and get, or are told, what they missed.

    Ended kindly with a journal, nothing is missing. The new life holds no more than the former one did.
    """
    need(hasattr(signal, end), f"there is no {end} here")
    settings: dict[str, Any] = {"SUPPORT_MANIFEST": tmp_path / "manifest", "HYBRID_RETRY_MS": 200}
    if journal:
        settings["HYBRID_JOURNAL"] = tmp_path / "journal.sqlite3"
    title = f"{end} under load, restart, {'journal' if journal else 'no journal'}"
    with fault(title, "clients, who come back by themselves", witnesses=20, **settings) as scene:
        former = scene.server
        scene.last(1)
        former.signal(getattr(signal, end))
        code = former.ended(60)
        assert code == (0 if end == "SIGTERM" else -signal.SIGKILL), code
        # Its manifest goes on: only its log is no longer needed.
        accounting.streams.clear()
        server = again(scene, former, **settings)
        wait_until(lambda: all(client.connections >= 2 for client in scene.crowd.clients), 40, "everybody to be back")
        scene.publish()
        scene.asker.took.clear()
        wait_until(lambda: server.status()["streams"] == 20, 40)
        scene.last(1)
        scene.row.note = f"exit code {code}"
    if journal and end == "SIGTERM":
        assert scene.row.missing == 0


@pytest.mark.long
def test_killed_again_and_again(fault: Any, tmp_path: Path) -> None:
    """Killed several times under load, a client that filters and one that was away for a life are told the truth."""
    settings: dict[str, Any] = {"SUPPORT_MANIFEST": tmp_path / "manifest", "HYBRID_RETRY_MS": 200,
                                "HYBRID_JOURNAL": tmp_path / "journal.sqlite3"}
    lives = 5 if FULL else 2
    with fault(f"kill -9 {lives} times, journal", "clients, who come back by themselves", witnesses=4,
               **settings) as scene:
        away = Client(scene.server.port)
        assert away.connect()
        away.hang_up()
        for life in range(lives):
            former = scene.server
            scene.last(0.5)
            former.process.kill()
            former.ended(30)
            again(scene, former, **settings)
            wait_until(lambda life=life: all(client.connections >= life + 2 for client in scene.crowd.clients), 40)
            scene.publish()
        wait_until(away.connect, 30)
        assert away.stream is not None
        scene.server.emit("end")
        away.stream.wait_for("end", 1, 30)
        away.hang_up()
        scene.parts.append((away.got(), away.last))
        scene.asker.took.clear()
        wait_until(lambda: scene.asker.took, 30)
