"""W1b: how many events a second may be offered before clients get them late.

Rates are 50·2ⁿ events a second (n may be negative), and at last one between the highest that passes and the lowest that
fails. A rate passes if every client got every event once and in order, 99 % of them within 100 ms of the moment they
were due.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..load import Load
from ..peers import Peer
from ..server import Server
from ..targets import figure, ratio
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, audience, told_losses

LOWEST, FIRST, HIGHEST = 50 / 2**4, 50.0, 50.0 * 2**12
LATE_MS = 100.0
#: How long after the last event is due a rung waits for those that are still on their way.
INLINE_WAIT_S = 1.0


def measure(peer: Peer, scale: Scale, clients: int) -> Values:
    passed: dict[float, Values] = {}
    failed: dict[float, Values] = {}
    doubtful: set[float] = set()
    while (rate := next_rate(passed, failed)) is not None:
        with audience(peer, clients) as (server, load):  # one that was overloaded is of no use any more
            while rate is not None:
                one = rung(server, load, rate, 0.75 * scale.seconds)
                if not one["passed"]:
                    if one["overloaded"] or rate in doubtful or rate < FIRST:
                        failed[rate] = one
                    doubtful.add(rate)  # it was late but not much: once more, with a fresh server
                    break
                passed[rate] = one
                rate = next_rate(passed, failed)
    highest = max(passed, default=0.0)
    best = passed.get(highest, {})
    return {
        "clients": clients, "rate": highest, "deliveries_per_s": highest * clients,
        "ceiling_by_load": any(one["load_cpu_percent"] > 95 for one in failed.values()),
        **{key: best.get(key)
           for key in ("p50_ms", "p99_ms", "cpu_s_per_million", "events_per_recv", "load_cpu_percent")},
        **{key: sum(one[key] for one in passed.values()) for key in ("lost", "repeated", "hung_up")},
        "tried": [{"rate": rate, **one} for rate, one in sorted({**passed, **failed}.items())],
    }


def next_rate(passed: Iterable[float], failed: Iterable[float]) -> float | None:
    """Climb by fours until a rate fails (or down by halves until one passes), then halve the gap, to a ratio of √2.

    :return: the rate to try next, None at the end.
    """
    best, worst = max(passed, default=None), min(failed, default=None)
    if best is None:
        return FIRST if worst is None else worst / 2 if worst > LOWEST else None
    if worst is None:
        return best * 4 if best < HIGHEST else None
    for step in (2.0, 2.0**0.5):
        if worst / best > step * 1.01:
            return round(best * step, 2)
    return None


def rung(server: Server, load: Load, rate: float, seconds: float) -> Values:
    count = max(20, int(rate * seconds))
    load.order("reset")
    before, load_before = server.cpu_seconds(), load.cpu_seconds()
    asked = server.ask(f"rate {rate} {count} {SIZE}")
    waited = load.order(f"wait all {count}", count / rate + INLINE_WAIT_S, may_be_late=True)
    used, load_used = server.cpu_seconds() - before, load.cpu_seconds() - load_before
    stats: dict[str, Any] = load.order("stats all")
    if waited["late"]:
        asked.forget()
    else:
        asked.result(5)
    latency = stats["latency_us"] or {"p50": 0.0, "p99": 0.0}
    losses = told_losses(stats, count, late=bool(waited["late"]))
    return {
        "overloaded": bool(waited["late"] or any(losses.values())),
        "passed": not waited["late"] and not any(losses.values()) and latency["p99"] / 1000 < LATE_MS,
        "p50_ms": latency["p50"] / 1000, "p99_ms": latency["p99"] / 1000,
        "cpu_s_per_million": used / max(1, stats["events"]) * 1e6,
        "events_per_recv": stats["events"] / max(1, stats["recvs"]),
        "load_cpu_percent": load_used / waited["seconds"] * 100, **losses,
    }


def cases(scale: Scale) -> list[Case]:
    return [Case(f"{scale.clients} clients", {"clients": scale.clients}, reference="c-coalescing"),
            Case(f"{scale.many} clients", {"clients": scale.many},
                 lambda peer: peer.key in ("ours", "c-coalescing"), reference="c-coalescing")]


WORKLOAD = Workload(
    "W1b", "Highest offered rate", measure, cases,
    [Metric("deliveries_per_s", "deliveries", "k/s", digits=0, scale=1000, higher=True, ratio=True, plot=True),
     Metric("rate", "events", "/s", digits=0, higher=True),
     Metric("p50_ms", "p50", "ms"), Metric("p99_ms", "p99", "ms"),
     Metric("cpu_s_per_million", "CPU a million", "s", digits=2),
     Metric("events_per_recv", "events a receive", "", higher=None),
     Metric("load_cpu_percent", "load's CPU", "%", digits=0, higher=None)],
    timeout=150,
    explanation="The highest rate at which every client got every event once, in order, 99 % of them within 100 ms of "
                "when they were due; steps of √2.",
    targets=[figure("deliveries_per_s", least=2.5e6), ratio("deliveries_per_s", "c-coalescing", least=0.75),
             ratio("deliveries_per_s", "nchan", least=30), ratio("deliveries_per_s", "flask-socketio", least=60),
             ratio("deliveries_per_s", "ours", least=0.8, case=1, other_case=0)],
)
