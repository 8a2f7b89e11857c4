"""The governor: decides which engines may run. One in a process."""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
from typing import Any

from adapters.engine_process import EngineProcess
from adapters.settings import is_later

STOP_TIMEOUT_S = 5
MODES = ("balanced", "explore", "exploit", "idle")
DEFAULT_ENGINE = "explorer"
_TICK_S = 0.25


class GovernorAdapter:
    """Start it, stop it, ask it.

    The lock puts ``start`` and ``stop`` in order. Reading never takes it: a status must not wait
    the five seconds that ``stop`` may take.
    """

    def __init__(self) -> None:
        self.running = False
        self.mode = MODES[0]
        self.alpha = 1.0
        self.beta = 1.0
        self.decisions_made = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._engines: dict[str, EngineProcess] = {}
        self._started_at = 0.0
        atexit.register(self._end_engines)

    def start(self) -> bool:
        """Start the thread and its engine; ``False`` if it runs already."""
        with self._lock:
            if self.running:
                return False
            stubborn = os.environ.get("LEGACY_GOVERNOR_STUBBORN") == "1"
            if DEFAULT_ENGINE in self._engines:  # started by hand: it would be lost sight of
                self._engines[DEFAULT_ENGINE].end()
            engine = EngineProcess(DEFAULT_ENGINE, stubborn=stubborn)
            self._engines = {**self._engines, DEFAULT_ENGINE: engine}
            self._stopping.clear()
            loop = self._watch if stubborn else self._govern
            self._thread = threading.Thread(target=loop, args=(engine,), name="governor", daemon=True)
            self._thread.start()
            self._started_at = time.time()
            self.running = True
            return True

    def stop(self) -> bool:
        """Stop the thread and every engine; blocks up to 5 s. ``False`` if it was not running."""
        with self._lock:
            if not self.running or self._thread is None:
                return False
            self._stopping.set()
            for engine in self._engines.values():
                engine.ask_to_stop()
            try:
                self._thread.join(timeout=STOP_TIMEOUT_S)
            finally:  # eventlet's join on Python 3.13 raises when the time is up
                self._end_engines()
                self._thread = None
                self.running = False
            return True

    def _govern(self, engine: EngineProcess) -> None:
        while not self._stopping.wait(_TICK_S):
            self._decide()
        engine.wait(timeout=STOP_TIMEOUT_S)

    def _watch(self, engine: EngineProcess) -> None:
        """The stubborn case: the thread is inside the operating system until its engine ends."""
        engine.wait()

    def _decide(self) -> None:
        """One decision: a Beta-distributed belief in exploring, updated by how it went."""
        went_well = random.betavariate(self.alpha, self.beta) > 0.3
        self.decisions_made += 1
        self.alpha += went_well
        self.beta += not went_well

    def _end_engines(self) -> None:
        for engine in self._engines.values():
            engine.end()

    def get_status(self) -> dict[str, Any]:
        """The state as the dashboards show it.

        The early vintage hands out the live ``Popen`` of a running engine, which JSON cannot hold: its
        status route answers 500 just then. The later vintage gives the pid.
        """
        return {
            "running": self.running,
            "mode": self.mode,
            "alpha": self.alpha,
            "beta": self.beta,
            "decisions_made": self.decisions_made,
            "engines": {name: self._describe(engine) for name, engine in self._engines.items()},
            "success_rate": round(self.alpha / (self.alpha + self.beta), 4),
            "decisions_count": self.decisions_made,
        }

    @staticmethod
    def _describe(engine: EngineProcess) -> dict[str, Any]:
        alive = engine.alive
        handle = {"pid": engine.process.pid} if is_later() else {"process": engine.process if alive else None}
        return {
            "running": alive,
            "started_at": engine.started_at,
            "duration_minutes": engine.duration_minutes,
            **handle,
        }

    def set_mode(self, mode: str) -> bool:
        """Choose how engines are picked; ``False`` for a mode that does not exist."""
        if mode not in MODES:
            return False
        self.mode = mode
        return True

    def get_metrics(self) -> dict[str, Any]:
        """Counters only, without handles of processes: always fit for JSON."""
        return {
            "decisions_made": self.decisions_made,
            "success_rate": round(self.alpha / (self.alpha + self.beta), 4),
            "uptime_seconds": round(time.time() - self._started_at, 3) if self.running else 0.0,
            "engines_running": sum(engine.alive for engine in self._engines.values()),
        }

    def start_engine(self, name: str, duration_minutes: float) -> bool:
        """Start one more engine for a while; ``False`` if one of that name runs."""
        with self._lock:
            old = self._engines.get(name)
            if old is not None and old.alive:
                return False
            # A new dictionary, so that a status being read never sees one change under it.
            self._engines = {**self._engines, name: EngineProcess(name, duration_minutes)}
            return True

    def stop_engine(self, name: str) -> bool:
        """End one engine; ``False`` if it was not running."""
        with self._lock:
            engine = self._engines.get(name)
            if engine is None or not engine.alive:
                return False
            engine.ask_to_stop()
            engine.wait(timeout=1)
            engine.end()
            return True


_governor: GovernorAdapter | None = None
_governor_lock = threading.Lock()


def get_governor_adapter() -> GovernorAdapter:
    """The one governor of this process."""
    global _governor
    with _governor_lock:
        if _governor is None:
            _governor = GovernorAdapter()
        return _governor
