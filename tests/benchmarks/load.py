"""The load generator and the pinger: C programs on the load's processor, spoken to by lines."""

from __future__ import annotations

import json
import select
import subprocess
import time
from types import TracebackType
from typing import Any

from .build import program
from .system import LOAD_CPU, cpu_seconds, on_cpu


class LoadError(Exception):
    """The load generator could not do what it was told, or not in time."""


class Load:
    """Clients of one server. ``c/load.c`` says what its orders do."""

    def __init__(self, publisher_port: int) -> None:
        command = [program("load"), str(publisher_port)]
        with on_cpu(LOAD_CPU):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, bufsize=0)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, text: str, timeout: float = 60, *, may_be_late: bool = False) -> dict[str, Any]:
        """Give an order and wait for its answer.

        :param may_be_late: what was not done in time is told by ``"late": 1``; otherwise that is an error.
        :raises LoadError: if it was refused, or was not done in ``timeout`` seconds.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{text} timeout={timeout}\n".encode())
        if not select.select([self._process.stdout], [], [], timeout + 5)[0]:
            raise LoadError(f"no answer to {text!r}")
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise LoadError(f"the load generator ended: {self._process.stderr.read().decode(errors='replace').strip()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(answer["error"])
        if answer.get("late") and not may_be_late:
            raise LoadError(f"not done after {timeout:.0f} s: {text}")
        return answer

    def connect(self, group: str, clients: int, *, window: int = 64, timeout: float = 60) -> dict[str, Any]:
        """Open clients of a group.

        :raises LoadError: unless all are open in time.
        """
        answer = self.order(f"connect {group} {clients} window={window}", timeout, may_be_late=True)
        if answer["opened"] < clients:
            raise LoadError(f"only {answer['opened']} of {clients} clients could open in {answer['seconds']:.1f} s, "
                            f"{answer['failed']} were refused")
        return answer

    def cpu_seconds(self) -> float:
        return cpu_seconds([self._process.pid])


class Ping:
    """Requests to one address, by a process of its own that is under way until :meth:`result`."""

    def __init__(self, port: int, path: str, *, seconds: float, **options: Any) -> None:
        words = [f"{name}={value}" for name, value in {"seconds": seconds, **options}.items()]
        with on_cpu(LOAD_CPU):
            self._process = subprocess.Popen([program("ping"), str(port), path, *words], stdout=subprocess.PIPE)
        self._ends = time.monotonic() + seconds + 20

    def __enter__(self) -> Ping:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def result(self) -> dict[str, Any]:
        """Wait for its end; return ``{"answered", "errors", "refused", "seconds", "latency_us"}``."""
        try:
            out, _ = self._process.communicate(timeout=max(0.1, self._ends - time.monotonic()))
        finally:
            self._process.kill()
        answer: dict[str, Any] = json.loads(out)
        return answer
