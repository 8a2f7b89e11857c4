"""The report as one document of JSON values, from which everything else is written (``docs/report.schema.json``)."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from .figures import Figure, change, shown, speedup
from .record import Run
from .snapshot import diff, load
from .summary import compared, figures_of
from .targets import MET, NOT_APPLICABLE, Results, Row, Threshold, targets, validation

#: The number before the point changes when a member is renamed, removed or means something else.
SCHEMA_VERSION = "1.1"

MODES = ("before", "after", "reference")

#: What the table of results shows, in this order: name of the figure, text, and the unit of an improvement.
SHOWN = (
    ("p95", "latency p95, `/health`", "x"), ("mean", "latency mean, `/health`", "x"),
    ("p50", "latency p50, `/health`", "x"), ("max", "latency max, `/health`", "x"),
    ("p95_all", "latency p95, all endpoints together", "x"),
    ("quiet_p95", "latency p95, `/health`, no client stalled", "x"),
    ("control_p95", "governor control over HTTP, p95", ""), ("control_mean", "governor control over HTTP, mean", ""),
    ("cpu_events", "CPU s per 1,000 delivered events, delivering alone", "%"),
    ("cpu_events_all", "CPU s per 1,000 delivered events, requests included", "%"),
    ("cpu_requests", "CPU s per 1,000 requests, each followed by events to every client", "%"),
    ("told_per_request", "events received by each live client, a request", ""),
    ("cpu_percent", "CPU, wall-clock, under the same events", ""),
    ("children_cpu_percent", "CPU of the host's children, wall-clock", ""),
    ("loop_lag_p50", "event-loop lag p50, exported by the host", ""),
    ("loop_lag_p99", "event-loop lag p99, exported by the host", ""),
    ("loop_lag_max", "event-loop lag max, exported by the host", ""),
    ("sampled_lag_p50", "lag p50, sampled inside the process", ""),
    ("sampled_lag_p99", "lag p99, sampled inside the process", ""),
    ("sampled_lag_max", "lag max, sampled inside the process", ""),
    ("oldest_undelivered", "oldest event on its way to a live client", ""),
    ("oldest_undelivered_host", "oldest undelivered event, exported by the host", ""),
    ("delivery_p50", "delivery p50, a client stalled", ""), ("delivery_p99", "delivery p99, a client stalled", ""),
    ("quiet_delivery_p50", "delivery p50, no client stalled", ""),
    ("quiet_delivery_p99", "delivery p99, no client stalled", ""),
    ("memory", "memory, the most seen", "%"), ("failed_requests", "failed requests", ""),
    ("log_warnings", "warnings in the log", ""), ("log_errors", "errors in the log", ""),
)


@dataclass
class Plan:
    """What was to be done: the command, the load, and what the hosts are.

    :ivar command: the command line of the measurement.
    :ivar load: the options of the load, by name.
    :ivar rollback: commands that bring the host back, by shell.
    """

    command: str
    load: dict[str, Any]
    rollback: dict[str, str]
    thresholds: Sequence[Threshold] = ()
    interrupted: bool = False
    failed: str = ""
    began: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


def document(plan: Plan, runs: Mapping[str, Run | None]) -> dict[str, Any]:
    """Return the whole report as JSON values.

    :param plan: what was to be done.
    :param runs: the records by mode; ``None`` for what was not run.
    """
    results = results_of(runs)
    rows = targets(runs, results)
    own = [threshold.judge(results) for threshold in plan.thresholds]
    ended = datetime.now(timezone.utc)
    return {
        "schema_version": SCHEMA_VERSION, "generated_at": ended.isoformat(timespec="seconds"),
        "seconds": round((ended - plan.began).total_seconds(), 1),
        "interrupted": plan.interrupted, "failed": plan.failed or None,
        "holds": holds(rows, own) and not plan.interrupted and not plan.failed,
        "environment": environment(), "command": plan.command, "load": plan.load,
        "targets": [row.to_dict() for row in rows], "thresholds": [row.to_dict() for row in own],
        "validation": [row.to_dict() for row in validation(runs, results)],
        "results": [_result(name, text, kind, results) for name, text, kind in SHOWN],
        "figures": {"before": _plain(results.before), "after": _plain(results.after),
                    "reference": _plain(results.reference), "compared": _plain(results.both)},
        "snapshots": _snapshots(runs),
        "rollback": plan.rollback,
        "runs": {mode: run.to_dict() if (run := runs.get(mode)) else None for mode in MODES},
    }


def results_of(runs: Mapping[str, Run | None]) -> Results:
    """Return every figure of the runs.

    :param runs: the records by mode; ``None`` for what was not run.
    """
    before, after, reference = (figures_of(runs.get(mode)) for mode in MODES)
    return Results(before, after, reference, compared(before, after, reference))


def known_figures() -> dict[str, Figure]:
    """Return the names (and units) of the figures that thresholds may be put on."""
    results = results_of({})
    return {**results.after, **results.both}


def holds(rows: Sequence[Row], own: Sequence[Row]) -> bool:
    """Whether every target that must be met and applies, and every threshold is met.

    :param rows: the targets.
    :param own: the thresholds.
    """
    return all(row.verdict in (MET, NOT_APPLICABLE) for row in (*rows, *own) if row.must)


def environment() -> dict[str, Any]:
    """Return where the measurement ran: machine, Python, versions."""
    versions = {}
    for name in ("hakgal_hybrid", "flask", "werkzeug", "gevent", "eventlet", "flask-socketio", "python-socketio",
                 "psutil", "matplotlib"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "platform": platform.platform(), "machine": platform.machine(),
            "cpus": os.cpu_count() or 1, "versions": versions}


def _plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: asdict(figure) for name, figure in figures.items()}


def _result(name: str, text: str, kind: str, results: Results) -> dict[str, Any]:
    before, after = results.before[name], results.after[name]
    return {"name": name, "text": text, "before": asdict(before), "after": asdict(after),
            "reference": asdict(results.reference[name]), "improvement": _improvement(before, after, kind)}


def _improvement(before: Figure, after: Figure, kind: str) -> str | None:
    if before.value is None or after.value is None or not kind:
        return None
    if kind == "x":
        times = speedup(before.value, after.value)
        return None if times is None else f"{times:,.0f} x faster" if times >= 2 else f"{times:.2g} x"
    percent = change(before.value, after.value)
    return None if percent is None else f"{percent:+.0f} %"


def _snapshots(runs: Mapping[str, Run | None]) -> dict[str, Any]:
    """The first snapshot of the host before, the last of the one after, what differs, and how much this run wrote."""
    before, after = runs.get("before"), runs.get("after")
    first = before.snapshots[0] if before and before.snapshots else None
    last = after.snapshots[-1] if after and after.snapshots else None
    changes = []
    if first and last:
        changes = [asdict(change) for change in diff(load(_json(first)), load(_json(last)))]
    written = sum(run.facts_written for run in runs.values() if run)
    return {"before": first, "after": last, "changes": changes, "facts_written": written}


def _json(snapshot: dict[str, Any]) -> str:
    import json

    return json.dumps(snapshot)


def figure_text(figure: Mapping[str, Any]) -> str:
    """Return a figure of the document for showing.

    :param figure: a figure of the report.
    """
    return "not taken" if figure["value"] is None else shown(figure["value"], figure["unit"].replace("s/1000", "s"))
