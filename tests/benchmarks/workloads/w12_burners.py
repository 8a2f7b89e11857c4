"""W12: handlers of the host that compute in Python (burners) while events go out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ..load import Load, Ping
from ..peers import Peer
from ..targets import figure, ratio
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group, told_losses
from .lab import lab, ours_only

RATE = 50
#: How long each request of a burner computes; it is asked again as soon as it is answered.
BURN_MS = 50
PEERS = ("ours", "flask-socketio", "gevent-recipe")
DEFAULT_INTERVAL_MS = 0.5


def measure(peer: Peer, scale: Scale, burners: int, streams: int, interval_ms: float) -> Values:
    server_of = lab(HYBRID_SWITCH_INTERVAL_MS=interval_ms) if ours_only(peer) else peer
    seconds = max(0.5, scale.seconds)
    count = max(10, int(RATE * seconds))
    with server_of.running() as server, Load(server.control) as load:
        if streams:
            add_group(load, "all", server_of, server)
            load.connect("all", streams, window=peer.window)
            load.order(f"each 3 {SIZE}")
        with contextlib.ExitStack() as burning:
            for _ in range(burners):
                burning.enter_context(Ping(server.port, f"/burn?ms={BURN_MS}", seconds=120))
            server.order(f"rate {RATE} 10 {SIZE}")
            if streams:
                load.order("wait all 10")
            load.order("reset")
            burned, began = server.order("lag")["burned"], time.monotonic()
            health = Ping(server.port, server_of.health, seconds=seconds, rate=20, connections=8)
            publishing = server.ask(f"rate {RATE} {count} {SIZE}")
            delivery, losses = None, {}
            if streams:
                load.order(f"wait all {count}", seconds + 30)
                stats = load.order("stats all")
                delivery, losses = stats["latency_us"], told_losses(stats, count)
            emit = publishing.result(60)["emit_us"]
            told, took = server.order("lag"), time.monotonic() - began
            lag = told["lag_us"]
            answers = health.result()
        return {
            "burners": burners, "streams": streams, "interval_ms": interval_ms,
            "lag_p50_ms": lag["p50"] / 1000, "lag_p99_ms": lag["p99"] / 1000,
            "delivery_p50_ms": delivery and delivery["p50"] / 1000,
            "delivery_p99_ms": delivery and delivery["p99"] / 1000,
            "health_p50_ms": answers["latency_us"] and answers["latency_us"]["p50"] / 1000,
            "health_p95_ms": answers["latency_us"] and answers["latency_us"]["p95"] / 1000,
            "health_failed": answers["errors"] + answers["refused"],
            "emit_p99_us": emit["p99"],
            "burned_percent": (told["burned"] - burned) * BURN_MS / took / 10,
            **losses,
        }


def cases(scale: Scale) -> list[Case]:
    """The worst comes first, with the peers; then all others of ours."""
    some = scale.clients // 10
    intervals = (DEFAULT_INTERVAL_MS, 1, 5) if scale.seconds >= 1 else (DEFAULT_INTERVAL_MS,)
    settings = [(burners, streams, interval_ms) for interval_ms in intervals for burners in (0, 1, 4)
                for streams in (0, some, scale.clients)
                if interval_ms == DEFAULT_INTERVAL_MS or (burners and streams)]
    worst = (4, scale.clients, DEFAULT_INTERVAL_MS)
    settings.remove(worst)
    return [_case(*worst, lambda peer: peer.key in PEERS), *(_case(*setting, ours_only) for setting in settings)]


def _case(burners: int, streams: int, interval_ms: float, applies: Callable[[Peer], bool]) -> Case:
    label = f"{burners} burner{'s' * (burners != 1)}, {streams} streams, {interval_ms} ms"
    return Case(label, {"burners": burners, "streams": streams, "interval_ms": interval_ms}, applies,
                runs=1_000 if interval_ms == DEFAULT_INTERVAL_MS else 1)


WORKLOAD = Workload(
    "W12", "Handlers that compute", measure, cases,
    [Metric("lag_p99_ms", "loop lag p99", "ms"), Metric("delivery_p50_ms", "delivery p50", "ms"),
     Metric("delivery_p99_ms", "delivery p99", "ms"), Metric("health_p95_ms", "/health p95", "ms"),
     Metric("emit_p99_us", "emit p99", "µs", digits=0), Metric("burned_percent", "burned", "%", digits=0, higher=None)],
    timeout=90,
    explanation=f"A burner is a client that asks for a request that computes {BURN_MS} ms in Python, again as soon "
                "as it is answered; meanwhile 50 events/s, and 20 requests/s for `/health`. The milliseconds are "
                "`HYBRID_SWITCH_INTERVAL_MS`, ours alone: the others have no threads to switch between, so a request "
                "blocks their loop until it is done. *Burned* is the share of the processor that burners got.",
    # Case 5 of our own: one burner, a tenth of the streams, at the default interval.
    targets=[figure("lag_p99_ms", most=30, case=5),
             *(ratio(metric, peer, most=1.0) for metric in ("lag_p99_ms", "delivery_p99_ms", "health_p95_ms")
               for peer in ("flask-socketio", "gevent-recipe"))],
)
