"""Soak: 500 clients that come and go, mixed events, one fault after the other, for minutes; then what has grown.

``python -m support.soak [--minutes 10] [--clients 500] [--rate 6] [--json PATH]``, which is ``make soak``. Every event
is accounted for while it runs, for every client. Between the faults, when it is quiet, the server's memory, threads and
descriptors (those of open streams not counted) are looked at: what they grow by, by linear regression over all of that
after a warm-up, must be next to nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import accounting, kept
from .accounting import Manifest, Place, Sent, blocks
from .faults import Client, Holdings
from .servers import CONTROL, EMIT, Http, Server, wait_until

#: Which part of the run only warms up; so does the first time that each fault is done, but for half of the run at most.
WARM_UP = 0.3
#: What may be gained over the run: absolute, and as a part of what there is, whichever is more.
ALLOWED = {"threads": (2.0, 0.05), "descriptors": (5.0, 0.05), "memory_mib": (12.0, 0.08)}
#: How far the server's log reaches back.
LOG_EVENTS = 100
#: How long a fault has its time, so that clients come and go meanwhile (seconds).
FAULT_S = 1.5
#: What is emitted, in turn. Clients are of the namespace ``/``; none is in a room.
EVENTS = [{"event": "fact_added"}, {"event": "kb_update"}, {"event": "fact_added", "size": 1500},
          {"event": "kb_update"}, {"event": "elsewhere", "namespace": "/x"}, {"event": "private", "to": "a room"},
          {"event": "hrm_update", "size": 100}]


# -- accounting while it runs --------------------------------------------------------------------------------------


class Tail(Manifest):
    """The manifest of one server in its only life, read as it grows.

    :ivar whole: the number up to which every event is known.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._rest = b""
        self.whole = 0

    def follow(self) -> None:
        """Read what has been added."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in map(json.loads, lines):
            if "life" in line:
                self.begin(line["life"])
                self.conflates = accounting.glob_matcher(line["conflate"])
            else:
                self._add(line["id"], line["name"], line["digest"], line["namespace"], line["target"], line["at"])
        while (0, self.whole + 1) in self._sent:
            self.whole += 1

    def between(self, after: Place, upto: Place) -> list[Sent]:
        return [self._sent[0, number] for number in range(after[1] + 1, upto[1] + 1) if (0, number) in self._sent]

    def close(self) -> None:
        self._file.close()


class Walker(Client):
    """A client whose account is kept as it reads, so that nothing of it need be remembered."""

    def __init__(self, port: int, manifest: Tail) -> None:
        super().__init__(port)
        self._manifest = manifest
        self.away_until = 0.0
        self.begin()

    def begin(self) -> None:
        """Be somebody new, who has seen nothing."""
        self.last = ""
        self.walk = accounting._Walk(self._manifest, "/", "", True, None, True)
        self.walk.account.covered = []

    def take(self) -> None:
        """Take apart what has come whole, and forget its bytes."""
        if self.stream is None:
            return
        raw = self.stream.raw
        end = raw.rfind(b"\n\n") + 2
        if end > 1:
            self._got += blocks(bytes(raw[:end]))
            del raw[:end]
        self.stream.messages.clear()

    def hang_up(self, *, reset: bool = False) -> None:
        self.take()
        stream, self.stream = self.stream, None
        if stream is not None:
            self.last = stream.id or self.last
            (stream.reset if reset else stream.close)()

    def settle(self) -> None:
        """Account for what has come, if all that may be in it is known."""
        self.take()
        places = [self._manifest.place(got.id) for got in self._got if got.id is not None]
        if all(place is None or place[1] <= self._manifest.whole for place in places):
            got, self._got = self._got, []
            for item in got:
                self.walk.step(item)


# -- what is looked at ---------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """What the server has at one quiet moment; ``at`` in seconds since the start."""

    at: float
    threads: float
    descriptors: float
    memory_mib: float


@dataclass
class Slope:
    """How something grew: by linear regression over the quiet moments after the warm-up."""

    mean: float
    per_hour: float
    over_run: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.over_run <= self.allowed


def slope_of(samples: list[Sample], name: str) -> Slope:
    """Return the slope of one figure."""
    times = [sample.at for sample in samples]
    values = [float(getattr(sample, name)) for sample in samples]
    slope = statistics.linear_regression(times, values).slope
    mean = statistics.mean(values)
    absolute, part = ALLOWED[name]
    return Slope(mean, slope * 3600, slope * (times[-1] - times[0]), max(absolute, part * mean))


@dataclass
class Outcome:
    """What a soak found.

    :ivar gaps: how many events that clients did not get were told to be missing, by reason.
    """

    seconds: float = 0.0
    clients: int = 0
    emitted: int = 0
    delivered: int = 0
    conflated: int = 0
    connections: int = 0
    emit_p95_ms: float = 0.0
    gaps: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    slopes: dict[str, Slope] = field(default_factory=dict)

    @property
    def flat(self) -> bool:
        return all(slope.flat for slope in self.slopes.values())

    def told(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {**vars(self), "flat": self.flat, "samples": [sample._asdict() for sample in self.samples],
                "slopes": {name: asdict(slope) for name, slope in self.slopes.items()}}


# -- the soak ------------------------------------------------------------------------------------------------------


class Soak:
    """One run.

    :param rate: events a second. :param churn: which part of the clients leaves within a second. A tenth of those stays
        away for longer than the log reaches back, and must be told of a gap.
    """

    def __init__(self, clients: int, rate: float, churn: float = 0.05, seed: int = 6) -> None:
        self._chance = random.Random(seed)
        self._churn, self._rate = churn, rate
        self.outcome = Outcome(clients=clients)
        self._server = Server("ours", SUPPORT_FAULTS=1, SUPPORT_IDLE_S=0.3, HYBRID_HEARTBEAT_S=5, HYBRID_RESUME_S=2,
                              HYBRID_CONNECT_RATE=1_000_000,
                              HYBRID_STALL_S=3, HYBRID_REQUEST_S=3, HYBRID_LOG_EVENTS=LOG_EVENTS, SUPPORT_NOTES=100)
        self._manifest = Tail(self._server.manifest)
        self._manifest.follow()
        self._walkers = [Walker(self._server.port, self._manifest) for _ in range(clients)]
        self._ended, self._calm = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._be_clients, daemon=True)

    def run(self, seconds: float, progress: Callable[[Sample], None] = lambda sample: None) -> Outcome:
        """Soak for so long; return what was found.

        :raises AssertionError: if any client misses an event that nothing told it of, or gets one twice.
        """
        outcome = self.outcome
        try:
            self._thread.start()
            self._wait(lambda: all(walker.connections for walker in self._walkers), "everybody to have a stream")
            self._calm.clear()
            self._server.ask("POST", "/publisher/start", {"pause_s": 1 / self._rate, "events": EVENTS})
            started = time.monotonic()
            faults = self._faults()
            while time.monotonic() < started + seconds:
                name, fault = faults[sum(outcome.faults.values()) % len(faults)]
                fault()
                self._ended.wait(FAULT_S)
                outcome.faults[name] += 1
                sample = self._look(started)
                outcome.samples.append(sample)
                progress(sample)
            self._finish()
        except BaseException:
            print(self._server.log()[-10_000:], file=sys.stderr)
            raise
        finally:
            self._ended.set()
            self._thread.join(30)
            for walker in self._walkers:
                walker.hang_up()
            self._manifest.close()
            accounting.streams.clear()
            self._server.stop()
        outcome.seconds = time.monotonic() - started
        first = min(len(faults), len(outcome.samples) // 2)
        warm = [sample for sample in outcome.samples[first:] if sample.at > WARM_UP * seconds]
        outcome.slopes = {name: slope_of(warm, name) for name in ALLOWED}
        return outcome

    def _wait(self, state: Callable[[], Any], what: str) -> None:
        wait_until(lambda: self._error or state(), 120, what)
        if self._error is not None:
            raise self._error

    def _finish(self) -> None:
        """Let everybody get the last event, and close all accounts."""
        told = self._server.ask("POST", "/publisher/stop").json()
        self.outcome.emitted, self.outcome.emit_p95_ms = int(told["newest"].partition("-")[2]), told["p95_ms"]
        self._calm.set()
        for walker in self._walkers:
            walker.away_until = 0.0
        self._wait(lambda: all(walker.last == told["newest"] for walker in self._walkers), "everybody to have it all")
        self._ended.set()
        self._thread.join(30)
        self._manifest.follow()
        assert self._manifest.whole == self.outcome.emitted
        for walker in self._walkers:
            walker.settle()
            assert not walker._got
            self._close_account(walker)
            assert not (walker.walk.sure and (walker.walk.waiting or walker.walk.carried)), "newer ones never came"
        self.outcome.connections = sum(walker.connections for walker in self._walkers)

    def _close_account(self, walker: Walker) -> None:
        account = walker.walk.account
        self.outcome.delivered += account.delivered
        self.outcome.conflated += account.conflated
        self.outcome.gaps.update(reason for _, reason in account.covered)

    # -- the clients' thread

    def _be_clients(self) -> None:
        due = time.monotonic()
        try:
            while not self._ended.is_set():
                for walker in self._walkers:
                    if walker.stream is None and walker.away_until < time.monotonic():
                        walker.connect()
                accounting.streams.clear()
                reading = {walker.stream.sock.fileno(): walker for walker in self._walkers
                           if walker.stream is not None}
                poll = select.poll() if hasattr(select, "poll") else None
                if poll is None:
                    ready = select.select(list(reading), [], [], 0.1)[0]
                else:
                    for number in reading:
                        poll.register(number, select.POLLIN)
                    ready = [number for number, _ in poll.poll(100)]
                for number in ready:
                    reading[number].read()
                if time.monotonic() > due:
                    due = time.monotonic() + 1
                    self._turn()
        except BaseException as error:  # told by the main thread
            self._error = error

    def _turn(self) -> None:
        """Once a second: account for what has come; some leave, and come back as who they were or as somebody new."""
        self._manifest.follow()
        for walker in self._walkers:
            walker.settle()
        if self._calm.is_set():
            return
        for walker in self._chance.sample(self._walkers, max(1, int(len(self._walkers) * self._churn))):
            walker.hang_up(reset=self._chance.random() < 0.5)
            if self._chance.random() < 0.1:
                walker.away_until = time.monotonic() + 1.5 * LOG_EVENTS / self._rate
            elif self._chance.random() < 0.3:
                walker.settle()
                if not walker._got:
                    self._close_account(walker)
                    walker.begin()

    # -- looking

    def _look(self, started: float) -> Sample:
        """Wait until it is quiet, and look."""
        self._calm.set()
        try:
            self._wait(self._quiet, "those who are not away to be back")
            found = Holdings.settled(self._server.process.pid, steady_s=0.5, seconds=10)
            number = sum(walker.stream is not None for walker in self._walkers)
        finally:
            self._calm.clear()
        return Sample(round(time.monotonic() - started, 1), found.threads, found.descriptors - number,
                      round(found.memory_mib, 2))

    def _quiet(self) -> bool:
        """True if the server has the streams that there are, and no others."""
        now, number = time.monotonic(), sum(walker.stream is not None for walker in self._walkers)
        back = sum(walker.away_until < now for walker in self._walkers)
        return number == back == int(self._server.status()["streams"])

    # -- faults

    def _faults(self) -> list[tuple[str, Callable[[], None]]]:
        faults = [("handlers raise", self._raise), ("handlers hold threads", self._hold), ("CPU burns", self._burn),
                  ("garbage on streams", self._talk), ("half a request", self._half), ("readers stall", self._stall),
                  ("receivers raise", self._receive), ("commands fail", self._command),
                  ("bodies too large", self._flood)]
        if hasattr(signal, "SIGSTOP"):
            faults.append(("server stopped for a second", self._pause))
        return faults

    def _raise(self) -> None:
        for _ in range(5):
            assert self._server.ask("GET", "/raise").status == 500
            assert self._server.ask("POST", EMIT, {"event": "boom", "data": None}).status == 500

    def _hold(self) -> None:
        with contextlib.ExitStack() as stack:
            for http in [stack.enter_context(Http(self._server.port)) for _ in range(8)]:
                http.request("GET", "/work?seconds=0.5")

    def _burn(self) -> None:
        with Http(self._server.port) as http:
            http.sock.settimeout(60)
            assert http.ask("GET", "/work?seconds=0.5&burn=1").status == 200

    def _talk(self) -> None:
        clients = [Client(self._server.port, "namespace=/x") for _ in range(5)]
        for client in clients:
            if client.connect() and client.stream is not None:
                with contextlib.suppress(OSError):
                    client.stream.send(b"\x00\xff" * 50_000)
                client.hang_up(reset=True)

    def _half(self) -> None:
        for _ in range(10):
            with Http(self._server.port) as http:
                http.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")

    def _stall(self) -> None:
        """Readers in a namespace of their own are given more than fits, and leave without having read it."""
        lazy = [Client(self._server.port, "namespace=/x", rcvbuf=4096) for _ in range(5)]
        for client in lazy:
            client.connect()
        self._server.emit("large", 20, size=20_000, namespace="/x")
        for client in lazy:
            client.hang_up(reset=True)

    def _receive(self) -> None:
        self._server.ask("POST", "/receiver", {"kind": "raise"})
        self._server.emit("raised", 3)
        self._server.ask("DELETE", "/receiver")

    def _command(self) -> None:
        for mode in ("explosive", "fast"):
            assert self._server.ask("POST", CONTROL, {"action": "set_mode", "mode": mode}).status in (200, 202, 500)

    def _flood(self) -> None:
        with Http(self._server.port) as http, contextlib.suppress(ConnectionError):
            http.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
            assert http.answer().status == 413

    def _pause(self) -> None:
        self._server.signal(signal.SIGSTOP)
        try:
            time.sleep(1)
        finally:
            self._server.signal(signal.SIGCONT)


# -- from the command line -----------------------------------------------------------------------------------------


def show(outcome: Outcome) -> None:
    """Print what was found."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"Soak: {outcome.clients} clients, {outcome.seconds:.0f} s")
    for name in ("", "mean", "an hour", "over the run", "allowed", ""):
        table.add_column(name, justify="left" if not name else "right")
    for name, slope in outcome.slopes.items():
        table.add_row(name, f"{slope.mean:.1f}", f"{slope.per_hour:+.1f}", f"{slope.over_run:+.2f}",
                      f"{slope.allowed:.1f}", "[green]flat[/]" if slope.flat else "[red]grows[/]")
    console.print(table)
    console.print(f"{outcome.emitted} events emitted (p95 {outcome.emit_p95_ms:.2f} ms); "
                  f"{outcome.delivered} delivered, {outcome.conflated} conflated, "
                  f"{sum(outcome.gaps.values())} told to be missing ({dict(outcome.gaps) or 'none'}), 0 unexplained; "
                  f"{outcome.connections} connections")
    console.print("faults: " + ", ".join(f"{number} times {name}" for name, number in outcome.faults.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rate", type=float, default=6.0, help="events a second")
    parser.add_argument("--json", type=Path, help="where to write all of it")
    options = parser.parse_args()
    about = kept.about(minutes=options.minutes)
    outcome = Soak(options.clients, options.rate).run(options.minutes * 60, lambda sample: print(sample, flush=True))
    show(outcome)
    if options.json is not None:
        kept.write(options.json, {"about": about, **outcome.told()})
    return 0 if outcome.flat else 1


if __name__ == "__main__":
    sys.exit(main())
