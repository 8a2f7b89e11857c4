"""A short soak, so that the long one is known to work; and that its measure of growth would see growth."""

from __future__ import annotations

import json

import pytest
from support.soak import Sample, Soak, slope_of

pytestmark = pytest.mark.once


@pytest.mark.long
def test_a_short_soak() -> None:
    """Under churn and faults every event is accounted for, and neither threads nor descriptors grow."""
    outcome = Soak(clients=60, rate=20).run(25)
    assert outcome.delivered > 1000
    assert outcome.connections > 60
    assert len(outcome.faults) >= 3
    assert set(outcome.gaps) <= {"evicted"}
    json.dumps(outcome.told())
    # Half a minute is too short to tell warming up from growing memory, so that bound is wide.
    assert outcome.slopes["threads"].flat, outcome.samples
    assert outcome.slopes["descriptors"].flat, outcome.samples
    assert outcome.slopes["memory_mib"].over_run < 40, outcome.samples


def test_growth_is_seen() -> None:
    """A thread lost every ten seconds is no flat slope; what goes up and down is."""
    grows = [Sample(at, 20 + at / 10, 50, 90) for at in range(0, 60, 5)]
    assert not slope_of(grows, "threads").flat
    assert slope_of(grows, "threads").per_hour == pytest.approx(360)
    assert slope_of(grows, "descriptors").flat
    waves = [Sample(at, 20 + at % 2, 50, 90 + at % 3) for at in range(60)]
    assert slope_of(waves, "threads").flat
    assert slope_of(waves, "memory_mib").flat
