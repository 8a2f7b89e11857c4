"""W8: events that are not for everybody: rooms, one client, filters. What they cost, wanted or not.

Event by event: the next is published when all that want it have got it. Each kind is measured with many others around
who do not want it, and with nobody else: the difference, divided by their number, is what an event costs for each of
them.
"""

from __future__ import annotations

from ..load import Load
from ..peers import Peer
from ..targets import ratio
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group
from .lab import STREAM, lab, ours_only

#: What those who want the event ask for, what the others do, and which words the order to emit has.
KINDS = {
    "everybody": ("", "", ""),
    "a room": ("?room=here", "?room=r0|?room=r1|?room=r2|?room=r3|?room=r4|?room=r5|?room=r6|?room=r7|?room=r8",
               "to=here"),
    "one client": ("?one=1", "", "to=@one"),
    "those whose filter takes it": ("?events=tick,other_*", "?events=note_*", ""),
}


def measure(peer: Peer, scale: Scale, kind: str, wanting: int, others: int) -> Values:
    wish, other_wish, words = KINDS[kind]
    ours = lab()
    with ours.running() as server, Load(server.control) as load:
        for name, clients, query in (("others", others, other_wish), ("all", wanting, wish)):
            path = "|".join(STREAM + part for part in query.split("|"))
            add_group(load, name, ours, server, path=path)
            if clients:
                load.connect(name, clients)
        load.order("stall others")  # or the load would wait for them too
        extra = f" extra={words}" if words else ""
        warm = load.order(f"each 50 {SIZE}{extra}")
        events = max(20, min(100_000, int(scale.seconds / (warm["seconds"] / 50))))
        load.order("reset")
        before = server.cpu_seconds()
        took = load.order(f"each {events} {SIZE}{extra}", timeout=30 + 4 * scale.seconds)
        used = server.cpu_seconds() - before
        load.order("resume others")
        stats, unwanted = load.order("stats all"), load.order("stats others")
        return {
            "kind": kind, "wanting": wanting, "others": others, "events": took["asked"],
            "us_per_event": took["seconds"] / events * 1e6, "cpu_us_per_event": used / events * 1e6,
            "cpu_us_per_delivery": used / max(1, stats["events"]) * 1e6,
            "p50_ms": stats["latency_us"]["p50"] / 1000, "p99_ms": stats["latency_us"]["p99"] / 1000,
            "unwanted": unwanted["events"], "lost": wanting * events - stats["events"],
            "repeated": stats["repeated"], "hung_up": stats["closed"] + unwanted["closed"],
        }


def cases(scale: Scale) -> list[Case]:
    tenth = scale.clients // 10
    settings = [("everybody", scale.clients, 0), ("everybody", tenth, 0)]
    settings += [(kind, tenth, others) for kind in ("a room", "those whose filter takes it")
                 for others in (scale.clients - tenth, 0)]
    settings += [("one client", 1, others) for others in (scale.many, scale.clients - 1, 0)]
    return [Case(f"for {kind}, {wanting} of {wanting + others} clients",
                 {"kind": kind, "wanting": wanting, "others": others}, ours_only)
            for kind, wanting, others in settings]


WORKLOAD = Workload(
    "W8", "Events for some", measure, cases,
    [Metric("cpu_us_per_event", "CPU an event", "µs"), Metric("cpu_us_per_delivery", "CPU a delivery", "µs"),
     Metric("us_per_event", "time an event", "µs"), Metric("p50_ms", "p50", "ms", digits=2),
     Metric("p99_ms", "p99", "ms", digits=2)],
    explanation="Event by event, for a tenth of the clients or for one. The others are in other rooms, or want other "
                "names: what an event costs for each of them is the difference between the rows with and without them, "
                "divided by their number.",
    # Of a tenth of the clients against broadcast to as many, so that what an event costs by itself is the same.
    targets=[*(ratio("cpu_us_per_delivery", "ours", most=1.5, case=case, other_case=1) for case in (2, 4)),
             ratio("cpu_us_per_event", "ours", most=1.1, case=7, other_case=8)],
)
