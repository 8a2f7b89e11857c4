"""The rounds of the writer: when it looks after which streams, and when a heartbeat is due."""

from __future__ import annotations

import itertools

import gevent
import pytest

from hakgal_hybrid.server.fanout import heartbeats as module
from hakgal_hybrid.server.fanout.heartbeats import LEAST_S, PARTS, Rounds
from hakgal_hybrid.settings import Settings


class Time:
    """A clock that goes on only while somebody sleeps, and then for a little longer than was wished."""

    late = 0.0001

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "clock", lambda: time.now)
    monkeypatch.setattr(gevent, "sleep", time.sleep)
    return time


@pytest.mark.parametrize("heartbeat_s", [0.05, 0.2, 1.0, 15.0])
def test_a_round_goes_through_all_in_its_time(time: Time, heartbeat_s: float) -> None:
    """Each stream's turn comes once; a short round has fewer parts, as a loop keeps no shorter appointments."""
    rounds, all_of_them = Rounds(Settings(heartbeat_s=heartbeat_s)), list(range(100))
    seen = [all_of_them[part] for part in rounds.parts()]
    planned = min(heartbeat_s / 8, 1.0)
    assert sorted(itertools.chain(*seen)) == all_of_them
    assert len(seen) == max(1, min(PARTS, int(planned / LEAST_S)))
    assert planned <= time.now - 100 < planned + 2 * time.late


def test_a_heartbeat_comes_before_its_interval_is_over(time: Time) -> None:
    """It is not due in the first half of it, always in the last round that ends in time, and by chance in between."""
    rounds = Rounds(Settings(heartbeat_s=1.0))
    for _ in rounds.parts():
        pass
    for quiet, least, most in ((0.0, 0, 0), (0.499, 0, 0), (0.51, 200, 500), (0.874, 1000, 1000), (5.0, 1000, 1000)):
        assert least <= sum(rounds.heartbeat_is_due(quiet) for _ in range(1000)) <= most, quiet


def test_a_round_that_takes_longer_is_taken_into_account(time: Time) -> None:
    """Where the loop is late, heartbeats are due earlier."""
    rounds = Rounds(Settings(heartbeat_s=1.0))
    for part in rounds.parts():
        time.now += 0.3 if part.start == PARTS - 1 else 0.0  # what others do on the loop
    assert all(rounds.heartbeat_is_due(0.58) for _ in range(1000))
