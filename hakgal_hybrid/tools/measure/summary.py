"""The figures of a run: each with its unit, how many samples it was made of and how it was taken, or why it was not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .figures import STATISTICS, Figure, Summary, change, speedup
from .record import CONTROL, HEALTH, Run, Work

#: What is measured of one run, by name; statistics of an endpoint are also called ``p95[GET /api/status]``.
_LAG = ("p50", "p99", "max")
#: How finely a process's CPU is counted, in seconds; and what part of it two runs of the same work differ by anyway.
TICK_S, LEAST_SHARE = 0.01, 0.1
#: By which part the numbers of events that live clients received may differ if CPU is to be compared.
MAX_RECEIVED_DIFFERENCE = 0.1
#: What is not measured of the reference.
_NOT_OF_REFERENCE = (*STATISTICS, "errors", "control_", "delivery_", "failed_requests")


def figures_of(run: Run | None) -> dict[str, Figure]:
    """Return every figure of a run by name; of no run, figures that were not taken.

    :param run: the record of a run.
    """
    if run is None:
        return {name: Figure.none(figure.unit, "this host was not measured")
                for name, figure in figures_of(Run("none", "", False, 0, 0)).items()}
    found = {**_latency(run), **_control(run), **_cpu(run), **_lag(run), **_deliveries(run), **_rest(run)}
    if run.mode == "reference":  # its run ends before these, as it was meant to
        only_cpu = "of the reference nothing but CPU is measured, with live clients alone"
        found.update({name: Figure.none(figure.unit, only_cpu) for name, figure in found.items()
                      if figure.value is None and name.startswith(_NOT_OF_REFERENCE)})
    return found


def _latency(run: Run) -> dict[str, Figure]:
    stalled = f"{run.stalled} of {run.stalled + run.opened} clients stalled" if run.stalled else "no client stalled"
    how = f"requests on connections of their own, two at a time, beside those of the other endpoints; {stalled}"
    found = {}
    for label, samples in run.endpoints.items():
        for name, figure in _statistics(samples.of("total"), f"{label}: {how}", samples.errors).items():
            found[f"{name}[{label}]"] = figure
            if label == HEALTH:
                found[name] = figure
    if HEALTH not in run.endpoints:
        found.update({name: Figure.none(_unit(name), f"{HEALTH} was not measured")
                      for name in (*STATISTICS, "errors")})
    quiet = f"{HEALTH}, one request after the other, live clients only"
    found.update({f"quiet_{name}": figure
                  for name, figure in _statistics(run.quiet.of("total"), quiet, run.quiet.errors).items()})
    return found


def _control(run: Run) -> dict[str, Figure]:
    if not run.control.there:
        return {f"control_{name}": Figure.none(_unit(name), run.control.evidence)
                for name in (*STATISTICS, "errors")}
    how = f"{CONTROL}, start, status and stop in turn"
    return {f"control_{name}": figure
            for name, figure in _statistics(run.control.samples.of("total"), how, run.control.samples.errors).items()}


def _cpu(run: Run) -> dict[str, Figure]:
    found = {"cpu_events": _per_event(run), "cpu_events_all": _per(
        run.events, run.events.delivered, "s/1000", run, "events delivered",
        f"CPU seconds of the host with its threads while the events were caused and delivered ({_where(run.events)})")}
    found["cpu_requests"] = _per(
        run.requests, run.requests.requests, "s/1000", run, "requests answered",
        f"CPU seconds of the host with its threads while {HEALTH} was requested one after the other, "
        f"{run.opened} live clients, which received {run.requests.delivered:,} events of that")
    found["told_per_request"] = _received_per_request(run)
    for name, used in (("cpu_percent", run.events.cpu_s), ("children_cpu_percent", run.events.children_cpu_s)):
        who = "the host with its threads" if name == "cpu_percent" else "the host's children, together"
        if used is None or not run.events.seconds:
            found[name] = Figure.none("%", run.pid_missing or "the phase was not reached")
        else:
            found[name] = Figure(round(used / run.events.seconds * 100, 1), "%", run.events.delivered,
                                 f"wall-clock, of one core, {who}, over {run.events.seconds:.0f} s of events; a host "
                                 "that waits burns little, so this alone would mislead")
    return found


def _received_per_request(run: Run) -> Figure:
    """The events that each client received for a request: only if they are as many was it the same work."""
    work = run.requests
    if not work.requests or not run.opened:
        return Figure.none("", run.trouble.get("connect") or "no live client, or the phase was not reached")
    return Figure(round(work.delivered / work.requests / run.opened, 3), "", work.requests,
                  f"events that each of {run.opened} live clients received for a {HEALTH} over which CPU was counted")


def _per_event(run: Run) -> Figure:
    """CPU of delivering: of the work with the live clients, less that of the same work without any."""
    events, alone = run.events, run.alone
    if events.cpu_s is None or alone.cpu_s is None or not events.delivered or not alone.requests:
        why = run.pid_missing or run.trouble.get("connect") or "no event was delivered, or the phase was not reached"
        return Figure.none("s/1000", why)
    used = events.cpu_s - alone.cpu_s * events.requests / alone.requests
    least = max(2 * TICK_S, LEAST_SHARE * alone.cpu_s)
    below = "" if used >= least else f"; {used:.2f} s is less than this can tell apart, {least:.2f} s is taken for it"
    return Figure(round(max(used, least) / events.delivered * 1000, 5), "s/1000", events.delivered,
                  f"CPU seconds of the host with its threads for {events.requests} requests that emit, {run.opened} "
                  f"live clients ({events.cpu_s:.2f} s), less those for {alone.requests} such requests without a "
                  f"client ({alone.cpu_s:.2f} s){below}")


def _per(work: Work, count: int, unit: str, run: Run, what: str, how: str) -> Figure:
    if work.cpu_s is None or not count:
        return Figure.none(unit, run.pid_missing or f"no {what}")
    return Figure(round(work.cpu_s / count * 1000, 5), unit, count, how)


def _where(work: Work) -> str:
    return f"{work.requests} requests in {work.seconds:.0f} s, {work.delivered / max(work.seconds, 0.001):,.0f}/s"


def _lag(run: Run) -> dict[str, Figure]:
    found = {}
    server = (run.status or {}).get("server") or {}
    exported = server.get("loop_lag") or {}
    for name in _LAG:
        value = exported.get(f"{name}_ms")
        if value is None:
            why = run.status_missing or "the host is not served by this package's server, which is what has that loop"
            found[f"loop_lag_{name}"] = Figure.none("ms", why)
        else:
            found[f"loop_lag_{name}"] = Figure(float(value), "ms", int(exported.get("n", 0)),
                                               "a timer on the server's loop, exported by the host in GET "
                                               f"/api/hybrid/status: the last {exported.get('window_s', 60):.0f} s")
    lags = [lag for _, some in run.sampled_lag for lag in some]
    kind = ("the lag of eventlet's loop" if run.sampler == "eventlet"
            else "the lag of a thread (scheduler and interpreter lock)")
    for name in _LAG:
        if lags:
            found[f"sampled_lag_{name}"] = Figure(getattr(Summary.of(lags), name), "ms", len(lags),
                                                  "a sampler inside the host's process, sleeping 20 ms at a time, over "
                                                  f"the whole run: {kind}")
        else:
            found[f"sampled_lag_{name}"] = Figure.none(
                "ms", "the host was not started by measure, so no sampler runs inside it" if not run.started
                else "the sampler wrote nothing")
    return found


def _deliveries(run: Run) -> dict[str, Figure]:
    found = {}
    for prefix, what, seen in (("", "clients stalled beside them", run.delivery),
                               ("quiet_", "no client stalled", run.quiet_delivery)):
        for name in ("p50", "p99", "max"):
            if seen.delays_ms:
                found[f"{prefix}delivery_{name}"] = Figure(getattr(Summary.of(seen.delays_ms), name), "ms",
                                                           len(seen.delays_ms), "from an event's own timestamp to its "
                                                           f"arrival at a live client, one clock; {what}")
            else:
                found[f"{prefix}delivery_{name}"] = Figure.none("ms", _why_no_delays(run))
    return {**found, **_backlog(run)}


def _why_no_delays(run: Run) -> str:
    if not run.local_clock:
        return "the host's clock is another machine's"
    return run.trouble.get("connect") or "no event with a timestamp arrived, or the phase was not reached"


def _backlog(run: Run) -> dict[str, Figure]:
    seen = [deliveries for deliveries in (run.quiet_delivery, run.delivery) if deliveries.events]
    delays = [delay for deliveries in seen for delay in deliveries.delays_ms]
    longest = (run.status or {}).get("oldest_undelivered_max_s")
    host = (Figure(float(longest), "s", 1, "the longest that an event has waited for an open stream since the host "
                   "began, stalled ones included until they are closed; exported by the host in GET /api/hybrid/status")
            if isinstance(longest, (int, float))
            else Figure.none("s", run.status_missing or "the host does not export it"))
    if not delays:
        return {"oldest_undelivered": Figure.none("s", _why_no_delays(run)), "oldest_undelivered_host": host}
    missing = sum(deliveries.facts_missing for deliveries in seen)
    value = max([max(delays) / 1000, *(deliveries.waited_s for deliveries in seen)])
    how = ("the longest that an event took to a live client"
           + (f"; {missing} arrivals of facts were still awaited at the end" if missing else "; every fact arrived"))
    return {"oldest_undelivered": Figure(round(value, 3), "s", len(delays), how), "oldest_undelivered_host": host}


def _rest(run: Run) -> dict[str, Figure]:
    memory = run.series.get("rss_mb") or []
    found = {"memory": Figure(max(memory), "MiB", len(memory), "resident memory of the host's process, the most seen")
             if memory else Figure.none("MiB", run.pid_missing or "the host was not watched")}
    for name, value in (("log_errors", run.log.errors), ("log_warnings", run.log.warnings)):
        found[name] = (Figure.none("", run.log.missing or "not begun") if run.log.missing or not run.began_at
                       else Figure(value, "", run.log.read, "lines of the host's log that say so, since the run began"))
    failed = sum(samples.errors for samples in run.endpoints.values())
    made = sum(sum(samples.statuses.values()) for samples in run.endpoints.values())
    found["failed_requests"] = (Figure(failed, "", made, "answers of 400 and above, and requests without an answer")
                                if made else Figure.none("", "no request was made"))
    every = [time for samples in run.endpoints.values() for time in samples.of("total")]
    found["p95_all"] = (Figure(Summary.of(every).p95, "ms", len(every), "all endpoints together") if every
                        else Figure.none("ms", "no request was made"))
    return found


def compared(before: dict[str, Figure], after: dict[str, Figure], reference: dict[str, Figure]) -> dict[str, Figure]:
    """Return the figures that are made of two runs.

    :param before: the figures of the host before.
    :param after: the figures of the host after.
    :param reference: the figures of the reference.
    """
    return {
        "speedup": _of_two("x", speedup, before["p95"], after["p95"], "p95 of GET /health before / after"),
        "speedup_mean": _of_two("x", speedup, before["mean"], after["mean"], "mean of GET /health before / after"),
        "cpu_events_change": _of_two("%", change, before["cpu_events"], after["cpu_events"],
                                     "CPU per delivered event, after against before"),
        "cpu_requests_change": _of_same_work(before, after),
        "cpu_events_vs_reference": _of_two("%", change, reference["cpu_events"], after["cpu_events"],
                                           "CPU per delivered event, after against the reference"),
    }


def _of_same_work(before: dict[str, Figure], after: dict[str, Figure]) -> Figure:
    old, new = (figures["told_per_request"].value for figures in (before, after))
    if old is not None and new is not None and abs(old - new) > MAX_RECEIVED_DIFFERENCE * max(1.0, old, new):
        return Figure.none("%", f"not the same work: each live client received {old:g} events a request before, "
                           f"{new:g} after")
    return _of_two("%", change, before["cpu_requests"], after["cpu_requests"],
                   "CPU per request, after against before; the live clients received as many events for each")


def _of_two(unit: str, make: Callable[[float, float], float | None], old: Figure, new: Figure, how: str) -> Figure:
    if old.value is None or new.value is None:
        return Figure.none(unit, (old.missing or "") if old.value is None else (new.missing or ""))
    value = make(old.value, new.value)
    if value is None:
        return Figure.none(unit, "one of the two is nothing")
    return Figure(round(value, 1), unit, min(old.n, new.n), how)


def _statistics(values: Sequence[float], how: str, errors: int) -> dict[str, Figure]:
    summary = Summary.of(values, errors)
    found = {name: Figure(value, "ms", summary.n, how) if (value := getattr(summary, name)) is not None
             else Figure.none("ms", "no request was answered" if errors else "the phase was not reached")
             for name in STATISTICS}
    found["errors"] = Figure(errors, "", summary.n, how)
    return found


def _unit(name: str) -> str:
    return "" if name == "errors" else "ms"
