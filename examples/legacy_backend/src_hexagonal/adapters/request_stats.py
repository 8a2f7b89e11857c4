"""What the host served lately: the numbers that leave with every ``system_status_update``."""

from __future__ import annotations

import threading
import time
from collections import deque

_RECENT = 12
_BUCKETS = (("under_10_ms", 10), ("under_100_ms", 100), ("under_1_s", 1000), ("slower", float("inf")))


class RequestStats:
    """Counts requests per endpoint and remembers the last few; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.time()
        self._recent: deque[dict[str, object]] = deque(maxlen=_RECENT)
        self._endpoints: dict[str, dict[str, float]] = {}

    def expect(self, endpoints: set[str]) -> None:
        """Name the endpoints, so that the dashboards see those that nobody has called yet too."""
        with self._lock:
            for endpoint in sorted(endpoints):
                self._row(endpoint)

    def _row(self, endpoint: str) -> dict[str, float]:
        fresh = {"requests": 0, "errors": 0, "total_ms": 0.0, "mean_ms": 0.0, "max_ms": 0.0, "last_ms": 0.0}
        fresh.update((name, 0) for name, _ in _BUCKETS)
        return self._endpoints.setdefault(endpoint, fresh)

    def add(self, method: str, path: str, endpoint: str, status: int, duration_ms: float) -> None:
        """Count one answered request."""
        entry = {
            "method": method,
            "path": path[:64],
            "endpoint": endpoint,
            "status": status,
            "duration_ms": round(duration_ms, 3),
            "served_at": round(time.time(), 3),
        }
        with self._lock:
            self._recent.append(entry)
            self._count(self._row(endpoint), status, duration_ms)

    @staticmethod
    def _count(row: dict[str, float], status: int, duration_ms: float) -> None:
        row["requests"] += 1
        row["errors"] += status >= 500
        row["total_ms"] = round(row["total_ms"] + duration_ms, 3)
        row["mean_ms"] = round(row["total_ms"] / row["requests"], 3)
        row["max_ms"] = round(max(row["max_ms"], duration_ms), 3)
        row["last_ms"] = round(duration_ms, 3)
        row[next(name for name, limit in _BUCKETS if duration_ms < limit)] += 1

    def snapshot(self) -> dict[str, object]:
        """The payload, 2 to 4 KB of JSON."""
        with self._lock:
            endpoints = {name: dict(row) for name, row in self._endpoints.items()}
            recent = list(self._recent)
        return {
            "status": "operational",
            "architecture": "hexagonal",
            "uptime_seconds": round(time.time() - self._started, 3),
            "requests_served": int(sum(row["requests"] for row in endpoints.values())),
            "recent_requests": recent,
            "endpoints": endpoints,
            "timestamp": time.time(),
        }
