"""The one percentile that is reported."""

from __future__ import annotations

from collections.abc import Iterable


def p95(values: Iterable[float]) -> float:
    """Return the value that 95 of 100 do not exceed; 0 if there is none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * 0.95))] if found else 0.0
