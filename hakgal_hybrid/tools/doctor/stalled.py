"""Clients that do not read: does everybody else's request wait for them?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from ..remote.exchange import JOIN, SOCKET_IO, TINY, HTTPExchange, WebSocketExchange, begin
from ..remote.request import connected
from .findings import Finding, not_checked, ok, problem
from .responsiveness import time_probe
from .target import STATUS, STREAM, ExaminedHost, ms

#: The time that requests beside clients that do not read may take, in seconds.
MOST_SECONDS = 60.0


def check_stalled(host: ExaminedHost) -> Finding:
    """Time the probes beside clients that have connected and do not read, then again without them.

    :param host: the host that is examined.
    """
    options = host.options
    if not options.probe_stall:
        return not_checked("stalled", "it was not asked for (--probe-stall): it opens clients that do not read, which "
                           "hold up everybody if the host broadcasts in its requests")
    try:
        before = max(time_probe(host, probe, options.requests)["p50_ms"] for probe in options.probes)
        if before > options.slow_ms:
            return not_checked("stalled", f"the host takes {before} ms without them")
        with contextlib.ExitStack() as kept:
            opened, not_opened = _open_all(host, kept)
            if not opened:
                return not_checked("stalled", "there is no push channel to stall", *not_opened)
            emitted = _emitted(host)
            requests, during = _until_slow(host, max(options.slow_ms, 3 * before))
            more = _emitted(host)
        evidence = [f"before: {before} ms", f"stalled: {', '.join(opened)}", *not_opened]
        if during is None and emitted is not None and emitted == more:
            return not_checked("stalled", f"none of {requests} requests made the host emit anything; name one that "
                               "does (--probe)", *evidence)
        if during is None:
            return ok("stalled", f"{requests} requests beside a client that does not read are as fast as before",
                      *evidence, requests=requests)
        # What was begun while they were there may still wait for them.
        time_probe(host, options.probes[0], 1)
        after = max(time_probe(host, probe, options.requests)["p50_ms"] for probe in options.probes)
    except OSError as error:
        return not_checked("stalled", f"the host stopped answering ({error or type(error).__name__})")
    evidence += [f"beside them, after {requests} requests: {during} ms", f"when they had gone: {after} ms"]
    if after > max(options.slow_ms, during / 2):
        return not_checked("stalled", "the host stayed slow when they had gone", *evidence)
    return problem("stalled", "broadcaster", f"one client that does not read makes every request take {during} ms: the "
                   "host writes its events to clients inside the request", *evidence,
                   remedy="serve this host with APP_PROFILE=HYBRID: its emits then wait for nobody", before_ms=before,
                   during_ms=during, after_ms=after, requests=requests)


def _emitted(host: ExaminedHost) -> int | None:
    """Return how many events the host has emitted by its own count, if it has this package."""
    document = host.ask("GET", STATUS).json()
    log = document.get("log") if isinstance(document, dict) else None
    return log.get("appended") if isinstance(log, dict) else None


def _until_slow(host: ExaminedHost, slow_ms: float) -> tuple[int, float | None]:
    """Make requests until three on end are slow; return how many were made, and how long the last ones took."""
    probes, on_end, deadline = host.options.probes, 0, time.monotonic() + MOST_SECONDS
    for number in range(host.options.stall_requests):
        probe = probes[number % len(probes)]
        took = ms(host.ask(probe.method, probe.path, probe.body).first_byte_s)
        on_end = on_end + 1 if took > slow_ms else 0
        if on_end == 3:
            return number + 1, took
        if time.monotonic() > deadline:
            return number + 1, None
    return host.options.stall_requests, None


def _open_all(host: ExaminedHost, kept: contextlib.ExitStack) -> tuple[list[str], list[str]]:
    """Open one stalled client on each push channel; return which there are, and why the others are not."""
    ways = [("event stream", STREAM, False), ("Socket.IO", SOCKET_IO, True),
            *((f"WebSocket {path}", path, True) for path in host.options.stall_paths)]
    opened, failed = [], []
    for name, path, upgrade in ways:
        try:
            kept.enter_context(_stalled(host, path, upgrade=upgrade))
            opened.append(name)
        except OSError as error:
            failed.append(f"{name} cannot be stalled: {error or type(error).__name__}")
    return opened, failed


@contextlib.contextmanager
def _stalled(host: ExaminedHost, path: str, *, upgrade: bool) -> Iterator[None]:
    """Keep a connection on which nothing is read once the host has answered."""
    with connected(host.base, host.address, host.options.connect_s, receive_buffer=TINY) as sock:
        sock.settimeout(host.options.wait_s)
        if upgrade:
            websocket = WebSocketExchange(host.base, path, host.headers)
            begin(sock, websocket)
            if path == SOCKET_IO:  # who has not joined a namespace gets no broadcasts
                sock.sendall(websocket.message(JOIN))
        else:
            begin(sock, HTTPExchange(host.base, host.base.path + path, {"Accept": "text/event-stream",
                                                                         **host.headers}))
        yield
