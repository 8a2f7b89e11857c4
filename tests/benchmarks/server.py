"""One peer's server, fresh for each row: its processes, ports, and how to speak to its publisher."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from . import system

START_S = 30.0


class ServerError(Exception):
    """A server did not start, or its publisher does not answer."""


class Server:
    """What a peer's ``start`` fills with processes. Use it in a ``with`` block, which ends them.

    :ivar port: where the peer is to listen for HTTP.
    :ivar ports: where its processes listen, if it is several.
    :ivar control: the UDP port where its publisher is to take orders.
    :ivar folder: an empty folder, removed afterwards.
    """

    def __init__(self) -> None:
        self.port = system.free_port()
        self.control = system.free_port(socket.SOCK_DGRAM)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-row-")
        self.folder = Path(self._folder.name)
        self.ports: list[int] = []
        self.pids: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._named: dict[str, tuple[subprocess.Popen[bytes], Callable[[], None]]] = {}

    def spawn(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, counts: bool = True,
              name: str = "", anywhere: bool = False) -> None:
        """Start a process.

        :param counts: it is a part of the server: it runs on the server's processor, and its time and memory count.
            Otherwise (a publisher that is none) it runs on the load's.
        :param anywhere: it runs on either processor.
        :param name: by which :meth:`kill`, :meth:`revive` and :meth:`cpu_of` know it.
        """
        cpus = {system.SERVER_CPU, system.LOAD_CPU} if anywhere else {system.SERVER_CPU if counts else system.LOAD_CPU}
        with system.on_cpu(*cpus), open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(command, cwd=system.ROOT, env={**os.environ, **(env or {})}, stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self._processes.append(process)
        if counts:
            self.pids.append(process.pid)
        if name:
            again = partial(self.spawn, command, env=env, counts=counts, name=name, anywhere=anywhere)
            self._named[name] = process, again

    def kill(self, name: str) -> None:
        """Kill a process."""
        process, _ = self._named[name]
        process.kill()
        process.wait()
        self._processes.remove(process)

    def revive(self, name: str) -> None:
        """Start a process again that was killed."""
        self._named[name][1]()

    def cpu_of(self, *names: str) -> float:
        """Return the processor time of processes by their names, in seconds, more exactly than in ticks."""
        return sum(system.thread_seconds(self._named[name][0].pid) for name in names)

    def memory_of(self, *names: str) -> float:
        """Return the proportional set size of processes by their names, in KB."""
        return system.memory_kb([self._named[name][0].pid for name in names])

    def wait_until_ready(self, health: str) -> None:
        """Wait until the server answers requests and its publisher takes orders.

        :raises ServerError: with the end of what it printed.
        """
        deadline = time.monotonic() + START_S
        ready = False
        while not ready:
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                raise ServerError(f"did not start: {self.log()[-2000:].strip() or 'it printed nothing'}")
            with contextlib.suppress(OSError, TimeoutError):
                for port in self.ports or [self.port]:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=2).close()
                ready = self.order("hello", timeout=0.5) == {}
            time.sleep(0.02)

    def log(self) -> str:
        """Return what the processes have printed."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def order(self, text: str, timeout: float = 60) -> dict[str, Any]:
        """Give the publisher an order and wait for its answer; :mod:`.publisher` describes them.

        :raises TimeoutError: if it does not answer in time.
        """
        return self.ask(text).result(timeout)

    def ask(self, text: str) -> Asked:
        """Give the publisher an order; it is answered later."""
        return Asked(self.control, text)

    def cpu_seconds(self) -> float:
        return system.cpu_seconds(self.pids)

    def memory_kb(self) -> float:
        return system.memory_kb(self.pids)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if error is not None:
            died = [process.args for process in self._processes if process.poll() is not None]
            words = (f"ended by itself: {died}; " if died else "") + self.log()[-1000:].strip()
            error.last_words = words  # type: ignore[attr-defined]  # for the row, which tells why it failed
        for process in self._processes:  # none has anything to save, and a graceful stop takes seconds
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._folder.cleanup()


class Asked:
    """An order that was given to a publisher."""

    def __init__(self, port: int, text: str) -> None:
        self._text = text
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.send(text.encode())

    def forget(self) -> None:
        """Do not wait for the answer."""
        self._socket.close()

    def result(self, timeout: float) -> dict[str, Any]:
        """Wait for the answer.

        :raises TimeoutError: if there is none in time.
        """
        self._socket.settimeout(timeout)
        try:
            with self._socket:
                answer: dict[str, Any] = json.loads(self._socket.recv(65536))
        except TimeoutError:
            raise TimeoutError(f"the publisher did not answer {self._text!r} within {timeout:.0f} s") from None
        return answer
