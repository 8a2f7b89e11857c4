"""How the host answers: its speed with nobody in the way, and where its requests wait."""

from __future__ import annotations

import threading
from typing import Any

from ...monitoring.histogram import nearest_rank
from .findings import Finding, not_checked, ok, problem, warning
from .target import STACKS, ExaminedHost, Probe, ms

REMEDY = ("look at what this function waits for or computes; py-spy (dump or record with --pid, on the machine of the "
          "host) shows it down to native code; where it writes an event to clients, serve the host with "
          "APP_PROFILE=HYBRID: its emits then wait for nobody")


def check_health(host: ExaminedHost) -> Finding:
    """Time the probes, one after the other, each on a connection of its own, at the address that was chosen.

    :param host: the host that is examined.
    """
    options, before = host.options, host.clients()
    evidence, data, slowest = [], {}, 0.0
    for probe in options.probes:
        try:
            figures = time_probe(host, probe, options.requests)
        except OSError as error:
            return problem("health", "no_answer", f"{probe} is not answered: {error or type(error).__name__}",
                           remedy="look at the host's log; all of its threads may be busy")
        data[str(probe)] = figures
        slowest = max(slowest, figures["p50_ms"])
        evidence.append(f"{probe}: connect {figures['connect_ms']} ms, first byte p50 {figures['p50_ms']} ms, max "
                        f"{figures['max_ms']} ms (n = {figures['n']}), status {figures['status']}")
    count = "the host does not tell how many clients are connected" if before is None else (
        f"{before} client{'' if before == 1 else 's'} connected, by the host's own count")
    failing = {name: figures["status"] for name, figures in data.items() if figures["status"] >= 400}
    if any(status >= 500 for status in failing.values()):
        return problem("health", "errors", f"the host answers with errors: {_statuses(failing)}", *evidence, count,
                       remedy="look at the host's log", clients=before, **data)
    if slowest <= options.slow_ms and failing:
        return warning("health", "refused", f"the host answers in {slowest} ms, but refuses: {_statuses(failing)}",
                       *evidence, count, remedy="name a request that it serves (--probe), and give the key if it needs "
                       "one", clients=before, **data)
    if slowest <= options.slow_ms:
        return ok("health", f"answers in {slowest} ms", *evidence, count, clients=before, **data)
    if before == 0:
        return problem("health", "slow_without_clients", f"answers in {slowest} ms with no client connected: it is not "
                       "the broadcaster", *evidence, count, remedy="see below where requests wait; else profile "
                       "the handler", clients=before, **data)
    return problem("health", "slow_with_clients", f"answers in {slowest} ms; clients may be connected, so it may be "
                   "the broadcaster or the handler itself", *evidence, count,
                   remedy="see below where requests wait; or measure again with every dashboard closed, and "
                   "with --probe-stall", clients=before, **data)


def _statuses(failing: dict[str, int]) -> str:
    return ", ".join(f"{name} with {status}" for name, status in failing.items())


def time_probe(host: ExaminedHost, probe: Probe, count: int) -> dict[str, Any]:
    """Make a request ``count`` times; return its figures in milliseconds.

    :param host: the host that is examined.
    :param probe: the request.
    :param count: how often.
    :raises OSError: if it is not answered.
    """
    answers = [host.ask(probe.method, probe.path, probe.body) for _ in range(count)]
    waits = [ms(answer.first_byte_s) for answer in answers]
    return {"n": count, "status": answers[-1].status, "connect_ms": max(ms(answer.connect_s) for answer in answers),
            "p50_ms": nearest_rank(sorted(waits), 0.5), "max_ms": max(waits)}


def check_stacks(host: ExaminedHost) -> Finding:
    """Have the host look at the stacks of its own threads while we make requests.

    :param host: the host that is examined.
    """
    if not host.seen:
        return not_checked("stacks", host.why_not)
    stop = threading.Event()
    makers = [threading.Thread(target=_keep_asking, args=(host, stop), daemon=True) for _ in range(2)]
    for thread in makers:
        thread.start()
    try:
        answer = host.ask("POST", STACKS, {"seconds": host.options.sample_s},
                             timeout=host.options.sample_s + 20)
    except OSError as error:
        return not_checked("stacks", f"POST {STACKS} was not answered ({error or type(error).__name__})")
    finally:
        stop.set()
        for thread in makers:
            thread.join(25)
    document = answer.json()
    if answer.status != 200 or not isinstance(document, dict):
        code = document.get("code") if isinstance(document, dict) else None
        return not_checked("stacks", f"the host refused to be summary at ({answer.status} {code}); give the key "
                           "(HAKGAL_API_KEY)")
    return _judged(host, document)


def _judged(host: ExaminedHost, document: dict[str, Any]) -> Finding:
    data = {name: document[name] for name in ("seconds", "rounds", "requests", "groups")}
    summary = f"{document['rounds']} samples in {document['seconds']} s saw a request {document['requests']} times"
    groups = [group for group in document["groups"] if group["longest_ms"] >= host.options.slow_ms]
    if not groups:
        if document.get("greenlets"):
            return not_checked("stacks", "the threads of this host are greenlets, of which only the running one can be "
                               "seen", summary)
        return ok("stacks", "no request was seen to wait long at one place", summary, **data)
    worst = groups[0]
    evidence = [f"{group['where']}: in {group['share']:.0%} of {document['requests']} samples, "
                f"{group['longest_ms']:.0f} ms on end" for group in groups]
    evidence.append("innermost last: " + " > ".join(worst["stack"][-6:]))
    made = warning if worst["share"] < 0.05 else problem
    return made("stacks", "hotspot", f"requests spend their time in {worst['where']}", summary, *evidence,
                remedy=REMEDY, **data)


def _keep_asking(host: ExaminedHost, stop: threading.Event) -> None:
    while not stop.is_set():
        for probe in host.options.probes:
            try:
                host.ask(probe.method, probe.path, probe.body)
            except OSError:
                stop.wait(0.2)
        stop.wait(0.01)


def check_patching(host: ExaminedHost) -> Finding:
    """See whether eventlet and gevent have both replaced parts of the host's standard library.

    :param host: the host that is examined.
    """
    if not host.seen:
        return not_checked("patching", host.why_not)
    patched: dict[str, list[str]] = host.seen["patched"]
    by = {name: [part for part, found in patched.items() if name in found] for name in ("eventlet", "gevent")}
    evidence = [f"{name} has replaced {', '.join(parts)}" for name, parts in by.items() if parts]
    if all(by.values()):
        return problem("patching", "mixed_patching", "eventlet and gevent have both patched this process; each waits "
                       "for the other's loop, and it stops sooner or later", *evidence,
                       remedy="use one of them: start the host with hakgal-hybrid exec or run, which keep eventlet out",
                       patched=patched)
    if by["eventlet"] and "gevent" in str(host.seen.get("server", "")).lower():
        return problem("patching", "mixed_patching", "eventlet has patched this process, and a gevent server serves it",
                       *evidence, remedy="start the host with hakgal-hybrid exec or run, which keep eventlet out",
                       patched=patched)
    says = f"patched by {'eventlet' if by['eventlet'] else 'gevent'} alone" if evidence else "nothing is patched"
    return ok("patching", says, *evidence, patched=patched)
