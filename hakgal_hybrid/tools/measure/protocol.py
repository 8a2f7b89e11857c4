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
import time
import uuid
from collections.abc import Iterator

from ...errors import HybridError
from ..remote.request import request
from .governor_check import control
from .hosts import Host, harmless, lag_lines
from .live_clients import LiveClients
from .load import MAX_STALL_REQUESTS, WORK_REQUESTS, Options
from .output import read_log
from .phases import Phases, Progress
from .process_monitor import ProcessMonitor
from .record import Control, Run
from .requester import Requester
from .snapshot_taking import take


class Measurement:
    """One host's run.

    :param host: whom it is about.
    :param options: the load.
    :param run: the record that is filled.
    :param progress: shows how far it is.
    """

    def __init__(self, host: Host, options: Options, run: Run, progress: Progress) -> None:
        self.host, self.options, self.run, self.progress = host, options, run, progress
        tag = f"R{uuid.uuid4().hex[:8]}"
        self._clients = LiveClients(host, options, run, tag)
        self._requester = Requester(host, options, run, tag)
        self._began = time.monotonic()
        self._monitor: ProcessMonitor | None = None
        run.command, run.variables, run.local_clock = host.command, harmless(host.variables), host.local
        run.began_at = time.time()

    def measure(self, *, quiet_only: bool = False) -> None:
        """Do everything. An interrupt leaves in the record what there is.

        :param quiet_only: do only what needs no stalled client: phases 1 to 4.
        :raises HybridError: if the host is not there, or has ended.
        """
        try:
            self._watch()
            phases = Phases(self.options, self.run, self._requester, self._clients, self._monitor, self.progress.step)
            self._snapshot()
            with self._phase("connect", 1):
                self._clients.connect()
            with self._phase("events", self.options.seconds):
                phases.events()
            with self._phase("requests", WORK_REQUESTS):
                phases.requests()
            if self._clients.connected:
                with self._phase("alone", self.options.seconds):
                    phases.alone()
            if not quiet_only:
                self._disturbed(phases)
            self.run.complete = True
        finally:
            self._end()

    def _disturbed(self, phases: Phases) -> None:
        """Go through the phases beside stalled clients."""
        with self._phase("stall", MAX_STALL_REQUESTS):
            self._clients.connect()
            phases.stall()
        endpoints = self._requester.endpoints()
        with self._phase("latency", self.options.requests * len(endpoints)):
            phases.latency(endpoints)
        if self.options.control or self.host.mode == "before":
            with self._phase("control", 30):
                control(self._requester.call, self.run, self.progress.step, try_it=self.host.mode == "after")
        else:
            self.run.control = Control(tried=False, evidence="the governor was left alone (--no-control)")
        self._snapshot()

    @contextlib.contextmanager
    def _phase(self, name: str, total: float) -> Iterator[None]:
        began = time.monotonic()
        self.progress.phase(self.host.mode, name, total)
        yield
        self.run.phases.append((name, time.monotonic() - began))

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
