"""What a load gave: latencies, losses, throughput."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...monitoring.histogram import nearest_rank


@dataclass(frozen=True)
class Spread:
    """Durations in milliseconds: nearest-rank percentiles of ``n`` of them, ``None`` where there were none."""

    n: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of some durations, given in milliseconds.

        :param values: what was measured.
        """
        if not values:
            return cls(0)
        ranked = sorted(values)
        p50, p95, p99 = (round(nearest_rank(ranked, share), 2) for share in (0.5, 0.95, 0.99))
        return cls(len(ranked), round(sum(ranked) / len(ranked), 2), p50, p95, p99, round(ranked[-1], 2))


@dataclass(frozen=True)
class Losses:
    """What clients did not get, by ids: an id counts for a client if it lies between its first and its last one.

    :ivar counted: false if there were no ids to count by, or too many.
    :ivar missing: ids others had and a client had not, summed over clients; ``conflated`` and ``in_gaps`` of them were
        announced to it, ``lost`` were not.
    :ivar repeated: ids that came to a client twice.
    :ivar behind: by how many events the client that was furthest behind at the end was.
    """

    counted: bool
    missing: int = 0
    conflated: int = 0
    in_gaps: int = 0
    lost: int = 0
    repeated: int = 0
    behind: int = 0


@dataclass(frozen=True)
class Result:
    """What a load has shown. Rates are those of the ``seconds`` after all clients had been opened.

    :ivar refused: clients that got no stream, by what the answer was; ``ended``: streams that ended too early.
    :ivar events: different events; ``deliveries``: events summed over clients.
    :ivar first_event: from the request to the first event, by client.
    :ivar latency: from the time stamp in an event to its arrival; the clocks of both machines matter.
    :ivar own_cpu: share of one processor that this program used; near 1 it was the bottleneck itself.
    """

    url: str
    clients: int
    opened: int
    stalled: int
    refused: dict[str, int]
    ended: dict[str, int]
    seconds: float
    events: int
    deliveries: int
    bytes: int
    events_per_s: float
    deliveries_per_s: float
    first_event: Spread
    latency: Spread
    losses: Losses
    own_cpu: float

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)
