"""Supervisor: keeps some worker processes running, starts those again that die, and ends all of them together."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from ..logs import get_logger

logger = get_logger(__name__)

#: Seconds before a worker that has died is started again: the first time, and at most.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 30.0
#: A worker that has run for so long (seconds) begins again with the first pause.
STEADY_S = 60.0
#: Seconds more than a worker's own time to stop, until it is killed.
GRACE_S = 5.0
#: The exit status of a worker whose configuration is wrong: it is not started again.
CONFIGURATION = 2


class Supervisor:
    """Runs a command in several processes.

    Each has a pipe as its standard input, which ends with this process: so that no worker outlives it.

    :param command: the command.
    :param workers: how many processes.
    :param stop_s: how long a worker may take to stop, in seconds.
    :param start: starts a process.
    :param pauses_s: seconds before a worker that has died is started again: the first time, and at most.
    """

    def __init__(self, command: Sequence[str], workers: int, stop_s: float, *,
                 start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
                 pauses_s: tuple[float, float] = (FIRST_PAUSE_S, LAST_PAUSE_S)) -> None:
        self._command, self._workers, self._stop_s, self._start = list(command), workers, stop_s, start
        self._pauses_s = pauses_s
        self._ending, self._asked = threading.Event(), 0
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._status = 0

    def run(self) -> int:
        """Run until SIGTERM, SIGINT, or a worker whose configuration is wrong.

        :return: the exit status: 0 if it was to end; 2 if the configuration is wrong, which a worker has said.
        """
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._end) for number in numbers}
        threads = [threading.Thread(target=self._keep, args=(number,), daemon=True) for number in range(self._workers)]
        try:
            for thread in threads:
                thread.start()
            while not self._ending.wait(1.0):  # in steps: a signal is seen between them on every system
                pass
            self._stop()
            for thread in threads:
                thread.join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._status

    def _end(self, number: int, frame: object) -> None:
        self._asked += 1
        if self._asked > 1:
            self._kill()
        self._ending.set()

    def _keep(self, number: int) -> None:
        """Run one worker, again and again."""
        pause, most = self._pauses_s
        while not self._ending.is_set():
            began = time.monotonic()
            status = self._run_once()
            if status is None or self._ending.is_set():
                return
            if status == CONFIGURATION:
                self._status = CONFIGURATION
                self._ending.set()
                return
            if time.monotonic() - began >= STEADY_S:
                pause = self._pauses_s[0]
            logger.warning("worker %d has ended (%s); it is started again in %g s", number + 1,
                           f"signal {-status}" if status < 0 else f"exit status {status}", pause)
            self._ending.wait(pause)
            pause = min(most, pause * 2)

    def _run_once(self) -> int | None:
        """Run a worker until it ends; return its exit status, or ``None`` if it was not started."""
        with self._lock:
            if self._ending.is_set():
                return None
            try:
                process = self._start(self._command, stdin=subprocess.PIPE)
            except OSError as error:
                logger.error("a worker cannot be started: %s", error)
                return 1
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
            if process.stdin is not None:
                process.stdin.close()

    def _stop(self) -> None:
        """Have all workers stop; kill those that do not."""
        with self._lock:
            running = list(self._running)
        for process in running:
            process.terminate()
        end = time.monotonic() + self._stop_s + GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("worker process %d has not stopped in time; it is killed", process.pid)
                process.kill()

    def _kill(self) -> None:
        for process in list(self._running):
            process.kill()
