"""The rounds of the writer: when it looks after which streams, and when a heartbeat is due."""

from __future__ import annotations

import itertools
import time

import pytest

from hakgal_hybrid.serving.rounds import LEAST_S, PARTS, Rounds
from hakgal_hybrid.settings import Settings


@pytest.mark.parametrize("heartbeat_s", [0.05, 0.2, 1.0])
def test_a_round_goes_through_all_in_its_time(heartbeat_s: float) -> None:
    """Each stream's turn comes once; a short round has fewer parts, as a loop keeps no shorter appointments."""
    rounds, all_of_them = Rounds(Settings(heartbeat_s=heartbeat_s)), list(range(100))
    began = time.monotonic()
    seen = [all_of_them[part] for part in rounds.parts()]
    assert time.monotonic() - began > heartbeat_s / 8 * 0.9
    assert sorted(itertools.chain(*seen)) == all_of_them
    assert len(seen) == max(1, min(PARTS, int(heartbeat_s / 8 / LEAST_S)))


def test_a_heartbeat_comes_before_its_interval_is_over() -> None:
    """It is not due in the first half of it, and always in the last round that ends in time."""
    rounds = Rounds(Settings(heartbeat_s=0.2))
    for _ in rounds.parts():
        pass
    assert not any(rounds.beat_is_due(quiet) for quiet in (0.0, 0.05, 0.0999) for _ in range(100))
    last = 0.2 - max(rounds._took, 0.2 / 8)
    assert all(rounds.beat_is_due(quiet) for quiet in (last, 0.2, 5.0) for _ in range(100))


def test_a_round_that_takes_longer_is_taken_into_account() -> None:
    """Where the loop is late, heartbeats are due earlier."""
    rounds = Rounds(Settings(heartbeat_s=1.0))
    for _ in rounds.parts():
        time.sleep(0.01)  # what others do on the loop
    assert all(rounds.beat_is_due(1.0 - rounds._took) for _ in range(100))
    assert rounds._took > 1.0 / 8 * 1.5
    assert sum(rounds.beat_is_due(0.51) for _ in range(1000)) > 200  # a part in two, or three, of what is left
