"""One engine of the governor: a child process that lives no longer than it is wanted."""

from __future__ import annotations

import subprocess
import sys
import time

# The engine ends when it is told to, when its time is up, or when its standard input reaches its end. The
# last one happens whenever the parent dies, however it dies, on every platform: no engine is ever orphaned.
# os.read, because a daemon thread inside a buffered reader can crash an interpreter that is finishing.
_PROGRAM = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
stubborn, seconds = sys.argv[1] == "stubborn", float(sys.argv[2])
done = threading.Event()
def listen():
    words = os.read(0, 4096)
    while words and (stubborn or b"stop" not in words):
        words = os.read(0, 4096)
    done.set()
threading.Thread(target=listen, daemon=True).start()
end = time.monotonic() + seconds if seconds > 0 else float("inf")
rounds = 0
while not done.wait(0.5) and time.monotonic() < end:
    rounds += sum(range(1000)) > 0
"""


class EngineProcess:
    """A running engine.

    :param name: what the governor calls it.
    :param duration_minutes: after this long it ends by itself; 0 means never.
    :param stubborn: it does not listen to the polite request to stop.
    """

    def __init__(self, name: str, duration_minutes: float = 0, stubborn: bool = False) -> None:
        self.name = name
        self.duration_minutes = duration_minutes
        self.started_at = time.time()
        temper = "stubborn" if stubborn else "polite"
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, temper, str(duration_minutes * 60)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def alive(self) -> bool:
        """Whether the child still runs; reaps it if it has ended."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """The polite request; a stubborn engine does not heed it."""
        try:
            self.process.stdin.write(b"stop\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # it has ended already, or somebody else has ended it
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the child; ``False`` if it outlasted the time-out."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Kill the child if it still runs, and reap it."""
        if self.alive:
            self.process.kill()
        self.wait(timeout=5)
        try:
            self.process.stdin.close()
        except OSError:  # an unsent request to stop, to a child that is gone
            pass
