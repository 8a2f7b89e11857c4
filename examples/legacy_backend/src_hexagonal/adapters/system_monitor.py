"""The later vintage's load monitor: a thread that measures the machine and tells everybody."""

from __future__ import annotations

import logging
import threading
from typing import Any

try:
    import psutil
except ImportError:  # the host runs without it; the load is then reported as unknown
    psutil = None

log = logging.getLogger(__name__)

PERIOD_S = 5.0
_MEASURE_S = 1.0


class SystemMonitor:
    """Emits ``system_load_update`` every 5 s, one of which it spends measuring.

    Whoever asks for the monitor first may not know the push channel: ``socketio`` stays ``None`` until it is given.
    """

    def __init__(self, socketio: Any = None) -> None:
        self.socketio = socketio
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start_monitoring(self) -> bool:
        """Start the daemon thread; ``False`` if it runs already."""
        with self._lock:
            if self._thread is not None:
                return False
            self._thread = threading.Thread(target=self._run, name="system-monitor", daemon=True)
            self._thread.start()
            return True

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._tell(self._measure())
            except Exception:  # the thread must outlive a failed emit, or the dashboards freeze silently
                log.exception("the load of the system could not be sent")
            pause.wait(PERIOD_S - _MEASURE_S)

    @staticmethod
    def _measure() -> dict[str, float | None]:
        cpu = memory = None
        if psutil is not None:
            cpu = psutil.cpu_percent(interval=_MEASURE_S)
            memory = psutil.virtual_memory().percent
        return {"cpu": cpu, "memory": memory, "gpu": None, "gpu_memory": None}

    def _tell(self, load: dict[str, float | None]) -> None:
        if self.socketio is not None:
            self.socketio.emit("system_load_update", load, to="/")


_monitor: SystemMonitor | None = None
_monitor_lock = threading.Lock()


def get_system_monitor(socketio: Any = None) -> SystemMonitor:
    """The one monitor of this process; it is given the push channel by whoever has one."""
    global _monitor
    with _monitor_lock:
        if _monitor is None:
            _monitor = SystemMonitor(socketio)
        elif socketio is not None:
            _monitor.socketio = socketio
        return _monitor
