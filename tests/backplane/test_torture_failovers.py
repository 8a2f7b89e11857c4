"""The shared log under torture: a replica that takes over, and everything at once.

``make torture`` does it for longer, with more seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.torture.cases import MARKS, SEED, cases
from support.torture.running import torture

pytestmark = MARKS


@pytest.mark.parametrize("name", cases("failover_scenarios"))
def test_everything_once_or_a_gap(name: str, tmp_path: Path) -> None:
    """Whatever happens, each process has every event once, in its emitter's order, or a gap where one is missing."""
    result = torture(name, tmp_path / "run", SEED)
    assert not result.bad, "\n".join([f"seed {SEED}", *result.bad[:20]])
    assert result.counts["emitted"] > 0
