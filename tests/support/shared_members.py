"""The processes of a scene with one log, which can be killed and stopped, and what emits from outside."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable

from hakgal_hybrid import Emitter

from .hosts import free_port
from .servers import Server


class Edge(Server):
    """``hakgal-hybrid edge``, whose options are those of its command line."""

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "hakgal_hybrid", kind, *options]

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/api/hybrid/ready").status == 200
        except OSError:
            return False


class Member:
    """One process: it can be killed, stopped and started again on its port.

    :param start: starts it on a port.
    :ivar lives: how often it was started.
    """

    def __init__(self, name: str, start: Callable[[int], Server]) -> None:
        self.name, self._start, self.port, self.lives = name, start, free_port(), 0
        self.start()

    def start(self) -> None:
        """Start it."""
        self.lives += 1
        self.server = self._start(self.port)
        self.port = self.server.port

    def kill(self) -> None:
        """Kill it, as the kernel does."""
        self.server.process.kill()
        self.server.process.wait()
        self.server.stop()

    def pause(self) -> None:
        """Stop it where it is."""
        self.server.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on."""
        self.server.signal(signal.SIGCONT)


class Pace(threading.Thread):
    """Emits at a rate from this process.

    :ivar number: how many events it has emitted. :ivar took: how long each emit took (ms).
    """

    def __init__(self, url: str, rate: float) -> None:
        super().__init__(daemon=True)
        self.emitter = Emitter(url, "faults")
        self._rate, self._ended = rate, threading.Event()
        self.number, self.took = 0, [0.0]

    def run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(max(0.0, began + self.number / self._rate - time.monotonic())):
            self.emit()

    def emit(self) -> None:
        """Emit the next event."""
        started = time.perf_counter()
        self.emitter.emit("tick", {"i": self.number})
        self.took.append((time.perf_counter() - started) * 1000)
        self.number += 1

    def stop(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join()
