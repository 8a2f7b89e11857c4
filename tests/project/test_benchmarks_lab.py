"""Each workload about this library alone measures what it says, tiny; exponents are those of the figures."""

from __future__ import annotations

import math
import os
import shutil
import sys
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux: epoll, processor affinity, /proc", allow_module_level=True)
if shutil.which("gcc") is None and os.environ.get("CI") != "true":  # there it is an error
    pytest.skip("the benchmarks need gcc", allow_module_level=True)

from benchmarks.peers import reference
from benchmarks.peers.ours import PEER, WEBSOCKET
from benchmarks.report.growth import fitted, growths
from benchmarks.report.summary import Summaries
from benchmarks.runner import Row
from benchmarks.workloads import (
    TINY,
    Workload,
    all_workloads,
    w1_event_by_event,
    w2_paced,
    w3_memory,
    w5_stalled,
    w6_connect_storm,
    w7_resume_storm,
    w8_targets,
    w9_emit,
    w10_host,
    w11_idle,
    w12_burners,
    w13_growth,
    w14_interval,
)

pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]


def measured(module: Any, case: int, **more: Any) -> dict[str, Any]:
    """Measure one case of our own; every column of the table has a number, and nothing was lost."""
    workload: Workload = module.WORKLOAD
    ours = [one for one in workload.cases(TINY) if one.applies(PEER)]
    values: dict[str, Any] = workload.measure(PEER, TINY, **{**ours[case].parameters, **more})
    for metric in workload.metrics:
        assert isinstance(values[metric.key], (int, float)), metric
        assert math.isfinite(values[metric.key]), metric
    assert {values[key] for key in ("lost", "repeated", "hung_up") if key in values} <= {0}, values
    return values


@pytest.mark.parametrize("peer", [WEBSOCKET, reference.WEBSOCKET], ids=lambda peer: peer.key)
@pytest.mark.parametrize("module", [
    pytest.param(module, id=module.WORKLOAD.key, marks=[] if module is w1_event_by_event else [pytest.mark.long])
    for module in (w1_event_by_event, w2_paced, w3_memory, w5_stalled, w9_emit, w11_idle)])
def test_clients_of_socketio_are_measured(module, peer):
    """Each client on a WebSocket is sent each event once, by our server and by the reference."""
    workload: Workload = module.WORKLOAD
    cases = [one for one in workload.cases(TINY) if one.applies(peer) and "WebSocket" in one.label]
    if not cases:
        pytest.skip("it is about our server alone")
    values = workload.measure(peer, TINY, **cases[-1].parameters)
    assert {values[key] for key in ("lost", "repeated", "hung_up") if key in values} <= {0}, values
    for metric in workload.metrics:
        assert isinstance(values[metric.key], (int, float)), metric


def test_a_connect_storm_ends_with_everybody_there():
    """Every client of the storm has its stream, and is sent the event after it."""
    values = measured(w6_connect_storm, 0)
    assert values["clients"] == TINY.clients
    assert 0 < values["seconds"] <= values["seconds_outside"]


def test_a_resume_storm_ends_with_everything_caught_up():
    """Every client of the storm has every event that it missed, and those that came meanwhile."""
    values = measured(w7_resume_storm, 0)
    assert (values["clients"], values["behind"]) == (TINY.clients, 1000)
    assert values["live_p99_during_ms"] > 0


@pytest.mark.parametrize("kind", list(w8_targets.KINDS))
def test_events_for_some_reach_them_alone(kind):
    """Who wants the event has it, and of the others nobody."""
    (case, *_) = [number for number, one in enumerate(w8_targets.cases(TINY))
                  if one.parameters["kind"] == kind and (one.parameters["others"] or kind == "everybody")]
    values = measured(w8_targets, case)
    assert values["unwanted"] == 0
    assert values["events"] > 0


def test_emits_are_timed_hot_and_cold():
    """In several threads at once, and one in each request."""
    values = measured(w9_emit, 1, clients=5, threads=2)
    assert 0 < values["hot_p50_us"] <= values["hot_p99_us"]
    assert 0 < values["cold_p50_us"] <= values["cold_p99_us"]
    assert values["requests"] > 10


@pytest.mark.long
@pytest.mark.parametrize("case", [0, 3])
def test_the_hosts_own_requests_are_answered_by_every_server(case):
    """A trivial handler on kept connections, one that asks SQLite on new ones: no request fails anywhere."""
    pytest.importorskip("gunicorn")
    values = measured(w10_host, case)
    for who in ("ours", "werkzeug", "gthread", "streams"):
        assert values[f"{who}_failed"] == 0, who
        assert values[f"{who}_per_s"] > 0, who


@pytest.mark.long
def test_idle_clients_get_their_heartbeats():
    """In two heartbeat times each client has about two."""
    values = measured(w11_idle, 0)
    assert sum(values["heartbeats"]) >= values["clients"]
    assert values["most_to_mean"] >= 1


def test_burners_burn_while_events_arrive():
    """With handlers that compute all the time, requests for them are answered, and every event arrives."""
    values = measured(w12_burners, 0, burners=2, streams=5)
    assert values["burned_percent"] > 0
    assert values["health_failed"] == 0


@pytest.mark.long
def test_an_interval_is_measured_with_a_page():
    """States come once an interval; a page in Chromium shows them meanwhile."""
    values = measured(w14_interval, 5)
    assert values["interval_ms"] == 250
    assert 0 < values["events_per_s"] < w14_interval.RATE / 2


@pytest.mark.parametrize("case", [0, 2, 4])
def test_growth_is_measured_by_clients_size_and_backlog(case):
    """One point of each series."""
    values = measured(w13_growth, case)
    assert values["series"] == ["clients", "size", "behind"][case // 2]


def test_exponents_are_those_of_the_figures():
    """A figure that grows with the square has exponent 2, one that stays the same 0; both have a table's points."""
    assert fitted([(1, 3), (10, 300), (100, 30_000)]) == pytest.approx(2)
    assert fitted([(1, 3), (10, 3), (1000, 3)]) == pytest.approx(0, abs=1e-9)
    workload = w13_growth.WORKLOAD
    labels = {one.label: one for one in w13_growth.cases(type(TINY)("full"))}
    rows = [Row("W13", label, "ours", 1, values={"cpu_us": 7 * one.parameters["x"], "time_us": 5.0})
            for label, one in labels.items() if one.parameters["series"] == "clients"]
    found = growths(Summaries(rows, [workload]), {"W13": labels})
    assert [(one.figure, one.of, one.peer) for one in found] == [
        ("cpu_us", "clients", "ours"), ("time_us", "clients", "ours")]
    assert [one.exponent for one in found] == pytest.approx([1, 0], abs=1e-9)
    assert [x for x, _ in found[0].points] == [10, 30, 100, 300, 1000, 4000]


def test_every_workload_has_its_own_key_and_cases():
    """No two workloads or cases are mixed up in the report, and every target is of a metric and a case."""
    keys = [one.key for one in all_workloads()]
    assert len(set(keys)) == len(keys)
    for workload in all_workloads():
        cases = workload.cases(type(TINY)("full"))
        labels = [one.label for one in cases]
        assert len(set(labels)) == len(labels), workload.key
        for target in workload.targets:
            assert max(target.case, target.other_case) < len(cases), (workload.key, target)
