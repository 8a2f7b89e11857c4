"""Targets of the migration, the validation list, and thresholds of an operator's own: what holds, and the evidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...errors import ConfigurationError
from .figures import Figure, shown
from .record import HEALTH, Run

#: The verdicts: a figure that was not taken holds nothing, a line that does not apply spoils nothing.
MET, MISSED, NOT_MEASURED, NOT_APPLICABLE = "met", "missed", "not measured", "does not apply"
#: What ``/health`` must stay below, in milliseconds. A host that did before was not slow.
HEALTH_P95_MS, HEALTH_MEAN_MS = 150, 100
Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Row:
    """One line that is judged. ``must`` lines decide the exit status."""

    text: str
    must: bool
    verdict: str
    evidence: str

    def to_dict(self) -> dict[str, Any]:
        """Every member."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Results:
    """All figures of a report: of the three runs, and those made of two of them."""

    before: Figures
    after: Figures
    reference: Figures
    both: Figures


def targets(runs: Mapping[str, Run | None], results: Results) -> list[Row]:
    """Judge what must be reached, and what is nice to have.

    :param runs: the records by mode; ``None`` for what was not run.
    :param results: the figures of all runs.
    """
    after, both, run, out = results.after, results.both, runs.get("after"), Scope(runs, results)
    return [
        out.of_health(_below(f"latency p95 of /health < {HEALTH_P95_MS} ms", True, after["p95"], HEALTH_P95_MS)),
        out.of_health(_below(f"latency mean of /health < {HEALTH_MEAN_MS} ms", True, after["mean"], HEALTH_MEAN_MS)),
        out.of_control(_below("control over HTTP, p95 < 50 ms", True, after["control_p95"], 50)),
        out.of_cpu(out.of_events(_below("CPU per delivered event -30 % or better", True, both["cpu_events_change"], -30,
                                        equal=True))),
        out.of_cpu(_below("CPU per request -30 % or better", True, both["cpu_requests_change"], -30, equal=True)),
        out.of_times(out.of_events(_backlog(after))),
        out.of_events(_judged(f"{_channel(run)} streaming works", True, *_streaming(run))),
        out.of_control(_judged("governor control over HTTP works", True, *_controlled(run))),
        out.of_health(_below("latency mean of /health < 50 ms", False, after["mean"], 50)),
        out.of_health(_below("/health < 10 ms (mean)", False, after["mean"], 10)),
        _below("event-loop lag < 30 ms (p99)", False, after["loop_lag_p99"], 30),
    ]


def validation(runs: Mapping[str, Run | None], results: Results) -> list[Row]:
    """The validation list of the migration, each line with its evidence.

    :param runs: the records by mode.
    :param results: the figures of all runs.
    """
    run, both, out = runs.get("after"), results.both, Scope(runs, results)
    per_event, per_request = both["cpu_events_change"], both["cpu_requests_change"]
    errors = results.after["log_errors"]
    return [
        _judged("backend started with WebSocket disabled", True, *_swapped(run)),
        out.of_events(_judged(f"{_channel(run)} endpoint responding", True, *_streaming(run))),
        out.of_control(_judged("HTTP control working", True, *_controlled(run))),
        out.of_gain(_above("performance improved > 10x", both["speedup"], 10)),
        out.of_cpu(_both("CPU reduced > 30 %", _below("", True, per_event, -30), _below("", True, per_request, -30),
                         f"per delivered event: {_said(per_event)}; per request: {_said(per_request)}")),
        _below("no errors in logs", True, errors, 0, equal=True),
    ]


class Scope:
    """Which lines do not apply to what was measured: a line that is not met and cannot be is no failure.

    :param runs: the records by mode.
    :param results: the figures of all runs.
    """

    def __init__(self, runs: Mapping[str, Run | None], results: Results) -> None:
        self._before, self._after = runs.get("before"), runs.get("after")
        self._figures = results.before

    def of_gain(self, row: Row) -> Row:
        """Judge a line that compares with the host before: where that was never slow, there is nothing to win.

        :param row: the line.
        """
        p95, mean = self._figures["p95"], self._figures["mean"]
        if p95.value is None or mean.value is None or p95.value >= HEALTH_P95_MS or mean.value >= HEALTH_MEAN_MS:
            return row
        return _unless(row, f"nothing to win here: /health took {p95} (p95) before")

    def of_cpu(self, row: Row) -> Row:
        """Judge a line about CPU, which is counted of processes on this machine.

        :param row: the line.
        """
        missing = next((run.pid_missing for run in (self._before, self._after) if run and run.pid_missing), "")
        return _unless(row, missing) if missing else self.of_gain(row)

    def of_health(self, row: Row) -> Row:
        """Judge a line about ``/health``, where that was timed.

        :param row: the line.
        """
        run = self._after
        other = run is not None and bool(run.endpoints) and HEALTH not in run.endpoints
        return _unless(row, f"{HEALTH} is not among the endpoints (--endpoint)") if other else row

    def of_events(self, row: Row) -> Row:
        """Judge a line about events, which live clients receive.

        :param row: the line.
        """
        run = self._after
        return _unless(row, "no live client was asked for (--clients)") if run is not None and not run.live else row

    def of_times(self, row: Row) -> Row:
        """Judge a line about delivery times, which need one clock.

        :param row: the line.
        """
        run = self._after
        return row if run is None or run.local_clock else _unless(row, "the host's clock is another machine's")

    def of_control(self, row: Row) -> Row:
        """Judge a line about the governor, where there is one and it was not to be left alone.

        :param row: the line.
        """
        run = self._after
        return row if run is None or run.control.tried else _unless(row, run.control.evidence)


def _unless(row: Row, why_not: str) -> Row:
    """Return the line as one that does not apply, unless it is met all the same."""
    return row if row.verdict == MET else replace(row, verdict=NOT_APPLICABLE, evidence=f"{why_not}; {row.evidence}"
                                                  if row.evidence != why_not else why_not)


# -- single lines ------------------------------------------------------------------------------------------------


def _below(text: str, must: bool, figure: Figure, limit: float, *, equal: bool = False) -> Row:
    if figure.value is None:
        return Row(text, must, NOT_MEASURED, figure.missing or "not taken")
    met = figure.value < limit or (equal and figure.value == limit)
    return Row(text, must, MET if met else MISSED, _said(figure))


def _above(text: str, figure: Figure, limit: float) -> Row:
    if figure.value is None:
        return Row(text, True, NOT_MEASURED, figure.missing or "not taken")
    return Row(text, True, MET if figure.value > limit else MISSED, _said(figure))


def _both(text: str, one: Row, other: Row, evidence: str) -> Row:
    verdicts = {one.verdict, other.verdict}
    verdict = MISSED if MISSED in verdicts else NOT_MEASURED if NOT_MEASURED in verdicts else MET
    return Row(text, True, verdict, evidence)


def _judged(text: str, must: bool, holds: bool | None, evidence: str) -> Row:
    return Row(text, must, NOT_MEASURED if holds is None else MET if holds else MISSED, evidence)


def _said(figure: Figure) -> str:
    return f"{figure} (n = {figure.n:,})" if figure.value is not None else f"not taken: {figure.missing}"


def _backlog(after: Figures) -> Row:
    """From outside, at live clients; and from inside, where the host exports it, stalled clients included."""
    text = "no backlog > 60 s"
    seen, exported = after["oldest_undelivered"], after["oldest_undelivered_host"]
    if seen.value is None:
        return Row(text, True, NOT_MEASURED, seen.missing or "not taken")
    holds = seen.value <= 60 and (exported.value is None or exported.value <= 60)
    host = f"exported by the host: {exported}" if exported.value is not None else f"not exported: {exported.missing}"
    return Row(text, True, MET if holds else MISSED, f"longest delivery to a live client: {_said(seen)}; {host}")


def _channel(run: Run | None) -> str:
    """Return what the live clients were connected by after the migration."""
    return "Socket.IO" if run is not None and run.transport == "socketio" else "SSE"


def _streaming(run: Run | None) -> tuple[bool | None, str]:
    if run is None or not run.phases:
        return None, "the host after the migration was not measured"
    if not run.live:
        return None, "no live client was asked for (--clients)"
    if run.transport not in ("sse", "socketio"):
        return False, run.trouble.get("connect", "no stream could be opened")
    events = run.quiet_delivery.events + run.delivery.events
    missing = run.quiet_delivery.facts_missing + run.delivery.facts_missing
    sent = run.quiet_delivery.facts_sent + run.delivery.facts_sent
    closed = max(run.quiet_delivery.closed, run.delivery.closed)
    evidence = f"{run.opened} {'streams' if run.transport == 'sse' else 'Socket.IO clients'} received {events:,} events"
    if sent:
        evidence += f"; of {sent} facts {'each arrived at each' if not missing else f'{missing} arrivals are missing'}"
    if closed:
        evidence += f"; {closed} of them were closed by the host"
    return bool(run.opened and events and not missing and not closed), evidence


def _controlled(run: Run | None) -> tuple[bool | None, str]:
    if run is None or not any(name == "control" for name, _ in run.phases):
        return None, "the governor was not tried"
    return run.control.works, run.control.evidence


def _swapped(run: Run | None) -> tuple[bool | None, str]:
    if run is None or run.status is None:
        return None, (run.status_missing if run else "") or "the host after the migration was not measured"
    transport, profile = run.status.get("transport"), run.status.get("profile")
    return str(transport).startswith("sse"), f"GET /api/hybrid/status says transport {transport!r}, profile {profile!r}"


# -- thresholds --------------------------------------------------------------------------------------------------

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b, ">": lambda a, b: a > b}
_THRESHOLD = re.compile(r"\s*([a-z_.0-9]+(?:\[[^\]]+\])?)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)\s*(ms|s|%|x|MiB)?\s*")
#: How many of the unit on the left one of the figure's own is.
_UNITS = {("ms", "s"): 1000.0, ("s", "ms"): 0.001}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A condition of an operator's own, such as ``p95<150ms`` or ``before.p95[GET /api/status]>1s``."""

    text: str
    name: str
    operator: str
    limit: float
    unit: str

    @classmethod
    def of(cls, text: str, known: Mapping[str, Figure]) -> Threshold:
        """Read one.

        :param text: ``NAME<=VALUE`` or ``NAME>=VALUE``.
        :param known: the names of figures there can be, with their units.
        :raises ConfigurationError: if it reads otherwise, or there is no such figure or unit.
        """
        found = _THRESHOLD.fullmatch(text)
        if found is None:
            raise ConfigurationError.bad_value("--assert", text, "NAME<VALUE with an optional unit, such as p95<150ms")
        name, operator, limit, unit = found[1], found[2], float(found[3]), found[4] or ""
        bare = re.sub(r"\[.*", "", name.partition(".")[2] if name.startswith(("before.", "reference.")) else name)
        if bare not in known:
            raise ConfigurationError.bad_value("--assert", text, f"one of these figures: {', '.join(sorted(known))}")
        if unit and unit != known[bare].unit and (unit, known[bare].unit) not in _UNITS:
            raise ConfigurationError.bad_value("--assert", text, f"the unit {known[bare].unit or 'of none'} for {bare}")
        return cls(text, name, operator, limit, unit)

    def judge(self, results: Results) -> Row:
        """Return the verdict.

        :param results: the figures of all runs.
        """
        prefix, dot, rest = self.name.partition(".")
        of = {"before": results.before, "reference": results.reference}.get(prefix if dot else "")
        figure = of.get(rest) if of is not None else {**results.after, **results.both}.get(self.name)
        if figure is None:
            return Row(self.text, True, NOT_MEASURED, f"there is no figure {self.name!r} in this run")
        if figure.value is None:
            return Row(self.text, True, NOT_MEASURED, figure.missing or "not taken")
        value = figure.value * _UNITS.get((self.unit, figure.unit), 1.0)
        holds = _OPERATORS[self.operator](value, self.limit)
        return Row(self.text, True, MET if holds else MISSED, f"{shown(figure.value, figure.unit)} (n = {figure.n:,})")
