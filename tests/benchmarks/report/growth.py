"""How cost grows: exponents fitted to the figures of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..workloads import Case
from .summary import Summaries


class Dependence(NamedTuple):
    """A figure of a workload that depends on one thing: the parameter ``x`` of the cases that have these parameters."""

    workload: str
    figure: str
    of: str
    x: str
    having: dict[str, Any]


DEPENDENCES = [
    Dependence("W13", "cpu_us", "clients", "x", {"series": "clients"}),
    Dependence("W13", "time_us", "clients", "x", {"series": "clients"}),
    Dependence("W13", "cpu_us", "size", "x", {"series": "size"}),
    Dependence("W13", "time_us", "size", "x", {"series": "size"}),
    Dependence("W13", "time_us", "events behind", "x", {"series": "behind"}),
    Dependence("W9", "hot_p50_us", "clients", "clients", {"threads": 1}),
    Dependence("W9", "cold_p50_us", "clients", "clients", {"threads": 1}),
]
#: The last so many points, where a fixed cost counts for little.
TAIL = 3


@dataclass(frozen=True)
class Growth:
    """``figure ~ of ** exponent``.

    :ivar points: ``(x, median)``, by x. :ivar exponent: over all points; ``tail`` over the last three.
    """

    workload: str
    figure: str
    of: str
    peer: str
    points: list[tuple[float, float]]
    exponent: float
    tail: float

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def growths(summaries: Summaries, cases: dict[str, dict[str, Case]]) -> list[Growth]:
    """Fit every dependence of which the run has three points or more.

    :param cases: every workload's cases by label.
    :raises ImportError: without numpy, which matplotlib brings.
    """
    found = []
    for dependence in DEPENDENCES:
        for peer, points in _points(summaries, cases, dependence).items():
            if len(points) >= TAIL:
                found.append(Growth(dependence.workload, dependence.figure, dependence.of, peer, points,
                                    fitted(points), fitted(points[-TAIL:])))
    return found


def fitted(points: list[tuple[float, float]]) -> float:
    """Return the slope of the line through ``(log x, log y)`` with the least squares."""
    import numpy as np

    slope, _ = np.polyfit([math.log(x) for x, _ in points], [math.log(y) for _, y in points], 1)
    return float(slope)


def _points(summaries: Summaries, cases: dict[str, dict[str, Case]],
            dependence: Dependence) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for one in summaries:
        case = cases.get(one.workload, {}).get(one.case)
        y = one.figures.get(dependence.figure)
        if one.workload == dependence.workload and case is not None and y is not None and y.median > 0 and (
                dependence.having.items() <= case.parameters.items()):
            series.setdefault(one.peer, []).append((case.parameters[dependence.x], y.median))
    return {peer: sorted(points) for peer, points in series.items()}
