"""Medians of a run's rows."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from ..runner import Row
from ..workloads import Workload


@dataclass
class Spread:
    """A figure of several runs."""

    median: float
    least: float
    most: float


@dataclass
class Summary:
    """What the runs of one peer in one case gave.

    :ivar measured: how many runs gave figures; ``errors`` says why the others did not.
    :ivar lost: over all runs: events that were lost or repeated, clients that were hung up on; and in how many runs
        the server did not get done.
    """

    workload: str
    case: str
    peer: str
    measured: int = 0
    errors: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Spread] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Summaries:
    """All of them, in the order in which they were measured."""

    def __init__(self, rows: list[Row], workloads: list[Workload]) -> None:
        self.workloads = workloads
        self._all: dict[tuple[str, str, str], Summary] = {}
        grouped: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            grouped.setdefault((row.workload, row.case, row.peer), []).append(row)
        for key, several in grouped.items():
            self._all[key] = _summary(*key, several)

    def __iter__(self) -> Any:
        return iter(self._all.values())

    def cases(self, workload: Workload) -> list[str]:
        """Return the labels of a workload's cases."""
        return list(dict.fromkeys(case for key, case, _ in self._all if key == workload.key))

    def of(self, workload: Workload, case: str) -> list[Summary]:
        """Return one summary a peer."""
        return [one for (key, label, _), one in self._all.items() if (key, label) == (workload.key, case)]

    def find(self, workload: Workload, peer: str, metric: str, case: str) -> float | None:
        """Return a median of a case, by its label, or None if it was not measured."""
        found = self._all.get((workload.key, case, peer))
        return found.figures[metric].median if found and metric in found.figures else None


def _summary(workload: str, case: str, peer: str, rows: list[Row]) -> Summary:
    summary = Summary(workload, case, peer, errors=[row.error for row in rows if row.error])
    measured = [row.values for row in rows if not row.error]
    summary.measured = len(measured)
    for values in measured:
        for key in ("lost", "repeated", "hung_up", "overloaded"):
            if values.get(key):
                summary.lost[key] = summary.lost.get(key, 0) + values[key]
    for key in dict.fromkeys(key for values in measured for key in values):
        numbers = [values[key] for values in measured if isinstance(values.get(key), (int, float))]
        if numbers:
            summary.figures[key] = Spread(statistics.median(numbers), min(numbers), max(numbers))
    return summary
