"""The record of a run: everything that was measured at one host, filled as it is measured, so that an interrupted run
keeps what it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .figures import Summary
from .timing import Samples

HEALTH = "GET /health"
CONTROL = "POST /api/governor/control"


@dataclass
class Work:
    """A piece of work over which CPU was counted.

    :ivar cpu_s: CPU seconds of the host with its threads; ``None`` if they cannot be read.
    :ivar children_cpu_s: of its children, together.
    :ivar delivered: events that the live clients received; ``wanted_rate``: how many a second each was meant to get.
    :ivar clients_cpu_s: CPU seconds of the clients' process, to show that it was not what was slow.
    """

    seconds: float = 0.0
    cpu_s: float | None = None
    children_cpu_s: float | None = None
    requests: int = 0
    delivered: int = 0
    wanted_rate: float | None = None
    clients_cpu_s: float = 0.0


@dataclass
class Deliveries:
    """What reached the live clients in one phase.

    :ivar delays_ms: of every event with a time of its own: from that to its arrival.
    :ivar facts_sent: facts stored; ``facts_missing``: how many arrivals of them were still awaited at the end, over all
        live clients; ``waited_s``: for how long the oldest of those had been waiting.
    """

    events: int = 0
    delays_ms: list[float] = field(default_factory=list)
    untimed: int = 0
    names: dict[str, int] = field(default_factory=dict)
    facts_sent: int = 0
    facts_missing: int = 0
    waited_s: float = 0.0
    closed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Every member, the delays summed up."""
        return {"events": self.events, "names": self.names, "untimed": self.untimed, "facts_sent": self.facts_sent,
                "facts_missing": self.facts_missing, "waited_s": round(self.waited_s, 3), "closed": self.closed,
                "delay": {"unit": "ms", **Summary.of(self.delays_ms).to_dict(), "histogram": histogram(self.delays_ms)}}


@dataclass
class Control:
    """What controlling the governor over HTTP came to.

    :ivar there: whether the route answers at all; ``evidence`` says what was seen.
    :ivar tried: whether there is a governor that was to be controlled.
    :ivar works: it started (or was running), said so, and stopped again.
    """

    there: bool = False
    tried: bool = True
    works: bool = False
    evidence: str = "not tried"
    samples: Samples = field(default_factory=Samples)


@dataclass
class Log:
    """Warnings and errors in what the host printed; ``read``: how many lines that was."""

    read: int = 0
    warnings: int = 0
    errors: int = 0
    lines: list[str] = field(default_factory=list)
    missing: str | None = None


@dataclass
class Run:
    """One host, measured.

    :ivar mode: ``before``, ``after`` or ``reference``.
    :ivar transport: how its clients were connected: ``socketio``, ``ws``, ``sse``, or ``none``.
    :ivar phases: names of the phases that were completed, with their seconds.
    :ivar complete: whether all of them were.
    :ivar trouble: what kept a phase from being measured, by phase.
    :ivar sampled_lag: ``(seconds since the run began, lags in ms)`` of the sampler in the host's process.
    :ivar status: ``/api/hybrid/status`` at the end, if the host has it.
    """

    mode: str
    url: str
    started: bool
    live: int
    stalled: int
    command: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    transport: str = "none"
    began_at: float = 0.0
    seconds: float = 0.0
    complete: bool = False
    phases: list[tuple[str, float]] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    endpoints: dict[str, Samples] = field(default_factory=dict)
    quiet: Samples = field(default_factory=Samples)
    stall_requests: int = 0
    stall_felt: bool = False
    events: Work = field(default_factory=Work)
    requests: Work = field(default_factory=Work)
    alone: Work = field(default_factory=Work)
    quiet_delivery: Deliveries = field(default_factory=Deliveries)
    delivery: Deliveries = field(default_factory=Deliveries)
    opened: int = 0
    control: Control = field(default_factory=Control)
    local_clock: bool = True
    pid: int | None = None
    pid_missing: str = ""
    series: dict[str, Any] = field(default_factory=dict)
    cpu_percent: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    sampler: str | None = None
    sampled_lag: list[tuple[float, list[float]]] = field(default_factory=list)
    status: dict[str, Any] | None = None
    status_missing: str = ""
    facts_written: int = 0
    log: Log = field(default_factory=Log)

    def to_dict(self) -> dict[str, Any]:
        """The run as JSON values; see ``docs/report.schema.json``."""
        lags = [lag for _, some in self.sampled_lag for lag in some]
        return {
            "mode": self.mode, "url": self.url, "started_by_measure": self.started, "command": self.command,
            "variables": self.variables, "transport": self.transport, "complete": self.complete,
            "clients": {"live": self.live, "stalled": self.stalled, "connected": self.opened},
            "began_at": round(self.began_at, 3), "seconds": round(self.seconds, 3),
            "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.phases],
            "trouble": self.trouble, "snapshots": self.snapshots,
            "endpoints": {label: samples.to_dict() for label, samples in self.endpoints.items()},
            "without_stalled": self.quiet.to_dict(),
            "stall": {"requests": self.stall_requests, "felt": self.stall_felt},
            "control": {"there": self.control.there, "works": self.control.works, "evidence": self.control.evidence,
                        **self.control.samples.to_dict()},
            "work": {"events": vars(self.events).copy(), "requests": vars(self.requests).copy(),
                     "alone": vars(self.alone).copy()},
            "deliveries": {"without_stalled": self.quiet_delivery.to_dict(),
                           "with_stalled": self.delivery.to_dict()},
            "process": {"pid": self.pid, "missing": self.pid_missing or None, "series": self.series},
            "sampled_lag": {"sampler": self.sampler, "unit": "ms", **Summary.of(lags).to_dict(),
                            "histogram": histogram(lags),
                            "series": [[round(at, 2), max(some)] for at, some in self.sampled_lag if some]},
            "status": self.status, "status_missing": self.status_missing or None,
            "facts_written": self.facts_written,
            "log": {"read": self.log.read, "warnings": self.log.warnings, "errors": self.log.errors,
                    "lines": self.log.lines, "missing": self.log.missing},
        }


#: Upper bounds in milliseconds of the histograms in a report, three a factor of two.
BOUNDS_MS = tuple(round(0.05 * 2 ** (step / 3), 4) for step in range(64))


def histogram(values: list[float]) -> list[list[float | int | None]]:
    """Return ``[upper bound in ms, how many are at most that]`` for the bounds that matter; the last bound is null.

    :param values: durations in milliseconds.
    """
    buckets: list[list[float | int | None]] = []
    ordered, reached = sorted(values), 0
    for bound in BOUNDS_MS:
        while reached < len(ordered) and ordered[reached] <= bound:
            reached += 1
        if reached:
            buckets.append([bound, reached])
        if reached == len(ordered):
            break
    return [*buckets, [None, len(ordered)]]
