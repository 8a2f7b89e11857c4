"""What this library has set itself: figures of a run, most of them ratios to others in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Returns a median of a workload: ``find(peer, metric, case number)``; None if it was not measured.
Find = Callable[[str, str, int], "float | None"]


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    :ivar metric: the metric's key.
    :ivar peer: whom it is a ratio to; None for a figure by itself.
    :ivar ours: which of our peers it is about.
    :ivar case: the number of the workload's case, from 0; ``other_case`` that of the peer.
    """

    metric: str
    peer: str | None
    least: float | None
    most: float | None
    case: int
    other_case: int
    ours: str = "ours"

    def measured(self, find: Find) -> float | None:
        """Return what was reached, or None if it was not measured."""
        ours = find(self.ours, self.metric, self.case)
        if self.peer is None or ours is None:
            return ours
        theirs = find(self.peer, self.metric, self.other_case)
        return ours / theirs if theirs else None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def ratio(metric: str, peer: str, *, least: float | None = None, most: float | None = None, case: int = 0,
          other_case: int | None = None, ours: str = "ours") -> Target:
    """Return a target of our median over a peer's in the same run."""
    return Target(metric, peer, least, most, case, case if other_case is None else other_case, ours)


def figure(metric: str, *, least: float | None = None, most: float | None = None, case: int = 0,
           ours: str = "ours") -> Target:
    """Return a target of our median by itself, in the unit of the row."""
    return Target(metric, None, least, most, case, case, ours)


def judged(targets: list[Target], find: Find) -> list[dict[str, Any]]:
    """Return each target with what was measured: ``met`` is None where nothing was."""
    answers = []
    for target in targets:
        value = target.measured(find)
        answers.append({"metric": target.metric, "peer": target.peer, "case": target.case, "least": target.least,
                        "most": target.most, "measured": value, "met": None if value is None else target.met(value)})
    return answers
