"""``python -m tests.benchmarks.model FOLDER``: what several processes cost, from W15 in ``FOLDER/results.json``.

``costs.md`` has what was measured, ``plan.md`` how many processes so many clients need by that; the documentation
includes both.

A processor is full at ``FULL`` of its time, and a process has ``MOST`` clients at most. An event takes a process what
it takes to read it, and a delivery for each of its clients; it takes Redis what it takes to append it, and what each
process that reads it takes. (Streams that get an event a second need no heartbeats.) Everything in the table is
computed; nothing of this size was run.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: How much of a processor's time is planned for.
FULL = 0.6
#: How many clients a process has at most: so many were measured in one (W3, W11).
MOST = 10_000
#: Bytes of an event, and what an entry of Redis is more.
EVENT_BYTES, ENTRY_BYTES = 220, 100
CLIENTS, RATES = (100_000, 1_000_000), (1, 10, 50)


@dataclass(frozen=True)
class Constants:
    """What was measured, in microseconds of processor time and KB.

    :ivar event: what an event takes a process that reads it, at 50 a second.
    :ivar delivery: what its delivery to one client takes.
    :ivar append: what an event takes Redis.
    :ivar read: what each process that reads it takes Redis.
    :ivar stream_kb: the memory of a client, without the kernel's.
    """

    event: float
    delivery: float
    append: float
    read: float
    stream_kb: float

    @classmethod
    def of(cls, results: dict[str, Any]) -> Constants:
        """Take them from the ``results.json`` of a run."""
        rows = [row["figures"] for row in results["summary"] if (row["workload"], row["peer"]) == ("W15", "ours-redis")]
        speed, _, one, _, few, many = ({key: spread["median"] for key, spread in row.items()} for row in rows)
        read = max(0.0, (many["redis_us"] - few["redis_us"]) / 8)
        return cls(speed["event_at_50_us"], one["delivery_us"], few["redis_us"] - 2 * read, read,
                   one["stream_kb"])


@dataclass(frozen=True)
class Plan:
    """What so many clients need that all get every event.

    :ivar each: how many clients a process has.
    :ivar processes: how many processes that is.
    :ivar last_s: how long after an event the last client of a process has it, in seconds.
    :ivar redis: how much of one processor Redis takes.
    :ivar redis_mbit: what Redis sends, in megabits a second.
    """

    clients: int
    rate: float
    each: int
    processes: int
    last_s: float
    redis: float
    redis_mbit: float


def planned(constants: Constants, clients: int, rate: float) -> Plan:
    """Plan for so many clients and events a second."""
    each = min(MOST, int((FULL * 1e6 / rate - constants.event) / constants.delivery))
    processes = math.ceil(clients / each)
    return Plan(clients, rate, each, processes, (constants.event + each * constants.delivery) / 1e6,
                rate * (constants.append + processes * constants.read) / 1e6,
                rate * processes * (EVENT_BYTES + ENTRY_BYTES) * 8 / 1e6)


#: What ``costs.md`` shows: a title, the number of the case, the figures with their decimal places, the unit.
SHOWN: tuple[tuple[str, int, tuple[tuple[str, int], ...], str], ...] = (
    ("an emit in a loop, p50; p99", 0, (("hot_p50_us", 1), ("hot_p99_us", 0)), "µs"),
    ("an emit, 50 a second, p50", 0, (("cold_p50_us", 0),), "µs"),
    ("to a client of another process, 50 a second, p50; p99", 0, (("p50_ms", 2), ("p99_ms", 2)), "ms"),
    ("events a second that go through", 0, (("events_per_s", 0),), ""),
    ("processor time of an event then: of the process that emits; of the one with clients; of Redis", 0,
     (("emitting_us", 0), ("reading_us", 0), ("redis_us", 0)), "µs"),
    ("Redis is killed and back after a second, 100 events a second: what each client has lost, of 800", 1,
     (("events_lost", 0),), ""),
)
PEERS = {"hakgal_hybrid": "ours-redis", "the same, without hiredis": "ours-redis-py",
         "Flask-SocketIO, `message_queue`": "flask-socketio-redis"}


def costs(results: dict[str, Any]) -> str:
    """Return what was measured of emits, of events under way and of losses, side by side, as Markdown.

    The last column is the last peer's first figure over the first peer's.
    """
    cases = list(dict.fromkeys(row["case"] for row in results["summary"]))
    medians = {(row["peer"], cases.index(row["case"])):
               {key: spread["median"] for key, spread in row["figures"].items()} for row in results["summary"]}
    lines = [f"| | {' | '.join(PEERS)} | ratio |", "|---|" + "---:|" * (len(PEERS) + 1)]
    for title, case, keys, unit in SHOWN:
        found = [medians.get((peer, case), {}) for peer in PEERS.values()]
        cells = ["; ".join(f"{one[key]:,.{digits}f}" for key, digits in keys) + f" {unit}" if one else "not measured"
                 for one in found]
        ours, theirs = found[0][keys[0][0]], found[-1][keys[0][0]]
        lines.append(f"| {title} | {' | '.join(map(str.strip, cells))} | {f'{theirs / ours:.2g}' if ours else ''} |")
    return "\n".join(lines) + "\n"


def plans(constants: Constants) -> str:
    """Return the constants and the plans as Markdown."""
    lines = [
        "| measured | |", "|---|---:|",
        f"| an event, in each process that reads it, at 50 a second | {constants.event:.0f} µs |",
        f"| its delivery to one client | {constants.delivery:.1f} µs |",
        f"| an event, in Redis | {constants.append:.0f} µs |",
        f"| the same, for each process that reads it | {constants.read:.0f} µs |",
        f"| memory of a client, without the kernel's | {constants.stream_kb:.1f} KB |", "",
        "| clients | events a second | clients a process | processes | the last client has it after "
        "| Redis, of a processor | Redis sends |",
        "|---:|---:|---:|---:|---:|---:|---:|"]
    for clients in CLIENTS:
        for rate in RATES:
            plan = planned(constants, clients, rate)
            lines.append(f"| {clients:,} | {rate} | {plan.each:,} | {plan.processes:,} | {plan.last_s * 1000:,.0f} ms "
                         f"| {plan.redis:.1%} | {plan.redis_mbit:,.1f} Mbit/s |")
    return "\n".join(lines) + "\n"


def written(results: dict[str, Any]) -> dict[str, str]:
    """Return the text of each file by its name."""
    return {"costs.md": costs(results), "plan.md": plans(Constants.of(results))}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, text in written(json.loads((folder / "results.json").read_text(encoding="utf-8"))).items():
        (folder / name).write_text(text, encoding="utf-8")
