"""Scenes of several processes that share a log in Redis, under load, to which a fault is done.

While a scene lasts, an :class:`.Emitter` and a thread of each host emit, and witnesses read the streams of all
processes. Afterwards everything is accounted for twice: what clients got against what the processes have read, and what
the processes have read against what was emitted.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hakgal_hybrid.monitoring.histogram import percentile

from .accounting import Account, Manifest, digest
from .faults import ANSWER_MS, EMIT_MS, FULL, Asker, Row, allow_files
from .redis_server import RedisServer
from .servers import STATUS, Server, wait_until
from .shared_members import Edge, Member, Pace
from .witnesses import Witnesses

#: How many clients there are, and how many events a second, where nothing else is said.
CLIENTS, RATE = (2000, 200) if FULL else (60, 100)
#: For how long something is stopped, and how long a scene goes on after a fault, in seconds.
STOPPED_S, AFTER_S = (9.0, 4.0) if FULL else (2.5, 1.5)
#: What the processes of these scenes have.
SETTINGS: dict[str, Any] = {"SUPPORT_FAULTS": 1, "HYBRID_MAX_STREAMS_PER_ADDRESS": 20_000,
                            "HYBRID_CONNECT_RATE": 1_000_000, "HYBRID_BACKPLANE_NAME": "faults"}


@dataclass
class Shared:
    """Hosts and edges with one log, under load.

    :ivar dropped: true if emitters may drop events, of which clients are told.
    :ivar absent: how many events have never come to any process.
    :ivar silences: by what was done, the longest time for which any client got nothing (s).
    """

    redis: RedisServer
    hosts: list[Member]
    edges: list[Member]
    witnesses: Witnesses
    pace: Pace
    row: Row
    manifest: Path
    rate: float
    asker: Asker
    dropped: bool
    published: Counter[str] = field(default_factory=Counter)
    silences: dict[str, float] = field(default_factory=dict)
    accounts: list[Account] = field(default_factory=list)
    absent: int = 0

    def publish(self, host: Member) -> None:
        """Have a host emit, under a name of its own for each of its lives."""
        name = f"{host.name}.{host.lives}"
        self.published[name] = -1  # not known while it has not said so
        answer = host.server.ask("POST", "/publisher/start", {
            "pause_s": 2 * len(self.hosts) / self.rate, "events": [{"event": name}]})
        assert answer.status == 200, answer

    def begin(self) -> None:
        """Begin the load, once the log takes events: half of them come from outside, half from the hosts."""
        self.witnesses.wait_for(self.newest())
        self.pace.start()
        for host in self.hosts:
            self.publish(host)
        time.sleep(1)
        self.witnesses.calm()

    def quiet(self) -> str:
        """Have nobody emit, until everybody has everything; return the newest id."""
        self.pace.stop()
        for host in self.hosts:
            told = host.server.ask("POST", "/publisher/stop").json()
            self.published[f"{host.name}.{host.lives}"] = told["emits"]
        newest = self.newest()
        self.witnesses.wait_for(newest)
        return newest

    def newest(self) -> str:
        """Return the id of the newest event, once everything is sent."""
        for host in self.hosts:
            wait_until(lambda host=host: not host.server.status()["backplane"]["sender"]["outbox"]["events"], 60,
                       "the outbox to be empty")
        assert self.pace.emitter.flush(60)
        self.pace.emit()
        assert self.pace.emitter.flush(60)
        with self.redis.client() as client:
            entries = client.xrevrange("{faults}:log", count=100)  # what processes have each other do is no event
        return str(next(at.decode() for at, fields in entries if fields.get(b"p", b"").startswith(b"e")))

    def after(self, what: str, seconds: float = AFTER_S) -> None:
        """Let the load go on after a fault, and note for how long any client was without an event."""
        time.sleep(seconds)
        self.silences[what] = self.witnesses.calm()["silence_ms"] / 1000

    def kill(self, member: Member, away_s: float = 1.0) -> None:
        """Kill a process, and start it again a moment later."""
        member.kill()
        time.sleep(away_s)
        member.start()
        if member in self.hosts:
            self.publish(member)
        self.after(member.name)

    def stop_for(self, member: Member | RedisServer, name: str, seconds: float = STOPPED_S) -> None:
        """Stop something for a while, and let it go on."""
        member.pause()
        try:
            time.sleep(seconds)
        finally:
            member.go_on()
        self.after(name)

    def settle(self) -> None:
        """End the load and account for everything."""
        for host in self.hosts:
            told = host.server.ask("POST", "/publisher/stop").json()
            self.published[f"{host.name}.{host.lives}"] = told["emits"]
            self.pace.took.append(told["p95_ms"])
        self.pace.stop()
        self.asker.stop()
        newest = self.newest()
        stand = self.witnesses.wait_for(newest)
        self.published["tick"] = self.pace.number
        manifest = self.read(newest)
        for account in self.witnesses.account(manifest, newest):
            self.accounts.append(account)
            self.row.delivered += account.delivered
            self.row.missing += len(account.covered)
        self.compare(manifest)
        self.row.missing += self.absent * len(self.accounts)
        self.row.owed = self.row.delivered + self.row.missing  # whatever else was owed is an AssertionError
        self._tell(stand, manifest)

    def read(self, newest: str) -> Manifest:
        """Return what the processes have read, once all of it is written."""
        def known() -> bool:
            return newest.encode() in self.manifest.read_bytes()[-4096:]
        wait_until(known, 30, "a host to have read everything")
        return Manifest.read(self.manifest)

    def compare(self, manifest: Manifest) -> None:
        """Fail if an event of an emitter that lives is nowhere, unless it was dropped and every client was told."""
        read: dict[str, set[int]] = {name: set() for name in self.published}
        for sent in manifest.sent:
            if sent.name in read:
                read[sent.name].add(sent.digest)
        for name, number in self.published.items():
            if number < 0:  # killed: what it sent last may be missing, nothing before that
                number = len(read[name])
            padding = {} if name == "tick" else {"padding": ""}
            due = {digest(json.dumps({"i": i, **padding}, separators=(",", ":"))) for i in range(number)}
            assert read[name] <= due
            assert self.dropped or read[name] == due, f"{name}: {len(due - read[name])} of {number} have never arrived"
            self.absent += len(due - read[name])
        holes = self.hosts[0].server.status()["backplane"]["tail"]["holes"]
        assert holes["lost"] == self.absent, f"{self.absent} events are lost, the status says {holes}"
        if self.absent:
            assert all(account.unknown for account in self.accounts), "somebody was not told"

    def _tell(self, stand: dict[str, Any], manifest: Manifest) -> None:
        row, took = self.row, sorted(self.asker.took)
        row.served, row.refused, row.failed = len(took), self.asker.refused, self.asker.failed
        row.p95_ms = percentile(took, 0.95) or 0.0
        row.emits = len(manifest.sent) + self.absent
        row.emit_p95_ms = percentile(sorted(self.pace.took), 0.95) or 0.0
        silences = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.silences.items())
        row.note = "; ".join(filter(None, (row.note, f"{stand['connections']} connections", silences and
                                           f"longest without an event, s: {silences}")))

    def judge(self) -> None:
        """Fail if anybody had to wait."""
        row = self.row
        assert row.delivered > 0
        assert row.p95_ms < ANSWER_MS, row
        assert row.emit_p95_ms < EMIT_MS, row


@contextlib.contextmanager
def shared_scene(tell: Callable[[dict[str, Any]], object], folder: Path, fault: str, up: str, *, hosts: int = 2,
                 edges: int = 0, clients: int = CLIENTS, rate: float = RATE, redis: RedisServer | None = None,
                 url: str | None = None, kind: str = "ours", options: tuple[str, ...] = (), dropped: bool = False,
                 **settings: Any) -> Iterator[Shared]:
    """Have several processes under load; at the end account for everything, tell the row and judge it.

    :param fault: its name in the table. :param up: what must stay up, as the table says it.
    :param clients: how many. :param rate: events a second.
    :param redis: a Redis with options of its own. :param url: where processes find it, if not at its own URL.
    :param dropped: true if emitters may drop events, of which clients are told.
    """
    allow_files(3 * clients + 1000)
    redis = redis or RedisServer(folder)
    manifest = folder / "manifest"
    env = {**SETTINGS, "SUPPORT_MANIFEST": manifest, "HYBRID_BACKPLANE": url or redis.url, **settings}
    with contextlib.ExitStack() as stack:
        stack.callback(redis.kill)
        witnesses = Witnesses(folder)
        stack.callback(witnesses.stop)
        members: list[Member] = []

        def ended() -> None:
            for member in members:
                member.go_on()
                member.server.stop()
        stack.callback(ended)

        def host(port: int) -> Server:
            place = ("--port", str(port)) if kind == "ours" else ("--timeout", "60")
            return Server(kind, *place, *options, **env)

        def edge(port: int) -> Server:
            return Edge("edge", "--port", str(port), **env)

        for number in range(hosts):
            members.append(Member(f"host {number + 1}", host))
        for number in range(edges):
            members.append(Member(f"edge {number + 1}", edge))
        pace = Pace(url or redis.url, rate / 2)
        stack.callback(pace.stop)
        found = Shared(redis, members[:hosts], members[hosts:], witnesses, pace, Row(fault, up), manifest, rate,
                       Asker(members[0].server, ("/health", STATUS)), dropped)
        stack.callback(found.asker.stop)
        try:
            witnesses.connect(clients, [member.port for member in members])
            found.begin()
            yield found
            found.settle()
            tell(asdict(found.row))
            found.judge()
        except BaseException:
            for member in members:
                print(f"-- {member.name} --\n{member.server.log()[-10_000:]}")
            raise
