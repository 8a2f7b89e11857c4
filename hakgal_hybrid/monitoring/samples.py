"""The figures of the last ten minutes, for those who look after something has happened. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

#: A sample every so many seconds, and for how long samples are kept.
INTERVAL_S, KEPT_S = 2.0, 600.0

#: What a sample holds, in this order; all but the first four since the start.
COLUMNS = ("at_ms", "streams", "loop_lag_ms", "oldest_undelivered_s", "appended", "delivered", "gaps", "refused",
           "stalled", "rejected")


def sample(at_ms: int, status: dict[str, Any]) -> tuple[float | None, ...]:
    """Return the figures of a status as a sample.

    :param at_ms: when the status was taken, in milliseconds since 1970.
    :param status: what ``GET /api/hybrid/status`` answers.
    """
    server = status["server"]
    return (at_ms, status["streams"], server.get("loop_lag", {}).get("latest_max_ms"), status["oldest_undelivered_s"],
            status["log"]["appended"], status["traffic"]["delivered"], status["log"]["gaps"], status["refused"],
            status["traffic"]["ended"].get("stalled", 0),
            sum(lane["rejected"] for lane in server.get("lanes", {}).values()))


class SampleHistory:
    """A bounded list of samples. One thread adds, any thread reads."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._samples: deque[tuple[float | None, ...]] = deque(maxlen=round(KEPT_S / INTERVAL_S))

    def due(self, now: float) -> bool:
        """True once every :data:`INTERVAL_S`, of a monotonic clock.

        :param now: the present moment.
        """
        if now < self._next_at:
            return False
        # A quarter of a second early is better than half a second late: the backlog is sampled every half second.
        self._next_at = now + INTERVAL_S - 0.25
        return True

    def add(self, one: tuple[float | None, ...]) -> None:
        """Keep one more, and forget the oldest.

        :param one: what :func:`sample` returned.
        """
        self._samples.append(one)

    def statistics(self) -> dict[str, Any]:
        """Return ``interval_s``, ``columns`` and ``samples``, the oldest first."""
        return {"interval_s": INTERVAL_S, "columns": COLUMNS, "samples": list(self._samples.copy())}
