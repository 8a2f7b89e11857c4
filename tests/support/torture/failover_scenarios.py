"""A replica takes over; and everything that happens, one upon the other."""

from __future__ import annotations

from collections.abc import Callable

from .accounts import Promise
from .links import Link
from .scenario import WHOLE, deleted, frozen, full, paused, scenario
from .world import LOG, META, World


def _fail_over(w: World, links: list[Link], *, lag: bool = False, split: str = "", fault: str = "") -> None:
    """Promote a replica that lacks the last of the log; every process comes to it at its own time."""
    old, new = w.primary, next(server for server in w.servers if server is not w.primary)
    names = ("edge", "p1", "p2", "ext")
    before = w.generation()
    with new.client() as replica:
        replica.config_set("repl-timeout", 3600)
        replica.replicaof("127.0.0.1", "1")  # cut off: it keeps what it has
        if lag:
            links[0].freeze(True)  # the first does not see what the others read now
        w.nap(0.5, 1.5)
        replica.replicaof("NO", "ONE")
    w.primary = new
    order = list(zip(names, links, strict=True))
    w.random.shuffle(order)
    if lag:  # the emitter, which has read nothing, finds the new one first
        order.sort(key=lambda one: one[0] != "ext")
    for name, link in order:
        if name != split:
            link.lead(new.port)
            w.nap(0.3 if lag and name == "ext" else 0, 0.3)
    w.until(lambda: w.generation() > before, "the log opens again")
    if split:  # one goes on with what was the primary
        w.nap(1, 2)
        links[names.index(split)].lead(new.port)
        w.nap(1, 2)
    with old.client() as deposed:
        deposed.replicaof("127.0.0.1", str(new.port))
        w.until(lambda: deposed.info("replication").get("master_link_status") == "up", "the other one follows")


@scenario(WHOLE)
def lost_tail(w: World) -> None:
    """A replica takes over without the last entries."""
    w.replica(w.server())
    links = w.four(w.primary)
    for _ in w.rounds(3):
        w.nap(0.5, 1)
        _fail_over(w, links)


@scenario(WHOLE)
def lost_tail_lag(w: World) -> None:
    """A replica takes over without the last entries, which one process has not read."""
    w.replica(w.server())
    links = w.four(w.primary)
    for _ in w.rounds(3):
        w.nap(0.5, 1)
        _fail_over(w, links, lag=True)


@scenario(Promise(whole=True, branch=True))
def split_brain(w: World) -> None:
    """A process stays with the old primary for longer than anybody waits; then everything is deleted."""
    w.replica(w.server())
    links = w.four(w.primary)
    for _ in w.rounds(3):
        w.nap(0.5, 1)
        name = w.random.choice(("p1", "p2"))
        w.run.excused.add(name)
        _fail_over(w, links, split=name)

        def flush(name: str = name) -> None:  # and that process is the one that puts everything back
            others = [w.members[other] for other in ("edge", "p1", "p2") if other != name]
            for other in others:
                other.pause()
            w.flush()
            w.nap(1, 1)
            for other in others:
                other.go_on()

        w.cut(flush)


@scenario(Promise())
def failovers(w: World) -> None:
    """Replicas take over while processes are stopped, answers are lost, and everything is deleted."""
    w.replica(w.server())
    links = w.four(w.primary)
    for _ in w.rounds(3):
        old, new = w.primary, next(server for server in w.servers if server is not w.primary)
        with new.client() as replica:
            replica.config_set("repl-timeout", 3600)
            replica.replicaof("127.0.0.1", "1")
            member = w.members[w.random.choice(("edge", "p1", "p2"))]
            member.pause()
            w.random.choice(links).swallow = 1
            w.nap(0.2, 1.5)
            killed = w.random.random() < 0.5
            if killed:
                old.kill()
            replica.replicaof("NO", "ONE")
            w.primary = new
            for link in links:
                link.lead(new.port)
            w.nap(0, 2.5)
            member.go_on()
            if w.random.random() < 0.5:
                replica.flushall()
        w.until(w.generation, "the log opens again")
        w.nap(0.5, 1.5)
        if killed:
            old.start()
        with old.client() as deposed:
            deposed.replicaof("127.0.0.1", str(new.port))
            w.until(lambda: deposed.info("replication").get("master_link_status") == "up", "it follows")


@scenario(Promise(once=False))  # where little is kept, senders send again what everybody has read and nobody has kept
def everything(w: World) -> None:
    """What comes by chance, one upon the other."""
    w.options.update(outbox_events=w.random.choice((100, 10_000)), log_events=w.random.choice((150, 10_000)))
    server = w.server("--appendonly", w.random.choice(("no", "yes")))
    links = w.four(server)
    faults: list[Callable[[], object]] = [
        lambda: (server.kill(), w.nap(0, 2), server.start()),
        lambda: (server.pause(), w.nap(0.1, 5), server.go_on()),
        w.flush,
        lambda: setattr(w.random.choice(links), "swallow", 1),
        lambda: w.random.choice(links).cut(),
        lambda: frozen(w, w.random.choice(links)),
        lambda: paused(w, w.random.choice(list(w.members))),
        lambda: deleted(w, w.random.choice((LOG, META))),
        lambda: full(w)]
    for _ in range(20 if w.long else 6):
        w.random.choice(faults)()
        w.nap(0, 1.5)
