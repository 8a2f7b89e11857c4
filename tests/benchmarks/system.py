"""The machine: its processors, limits and versions, and what ``/proc`` tells about processes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


def cpus() -> tuple[int, int]:
    """Return the processors of the server and of the load; the same one twice if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1] if len(usable) > 1 else usable[0]


SERVER_CPU, LOAD_CPU = cpus()


@contextlib.contextmanager
def on_cpu(*cpus: int) -> Iterator[None]:
    """Have the processes that are started meanwhile run on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cpus))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_limits() -> int:
    """Allow as many open files as the system lets us; return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # root may go beyond the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 65536), max(hard, 65536)))
        return max(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def family(pids: Iterable[int]) -> list[int]:
    """Return processes and all that descend from them."""
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that these processes, and all that descend from them, have used."""
    total = 0
    for pid in family(pids):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))  # utime, stime, and those of children that have ended
    return total / _TICKS


def thread_seconds(pid: int) -> float:
    """Return the processor time that the threads which a process has now have used, to the nanosecond."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def memory_kb(pids: Iterable[int]) -> float:
    """Return the proportional set size of these processes and their descendants: shared pages count once."""
    total = 0
    for pid in family(pids):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) if found else 0
    return total


def kernel_socket_kb() -> float:
    """Return the memory of all TCP sockets' buffers on this machine, as the kernel accounts it."""
    found = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    return int(found[1]) * resource.getpagesize() / 1024 if found else 0


def description() -> dict[str, Any]:
    """Tell what figures depend on and a reader cannot see: the machine and its software."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    total = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "processors": os.cpu_count(),
        "server_on_cpu": SERVER_CPU, "load_on_cpu": LOAD_CPU,
        "memory_mb": int(total[1]) // 1024 if total else None,
        "kernel": platform.release(), "system": _system(),
        "python": platform.python_version(), "gcc": first_line("gcc", "--version"),
        "commit": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "load_average_at_start": os.getloadavg()[0],
    }


def _system() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.system()


def first_line(*command: str) -> str | None:
    """Return the first line that a command prints, or None if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter((done.stdout or done.stderr).strip().splitlines()), None)


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of Python distributions.

    :raises importlib.metadata.PackageNotFoundError: if one is not installed.
    """
    return {name: importlib.metadata.version(name) for name in distributions}
