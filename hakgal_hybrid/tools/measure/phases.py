"""The phases of a run, each as the protocol has it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from .live_clients import LiveClients
from .load import (
    FELT_MS,
    MAX_STALL_REQUESTS,
    MAX_STALL_S,
    MAX_WORK_S,
    PACE_S,
    PARALLEL,
    SETTLE_S,
    WORK_REQUESTS,
    Options,
)
from .process_monitor import ProcessMonitor
from .record import Deliveries, Run, Work
from .requester import HEALTH, Requester
from .timing import Endpoint, Samples, request_repeatedly


class Progress(Protocol):
    """What shows how far a run is."""

    def phase(self, mode: str, name: str, total: float) -> None:
        """Begin a phase of ``total`` steps.

        :param mode: ``before``, ``after`` or ``reference``.
        :param name: its name.
        :param total: how many steps it has.
        """

    def step(self, steps: float = 1) -> None:
        """Count steps of the phase.

        :param steps: how many.
        """


class Phases:
    """What is done to a host in each phase.

    :param options: the load.
    :param run: the record that is filled.
    :param requester: makes the requests.
    :param clients: live and stalled clients.
    :param monitor: watches the host's process, where it is known.
    :param step: called for each step of a phase, with the number of steps if it is not one.
    """

    def __init__(self, options: Options, run: Run, requester: Requester, clients: LiveClients,
                 monitor: ProcessMonitor | None, step: Callable[..., None]) -> None:
        self.options, self.run, self.requester, self.clients = options, run, requester, clients
        self._monitor, self._step = monitor, step
        self._gap = 1.0

    def events(self) -> None:
        """Cause events at the wanted rate, by requests that make the host emit."""
        per_request = self._calibrate()
        work = self.run.events
        work.wanted_rate = self.options.rate
        self._gap = per_request / self.options.rate
        with self._counting(work, self.run.quiet_delivery):
            self._cause_steadily(work, lambda seconds: seconds < self.options.seconds)

    def _calibrate(self) -> float:
        """Return how many events one causing request brings each live client."""
        if not self.clients.connected or not self.options.clients:
            return 1.0
        self.clients.forget()
        tries = 5
        sent = sum(self.requester.cause() for _ in range(tries))
        seen = self.clients.settled(sent if self.requester.write else 0)
        return max(1.0, float(seen["events"]) / self.options.clients / tries)

    def _cause_steadily(self, work: Work, go_on: Callable[[float], bool]) -> None:
        began = time.monotonic()
        while go_on(late := time.monotonic() - began):
            self.requester.cause()
            work.requests += 1
            self._step(time.monotonic() - began - late)
            pause = began + work.requests * self._gap - time.monotonic()
            if pause > 0:
                self._step(pause)
                time.sleep(pause)

    def requests(self) -> None:
        """Request ``/health`` one time after the other."""
        with self._counting(self.run.requests, Deliveries()):
            began = time.monotonic()
            for _ in range(WORK_REQUESTS):
                self.run.quiet.take(lambda: self.requester.timed(HEALTH))
                self.run.requests.requests += 1
                self._step()
                if time.monotonic() - began > MAX_WORK_S:
                    break

    def alone(self) -> None:
        """Do the work of the events phase again, without any client of ours."""
        self.clients.close()
        time.sleep(SETTLE_S / 10)  # the host notices that they have gone
        work, wanted = self.run.alone, self.run.events.requests
        with self._counting(work, Deliveries()):
            self._cause_steadily(work, lambda _: work.requests < wanted)

    def stall(self) -> None:
        """Connect the clients that do not read, and have their buffers filled."""
        if not self.clients.stall():
            return
        began = time.monotonic()
        while not self.run.stall_felt and self.run.stall_requests < MAX_STALL_REQUESTS:
            with contextlib.suppress(OSError):
                self.run.stall_felt = self.requester.timed(HEALTH).total > FELT_MS
            self.run.stall_requests += 1
            self._step()
            if time.monotonic() - began > MAX_STALL_S:
                return

    def latency(self, endpoints: list[Endpoint]) -> None:
        """Request every endpoint, side by side.

        :param endpoints: what is requested.
        """
        if self.clients.connected:
            self.clients.settled(0)  # what the phase before has brought is not counted here
        stop = threading.Event()
        threads = [self._requesting_thread(endpoint, number, stop)
                   for endpoint in endpoints for number in range(PARALLEL)]
        wrote = self.run.facts_written
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
        finally:
            stop.set()
            for thread in threads:  # what is under way at an interrupt still has its host
                thread.join(FELT_MS * 5 / 1000)
            self.clients.note(self.run.delivery, self.run.facts_written - wrote)

    def _requesting_thread(self, endpoint: Endpoint, number: int, stop: threading.Event) -> threading.Thread:
        def on_each(good: bool) -> None:
            self.requester.count(endpoint, good)
            self._step()

        samples = self.run.endpoints.setdefault(endpoint.label, Samples())
        return threading.Thread(target=request_repeatedly, daemon=True, args=(
            lambda _: self.requester.timed(endpoint), samples, (self.options.requests + number) // PARALLEL),
            kwargs={"pace_s": PACE_S, "stop": stop, "on_each": on_each})

    @contextlib.contextmanager
    def _counting(self, work: Work, deliveries: Deliveries) -> Iterator[None]:
        """Count CPU, children's CPU and deliveries of what is done meanwhile, and of its coming to rest."""
        self.clients.forget()
        own, children = self._cpu()
        theirs = self.clients.cpu()
        wrote, began = self.run.facts_written, time.monotonic()
        try:
            yield
        finally:
            work.seconds = time.monotonic() - began
            self.clients.note(deliveries, self.run.facts_written - wrote)
            now, now_children = self._cpu()
            if own is not None and now is not None:
                work.cpu_s, work.children_cpu_s = round(now - own, 3), round((now_children or 0) - (children or 0), 3)
            work.delivered = deliveries.events
            work.clients_cpu_s = round(self.clients.cpu() - theirs, 3)

    def _cpu(self) -> tuple[float | None, float | None]:
        if self._monitor is None:
            return None, None
        try:
            return self._monitor.cpu(), self._monitor.children_cpu()
        except Exception:  # psutil's own: the host has ended
            return None, None
