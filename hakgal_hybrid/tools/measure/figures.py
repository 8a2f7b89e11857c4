"""Figures: how times are summed up, and how two of them are compared. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...monitoring.histogram import nearest_rank


def mean(values: Sequence[float]) -> float:
    """Return the mean, rounded to 0.1 as the protocol has it.

    :param values: the values, at least one.
    :raises ValueError: of no values.
    """
    if not values:
        raise ValueError("no mean of no values")
    return round(math.fsum(values) / len(values), 1)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is said about a number of times, in their own unit. All but ``n`` and ``errors`` are ``None`` if n is 0.

    :ivar n: how many were taken; ``errors``: how many of the attempts failed.
    """

    n: int
    errors: int
    min: float | None = None
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: Sequence[float], errors: int = 0) -> Summary:
        """Sum up ``values``.

        :param values: what was measured.
        :param errors: how many attempts failed.
        """
        if not values:
            return cls(0, errors)
        ordered = sorted(values)
        p50, p95, p99 = (round(nearest_rank(ordered, share), 3) for share in (0.5, 0.95, 0.99))
        return cls(len(values), errors, round(ordered[0], 3), mean(values), p50, p95, p99, round(ordered[-1], 3))

    def to_dict(self) -> dict[str, Any]:
        """Every member, as JSON values."""
        return {name: getattr(self, name) for name in ("n", "errors", *STATISTICS)}


#: The statistics of a :class:`Summary`, in the order in which they are shown.
STATISTICS = ("min", "mean", "p50", "p95", "p99", "max")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, how it was taken, and of how much.

    :ivar value: ``None`` if it could not be taken; ``missing`` then says why.
    :ivar n: of how many samples (or events, or requests) it was made.
    """

    value: float | None
    unit: str
    n: int
    how: str
    missing: str | None = None

    @classmethod
    def none(cls, unit: str, why: str) -> Figure:
        """Return a figure that could not be taken, and why.

        :param unit: the unit of the value.
        :param why: why it could not be taken.
        """
        return cls(None, unit, 0, "not taken", why)

    def __str__(self) -> str:
        return "not taken" if self.value is None else shown(self.value, self.unit)


def shown(value: float, unit: str) -> str:
    """Return a value with its unit, with as many places as make sense of its size.

    >>> shown(2034.04, "ms"), shown(1.38, "ms"), shown(-51.2, "%"), shown(20.0, "")
    ('2,034 ms', '1.38 ms', '-51.2 %', '20')

    :param value: the value.
    :param unit: the unit of the value.
    """
    size = abs(value)
    if value == int(value) and (not unit or size >= 1000):
        text = f"{int(value):,}"
    else:
        text = f"{value:,.{0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4}f}"
    return f"{text} {unit}".strip()


def change(before: float, after: float) -> float | None:
    """Return by how many per cent ``after`` differs from ``before``; nothing if there was nothing before.

    :param before: the value before.
    :param after: the value after.
    """
    return (after / before - 1) * 100 if before else None


def speedup(before: float, after: float) -> float | None:
    """Return how many times faster it is; nothing if it takes no time now.

    :param before: the value before.
    :param after: the value after.
    """
    return before / after if after else None
