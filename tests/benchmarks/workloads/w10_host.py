"""W10: the host's own requests, with and without streams, against the servers that hosts run under otherwise."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from ..load import Load, Ping
from ..peers import Peer
from ..server import Server
from ..targets import figure
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group
from .lab import lab, ours_only

RATE = 50
CONNECTIONS = 16
THREADS = 32


@contextlib.contextmanager
def werkzeug() -> Iterator[Server]:
    """The same handlers under Werkzeug's threaded server, which keeps connections."""
    with Server() as server:
        server.spawn([sys.executable, "-m", "tests.benchmarks.apps.plain_host", str(server.port)],
                     env={"BENCH_CONTROL": str(server.control)})
        server.wait_until_ready("/health")
        yield server


@contextlib.contextmanager
def gunicorn() -> Iterator[Server]:
    """The same handlers under gunicorn, one worker of the class gthread."""
    with Server() as server:
        server.spawn([sys.executable, "-m", "gunicorn", "-k", "gthread", "-w", "1", "--threads", str(THREADS),
                      "-b", f"127.0.0.1:{server.port}", "--log-level", "error", "--worker-tmp-dir", str(server.folder),
                      "tests.benchmarks.apps.plain_host:app"], env={"BENCH_CONTROL": str(server.control)})
        server.wait_until_ready("/health")
        yield server


def asked(server: Server, path: str, new: int, seconds: float) -> dict[str, Any]:
    """Ask as fast as it answers, on several connections, after a moment of the same to warm it up."""
    Ping(server.port, path, seconds=0.3, connections=CONNECTIONS, new=new).result()
    before = server.cpu_seconds()
    answer = Ping(server.port, path, seconds=seconds, connections=CONNECTIONS, new=new).result()
    used = server.cpu_seconds() - before
    if not answer["answered"]:
        raise TimeoutError(f"not one request was answered: {answer}")
    return {"per_s": answer["answered"] / answer["seconds"], "p50_ms": answer["latency_us"]["p50"] / 1000,
            "p95_ms": answer["latency_us"]["p95"] / 1000, "p99_ms": answer["latency_us"]["p99"] / 1000,
            "cpu_us": used / answer["answered"] * 1e6, "failed": answer["errors"] + answer["refused"]}


def measure(peer: Peer, scale: Scale, path: str, new: int) -> Values:
    """Measure all servers in one row, so that they are compared within seconds."""
    seconds = max(0.5, 1.5 * scale.seconds)
    with lab().running() as server:
        found = {"ours": asked(server, path, new, seconds)}
    with werkzeug() as server:
        found["werkzeug"] = asked(server, path, new, seconds)
    with gunicorn() as server:
        found["gthread"] = asked(server, path, new, seconds)
    with lab().running() as server, Load(server.control) as load:
        add_group(load, "all", lab(), server)
        load.connect("all", scale.clients)
        load.order("reset")
        count = int(RATE * (seconds + 1.5))
        publishing = server.ask(f"rate {RATE} {count} {SIZE}")
        found["streams"] = asked(server, path, new, seconds)
        publishing.result(60)
        load.order(f"wait all {count}")
        delivery = load.order("stats all")
    return {
        **{f"{who}_{name}": value for who, figures in found.items() for name, value in figures.items()},
        "streams": scale.clients, "streams_delivery_p99_ms": delivery["latency_us"]["p99"] / 1000,
        "to_werkzeug": found["ours"]["per_s"] / found["werkzeug"]["per_s"],
        "to_gthread": found["ours"]["per_s"] / found["gthread"]["per_s"],
        "p95_to_werkzeug": found["ours"]["p95_ms"] / found["werkzeug"]["p95_ms"],
        "streams_to_ours": found["streams"]["per_s"] / found["ours"]["per_s"],
        "lost": delivery["lost"], "repeated": delivery["repeated"], "hung_up": delivery["closed"],
    }


def cases(scale: Scale) -> list[Case]:
    return [Case(f"{path}, {'new' if new else 'kept'} connections", {"path": path, "new": new}, ours_only)
            for path in ("/small", "/notes") for new in (0, 1)]


WORKLOAD = Workload(
    "W10", "The host's own requests", measure, cases,
    [Metric("ours_per_s", "ours", "/s", digits=0, higher=True),
     Metric("werkzeug_per_s", "Werkzeug, threads", "/s", digits=0, higher=True),
     Metric("gthread_per_s", "gunicorn gthread", "/s", digits=0, higher=True),
     Metric("streams_per_s", "ours, streams", "/s", digits=0, higher=True),
     Metric("ours_p95_ms", "p95: ours", "ms"), Metric("werkzeug_p95_ms", "Werkzeug", "ms"),
     Metric("gthread_p95_ms", "gthread", "ms"), Metric("streams_p95_ms", "ours, streams", "ms"),
     Metric("to_werkzeug", "ours/Werkzeug", digits=2, higher=True),
     Metric("streams_to_ours", "with/without streams", digits=2, higher=True)],
    timeout=120,
    explanation="Requests of a trivial handler, and of one that asks SQLite, as fast as they are answered, on 16 "
                "connections. *Streams*: with 1,000 of them and 50 events/s at the same time. The servers take turns "
                "within a row.",
    targets=[*(figure("to_werkzeug", least=1, case=case) for case in range(4)),
             *(figure("p95_to_werkzeug", most=1, case=case) for case in range(4)),
             *(figure("streams_to_ours", least=0.75, case=case) for case in range(4))],
)
