"""The protocol: what is done to a host, in which order, the same to every one.

1. a snapshot; the live clients connect
2. **events**: events at a steady rate for some seconds; CPU per delivered event, delivery latency
3. **requests**: ``/health`` one after the other; CPU per request
4. **alone**: the live clients leave, and the requests of 2 are made once more: what delivering adds is the difference
5. **stall**: the live clients are back, and further ones connect that do not read; ``/health`` is requested until that
   is felt, at most 300 times
6. **latency**: every endpoint, side by side, two requests of each at a time
7. **control**: the governor over HTTP
8. a snapshot; what the host itself exports; its log

CPU is taken in 2 to 4, without stalled clients: a host that waits for one burns little.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ...errors import HybridError
from ..remote.request import request
from .channel_detection import detect_channel
from .client_process import ClientProcess, ClientsFailed
from .governor_check import control
from .hosts import Host, harmless, lag_lines
from .load import (
    ENDPOINTS,
    FACT,
    FELT_MS,
    LANES,
    LATE_MS,
    MAX_SETTLE_S,
    MAX_STALL_REQUESTS,
    MAX_STALL_S,
    MAX_WORK_S,
    PACE_S,
    SETTLE_S,
    WORK_REQUESTS,
    Options,
)
from .output import read_log
from .process_monitor import ProcessMonitor, cpu_of
from .record import Deliveries, Run, Work
from .snapshot import take
from .timing import Endpoint, Samples, Timing, lane, timed


class Progress(Protocol):
    """Whom a run tells how far it is."""

    def phase(self, mode: str, name: str, total: float) -> None:
        """Begin a phase of ``total`` steps."""

    def step(self, steps: float = 1) -> None:
        """Count steps of the phase."""


class Measurement:
    """One host's run.

    :param run: the record that is filled.
    """

    def __init__(self, host: Host, options: Options, run: Run, progress: Progress) -> None:
        self.host, self.options, self.run, self.progress = host, options, run, progress
        self._tag = f"R{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count(1)
        self._began = time.monotonic()
        self._monitor: ProcessMonitor | None = None
        self._clients: ClientProcess | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._gap = 1.0
        self.write = options.write if options.write is not None else host.private
        run.command, run.variables, run.local_clock = host.command, harmless(host.variables), host.local
        run.began_at = time.time()

    def measure(self, *, quiet_only: bool = False) -> None:
        """Do everything; with ``quiet_only`` phases 1 to 4. An interrupt leaves in the record what there is.

        :raises HybridError: if the host is not there (any more).
        """
        try:
            self._watch()
            self._snapshot()
            with self._phase("connect", 1):
                self._connect()
            with self._phase("events", self.options.seconds):
                self._events()
            with self._phase("requests", WORK_REQUESTS):
                self._requests()
            if self._clients is not None:
                with self._phase("alone", self.options.seconds):
                    self._alone()
            if not quiet_only:
                with self._phase("stall", MAX_STALL_REQUESTS):
                    self._connect()
                    self._stall()
                self._latency()
                if self.options.control or self.host.mode == "before":
                    with self._phase("control", 30):
                        control(self._call, self.run, self.progress.step, try_it=self.host.mode == "after")
                self._snapshot()
            self.run.complete = True
        finally:
            self._stop.set()
            self._end()

    # -- phases --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        kind = "sse" if self.host.mode == "after" else detect_channel(self.host.base, self.options)
        if kind == "none":
            self.run.trouble["connect"] = ("the host has no push channel that is known here: neither Socket.IO nor a "
                                           f"WebSocket at {self.options.ws_path}")
            return
        try:
            self._clients = ClientProcess(kind, self.host.base.url, self.options.clients, tag=self._tag,
                                          headers=self.options.headers, ws_path=self.options.ws_path)
        except ClientsFailed as error:
            self.run.trouble["connect"] = error.detail
            return
        self.run.transport, self.run.opened = kind, self.options.clients

    def _events(self) -> None:
        """Cause events at the wanted rate, by requests that make the host emit."""
        per_request = self._calibrate()
        work = self.run.events
        work.wanted_rate = self.options.rate
        self._gap = per_request / self.options.rate
        with self._counting(work, self.run.quiet_delivery):
            self._cause_steadily(work, lambda seconds: seconds < self.options.seconds)

    def _cause_steadily(self, work: Work, go_on: Callable[[float], bool]) -> None:
        began = time.monotonic()
        while go_on(late := time.monotonic() - began):
            self._cause(Samples())
            work.requests += 1
            self.progress.step(time.monotonic() - began - late)
            pause = began + work.requests * self._gap - time.monotonic()
            if pause > 0:
                self.progress.step(pause)
                time.sleep(pause)

    def _alone(self) -> None:
        """Do the work of the events phase again, without any client of ours."""
        assert self._clients is not None
        self._clients.close()
        self._clients = None
        time.sleep(SETTLE_S / 10)  # the host notices that they have gone
        work, wanted = self.run.alone, self.run.events.requests
        with self._counting(work, Deliveries()):
            self._cause_steadily(work, lambda _: work.requests < wanted)

    def _calibrate(self) -> float:
        """Return how many events one causing request brings each live client."""
        if self._clients is None or not self.options.clients:
            return 1.0
        self._clients.report()
        sent, tries = 0, 5
        for _ in range(tries):
            sent += self._cause(Samples())
        seen = self._settled(sent if self.write else 0)
        return max(1.0, float(seen["events"]) / self.options.clients / tries)

    def _requests(self) -> None:
        with self._counting(self.run.requests, Deliveries()):
            began = time.monotonic()
            for _ in range(WORK_REQUESTS):
                self.run.quiet.take(lambda: self._timed(Endpoint("GET", "/health")))
                self.run.requests.requests += 1
                self.progress.step()
                if time.monotonic() - began > MAX_WORK_S:
                    break

    def _stall(self) -> None:
        """Connect the clients that do not read, and have their buffers filled."""
        if self._clients is None:
            return
        try:
            self._clients.stall(self.options.stalled)
        except ClientsFailed as error:
            self.run.trouble["stall"] = error.detail
            return
        began = time.monotonic()
        while not self.run.stall_felt and self.run.stall_requests < MAX_STALL_REQUESTS:
            with contextlib.suppress(OSError):
                self.run.stall_felt = self._timed(Endpoint("GET", "/health")).total > FELT_MS
            self.run.stall_requests += 1
            self.progress.step()
            if time.monotonic() - began > MAX_STALL_S:
                return

    def _latency(self) -> None:
        endpoints = self._endpoints()
        with self._phase("latency", self.options.requests * len(endpoints)):
            if self._clients is not None:
                self._settled(0)  # what the phase before has brought is not counted here
            lanes = []
            for endpoint in endpoints:
                samples = self.run.endpoints.setdefault(endpoint.label, Samples())
                keywords = {"pace_s": PACE_S, "stop": self._stop, "on_each": self._counted(endpoint)}
                for number in range(LANES):
                    count = (self.options.requests + number) // LANES
                    lanes.append(threading.Thread(target=lane, kwargs=keywords, daemon=True,
                                                  args=(self._maker(endpoint), samples, count)))
            wrote = self.run.facts_written
            for thread in lanes:
                thread.start()
            try:
                for thread in lanes:
                    while thread.is_alive():
                        thread.join(0.1)
            finally:
                self._stop.set()
                for thread in lanes:  # what is under way at an interrupt still has its host
                    thread.join(FELT_MS * 5 / 1000)
                self._note_deliveries(self.run.delivery, self.run.facts_written - wrote)

    def _counted(self, endpoint: Endpoint) -> Callable[[bool], None]:
        def on_each(good: bool) -> None:
            with self._lock:
                self.run.facts_written += good and endpoint == FACT
            self.progress.step()

        return on_each

    # -- means ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _phase(self, name: str, total: float) -> Iterator[None]:
        began = time.monotonic()
        self.progress.phase(self.host.mode, name, total)
        yield
        self.run.phases.append((name, time.monotonic() - began))

    @contextlib.contextmanager
    def _counting(self, work: Work, deliveries: Deliveries) -> Iterator[None]:
        """Count CPU, children's CPU and deliveries of what is done meanwhile, and of its coming to rest."""
        if self._clients is not None:
            self._clients.report()
        own, children = self._cpu()
        theirs = cpu_of(self._clients.pid) if self._clients else 0.0
        wrote, began = self.run.facts_written, time.monotonic()
        try:
            yield
        finally:
            work.seconds = time.monotonic() - began
            self._note_deliveries(deliveries, self.run.facts_written - wrote)
            now, now_children = self._cpu()
            if own is not None and now is not None:
                work.cpu_s, work.children_cpu_s = round(now - own, 3), round((now_children or 0) - (children or 0), 3)
            work.delivered = deliveries.events
            work.clients_cpu_s = round(cpu_of(self._clients.pid) - theirs, 3) if self._clients else 0.0

    def _cpu(self) -> tuple[float | None, float | None]:
        if self._monitor is None:
            return None, None
        try:
            return self._monitor.cpu(), self._monitor.children_cpu()
        except Exception:  # psutil's own: the host has ended
            return None, None

    def _note_deliveries(self, deliveries: Deliveries, facts: int) -> None:
        if self._clients is None:
            return
        began = time.monotonic()
        with contextlib.suppress(ClientsFailed):
            seen = self._settled(facts)
            deliveries.events, deliveries.names, deliveries.untimed = seen["events"], seen["names"], seen["untimed"]
            deliveries.delays_ms = seen["delays"] if self.run.local_clock else []
            deliveries.closed = seen["closed"]
            deliveries.facts_sent = facts
            deliveries.facts_missing = sum(max(0, facts - got) for got in seen["facts"])
            deliveries.waited_s = time.monotonic() - began if deliveries.facts_missing else 0.0

    def _settled(self, facts: int) -> dict[str, Any]:
        """Collect reports until every live client has all facts and nothing more comes, or the time is up.

        As long as facts are missing, or what comes is late, and something still comes, the time begins anew: slow is
        not lost, and its CPU belongs to this phase.
        """
        assert self._clients is not None
        total = self._clients.report()
        deadline = time.monotonic() + SETTLE_S
        last = time.monotonic() + MAX_SETTLE_S
        quiet = 0
        while (quiet < 3 or min(total["facts"], default=facts) < facts) and time.monotonic() < deadline:
            time.sleep(0.05)
            more = self._clients.report()
            quiet = 0 if more["events"] else quiet + 1
            late = self.run.local_clock and max(more["delays"], default=0.0) > LATE_MS
            if more["events"] and (late or min(total["facts"], default=facts) < facts):
                deadline = min(time.monotonic() + SETTLE_S, last)
            total["events"] += more["events"]
            total["untimed"] += more["untimed"]
            total["delays"] += more["delays"]
            total["closed"] = more["closed"]
            for name, count in more["names"].items():
                total["names"][name] = total["names"].get(name, 0) + count
            total["facts"] = [a + b for a, b in zip(total["facts"], more["facts"], strict=True)]
        return total

    def _cause(self, samples: Samples) -> bool:
        """Make the host emit: by storing a fact where that is allowed, else by ``/health``."""
        endpoint = FACT if self.write else Endpoint("GET", "/health")
        good = samples.take(lambda: self._timed(endpoint))
        self.run.facts_written += good and self.write
        return good

    def _endpoints(self) -> list[Endpoint]:
        """Return what is requested: what was asked for, or of the usual ones those that the host has."""
        if self.options.endpoints:
            return list(self.options.endpoints)
        found = []
        for endpoint in ENDPOINTS:
            with contextlib.suppress(OSError):
                if self._timed(endpoint).status in (404, 405, 501):
                    self.run.trouble[endpoint.label] = "the host does not have it"
                    continue
            found.append(endpoint)
        return [*found, FACT] if self.write else found

    def _maker(self, endpoint: Endpoint) -> Callable[[int], Timing]:
        return lambda number: self._timed(endpoint)

    def _timed(self, endpoint: Endpoint) -> Timing:
        return self._call(endpoint.method, endpoint.path, endpoint.filled(self._tag, next(self._numbers)))

    def _call(self, method: str, path: str, body: Any = None) -> Timing:
        return timed(self.host.base, method, path, body, self.options.headers)

    def _watch(self) -> None:
        self.run.pid, self.run.pid_missing = self.host.pid, self.host.pid_missing
        if self.host.pid is not None:
            self._monitor = ProcessMonitor(self.host.pid, self._began)
            self._monitor.start()

    def _snapshot(self) -> None:
        with contextlib.suppress(HybridError):
            self.run.snapshots.append(take(self.host.base.url, self.host.db).to_dict())

    def _end(self) -> None:
        """Collect what there is, and end what was begun."""
        self._export()
        if self._monitor is not None:
            self._monitor.close()
            self.run.series, self.run.cpu_percent = self._monitor.series.to_dict(), self._monitor.series.percent()
        if self._clients is not None:
            self._clients.close()
        for line in lag_lines(self.host.lag) if self.host.lag is not None else ():
            if isinstance(line, dict):
                self.run.sampler = line.get("sampler", self.run.sampler)
            elif line[0] >= self.run.began_at:
                self.run.sampled_lag.append((line[0] - self.run.began_at, line[1]))
        self.run.log = read_log(self.host)
        self.run.seconds = time.monotonic() - self._began

    def _export(self) -> None:
        try:
            answer = request(self.host.base, "GET", "/api/hybrid/status", headers=self.options.headers, timeout=10)
        except OSError as error:
            self.run.status_missing = f"GET /api/hybrid/status was not answered: {error}"
            return
        document = answer.json()
        if answer.status == 200 and isinstance(document, dict):
            self.run.status = document
        else:
            self.run.status_missing = (f"the host does not export it: GET /api/hybrid/status is answered with status "
                                       f"{answer.status}")
