"""The scenarios: what is done to Redis, to connections and to processes while everybody emits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support.needs import missing
from support.redis_server import RedisServer

from .accounts import Promise
from .links import Link
from .world import DESK, LOG, META, TESTS, World


class Scenario(NamedTuple):
    """What is done, and what is promised nevertheless."""

    run: Callable[[World], object]
    promise: Promise


SCENARIOS: dict[str, Scenario] = {}
HOUR = 3600
WHOLE = Promise(whole=True)


def scenario(promise: Promise) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Have a function be a scenario."""
    def add(run: Callable[[World], None]) -> Callable[[World], None]:
        SCENARIOS[run.__name__] = Scenario(run, promise)
        return run

    return add


# -- one Redis -----------------------------------------------------------------------------------------------------


def _killed(w: World, server: RedisServer) -> None:
    w.four(server)
    for _ in w.rounds(3):
        w.nap(0.5, 2)

        def restart() -> None:
            server.kill()
            w.nap(0.2, 1.5)
            server.start()

        w.cut(restart)
        w.nap(0.5, 1)


@scenario(WHOLE)
def kill_volatile(w: World) -> None:
    """Redis is killed and has kept nothing."""
    _killed(w, w.server())


@scenario(WHOLE)
def kill_aof(w: World) -> None:
    """Redis is killed and has its file, written each second."""
    _killed(w, w.server("--appendonly", "yes"))


@scenario(WHOLE)
def kill_always(w: World) -> None:
    """Redis is killed and has its file, written each time."""
    _killed(w, w.server("--appendonly", "yes", "--appendfsync", "always"))


@scenario(WHOLE)
def stopped(w: World) -> None:
    """Redis is stopped, for less and for more than anybody waits for an answer."""
    server = w.server()
    w.four(server)
    for seconds in (1, 5, 9) if w.long else (4,):
        server.pause()
        w.nap(seconds, seconds)
        server.go_on()
        w.nap(1, 2)


@scenario(WHOLE)
def flushall(w: World) -> None:
    """Everything is deleted."""
    w.four(w.server())
    for _ in w.rounds(4):
        w.nap(0.5, 1.5)
        w.cut(w.flush)


@scenario(WHOLE)
def flush_lagging(w: World) -> None:
    """Everything is deleted that one process has not read yet: it gets it from the others."""
    w.four(w.server())
    for _ in w.rounds(3):
        w.members["edge"].pause()
        w.nap(1, 1.5)
        w.cut(w.flush)
        w.nap(0, 2)
        w.members["edge"].go_on()
        w.nap(0.5, 1)


@scenario(WHOLE)
def flush_unread(w: World) -> None:
    """Everything is deleted that nobody has read yet: its emitter has it still."""
    w.four(w.server())
    for _ in w.rounds(3):
        for name in ("edge", "p1", "p2"):
            w.members[name].pause()
        w.nap(1, 1.5)
        w.flush()
        w.nap(0, 0.3)
        for name in ("edge", "p1", "p2"):
            w.members[name].go_on()
        w.cut(lambda: None) if not w.generation() else w.nap(3, 4)


@scenario(Promise(once=False))
def delkeys(w: World) -> None:
    """Keys are deleted, and something is written by hand."""
    w.four(w.server())
    with w.primary.client() as client:
        for key in (LOG, META, "records", LOG, "foreign") if w.long else (META, "records", "foreign", LOG):
            w.nap(0.3, 1)
            if key == "records":
                client.delete(*client.keys("{torture}:q:*"))  # type: ignore[misc]
            elif key == "foreign":
                w.cut(lambda: [client.xadd(LOG, {"foreign": number}) for number in range(600)])
            else:
                w.cut(lambda key=key: client.delete(key))  # type: ignore[misc]


@scenario(WHOLE)
def foreign(w: World) -> None:
    """So much is written by hand that no answer holds all of it."""
    w.four(w.server())
    with w.primary.client() as client:
        for _ in w.rounds(3):
            w.nap(0.3, 1)

            def write() -> None:
                pipe = client.pipeline()
                for number in range(1500):
                    pipe.xadd(LOG, {"foreign": number})
                pipe.execute()

            w.cut(write)


@scenario(WHOLE)
def replies(w: World) -> None:
    """Answers that something has been appended are lost."""
    links = w.four(w.server())
    for _ in range(60 if w.long else 12):
        w.random.choice(links).swallow = w.random.choice((1, 1, 2))
        w.nap(0.05, 0.4)
        if w.random.random() < 0.2:
            w.random.choice(links).cut()


@scenario(WHOLE)
def half_open(w: World) -> None:
    """Connections stay open and pass nothing."""
    links = w.four(w.server())
    for link in links:
        link.freeze(True)
        w.nap(0.2, 5 if w.long else 1)
    w.nap(3, 3)
    for link in links:
        link.freeze(False)
    w.nap(1, 2)


@scenario(WHOLE)
def oom(w: World) -> None:
    """Redis has no memory left."""
    server = w.server()
    w.four(server)
    with server.client() as client:
        for _ in w.rounds(3):
            w.nap(0.5, 1)
            client.config_set("maxmemory", "1mb")
            w.nap(1, 3)
            client.config_set("maxmemory", 0)
    w.nap(1, 1)


@scenario(Promise(exact=True))
def trimmed(w: World) -> None:
    """A process reads later than the log reaches back; meanwhile an emitter begins of which it knows nothing."""
    w.options.update(log_events=100, rate=30)
    links = w.four(w.server())
    for number in w.rounds(3):
        w.members["edge"].pause()
        w.later("emitter", f"new{number}", links[3])
        w.ready(f"new{number}")
        w.nap(3, 4)
        w.members["edge"].go_on()
        w.nap(1, 2)


@scenario(Promise(exact=True))
def overflow(w: World) -> None:
    """Emitters have more than they can keep while Redis is away, and one of them begins with that."""
    w.options.update(outbox_events=60, rate=30)
    server = w.server()
    links = w.four(server)
    for number in w.rounds(2):
        def away(number: int = number) -> None:
            server.kill()
            w.later("emitter", f"new{number}", links[3])
            w.until(lambda: _length(w.notes / f"new{number}.emitted") > 300, "it emits")
            server.start()

        w.cut(away)
        w.nap(0.5, 1)


def _length(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@scenario(Promise(acknowledged=True))
def sender_killed(w: World) -> None:
    """Emitters are killed, with and without what Redis has not taken yet."""
    server = w.server()
    links = w.four(server)
    for number in range(4 if w.long else 2):
        names = [name for name, member in w.members.items() if member.alive and member.role != "reader"]
        name = w.random.choice(names)
        if number % 2:
            server.pause()
            w.nap(0.5, 1)
        w.kill(name)
        server.go_on()
        role = w.members[name].role
        w.later(role, f"n{number}{name}", links[3])
        w.ready(f"n{number}{name}")
        w.nap(0.5, 1.5)


@scenario(Promise())
def sender_killed_flush(w: World) -> None:
    """An emitter is killed, and everything is deleted."""
    w.four(w.server())
    w.nap(0.5, 1.5)
    w.kill(w.random.choice(("ext", "p1")))
    w.cut(w.flush)


@scenario(WHOLE)
def twins(w: World) -> None:
    """Several emitters go by one name."""
    links = w.four(w.server())
    for number in range(3):
        w.later("twin", f"twin{number}", links[3])
        w.nap(0, 1)
    w.ready("twin0", "twin1", "twin2")
    w.nap(0.5, 1)
    w.cut(w.flush)
    w.nap(0.5, 1)


@scenario(WHOLE)
def two_apps(w: World) -> None:
    """Another app has the same name: it is refused, and disturbs nobody."""
    links = w.four(w.server())
    w.later("both", "intruder", links[3], app="another")
    w.until(lambda: _length(w.notes / "intruder.emitted") > 20, "it emits")
    w.nap(1, 2)
    assert not _length(w.notes / "intruder.read"), "it is given the events of the first"
    w.kill("intruder")


@scenario(WHOLE)
def clock(w: World) -> None:
    """The clock of Redis' machine jumps an hour back, two days on, and back again."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        missing("a clock that jumps needs LD_PRELOAD and a C compiler")
    library, jump = w.folder / "clock.so", w.folder / "jump"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(TESTS / "faults" / "clock.c"), "-ldl"],
                   check=True, capture_output=True)

    def shift(seconds: int) -> None:
        with jump.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    jump.write_bytes(bytes(8))
    server = w.server(environ={"LD_PRELOAD": str(library), "CLOCK_JUMP": str(jump)})
    w.four(server)
    for seconds in (-HOUR, 48 * HOUR, 0) if w.long else (-HOUR,):
        shift(seconds)
        w.nap(0.5, 1)

        def flush_and_jump(seconds: int = seconds) -> None:
            w.flush()
            w.nap(0.7, 1)
            shift(seconds - HOUR)  # while it settles

        w.cut(flush_and_jump)
        w.nap(0.5, 1)

        def restart() -> None:
            server.kill()
            server.start()

        w.cut(restart)
        w.nap(0.3, 0.6)


@scenario(Promise())
def acl(w: World) -> None:
    """Rights are taken away, also in the middle of a script, and given back."""
    server = w.server()
    rights = ("+ping +hello +client|setname +select +auth +info +time +exists +eval +evalsha +xadd +xread +xrange "
              "+xrevrange +xtrim +hset +hmget +hincrby +get +set +pexpire")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "hy", "on", ">pw", "resetkeys", "~{torture}:*", "resetchannels",
                               "-@all", *rights.split())
        w.four(server, "hy:pw@")
        for right in ("hset", "set", "xadd") if w.long else ("hset",):
            w.nap(0.3, 0.6)
            client.execute_command("ACL", "SETUSER", "hy", "-" + right)
            w.nap(0.3, 0.6)
            client.execute_command("ACL", "SETUSER", "hy", "+" + right)
            if right != "xadd":
                before = w.generation()
                w.until(lambda before=before: w.generation() > before, "opens above what was written", 50)  # type: ignore[misc]


@scenario(WHOLE)
def cluster_node(w: World) -> None:
    """The log is in a cluster (of one node), which is flushed, and restarted."""
    server = w.server("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        w.until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), "the cluster is there")
    url = f"redis+cluster://127.0.0.1:{server.port}"
    for role, name in (("reader", "edge"), ("both", "p1"), ("both", "p2"), ("emitter", "ext")):
        w.member(role, name, url)
    w.ready("edge", "p1", "p2", "ext")
    for _ in w.rounds(2):
        w.nap(0.5, 1)
        w.cut(w.flush)
        w.nap(0.5, 1)

        def restart() -> None:
            server.kill()
            w.nap(0.2, 1)
            server.start()

        w.cut(restart)
        w.nap(0.5, 1)


@scenario(Promise())
def claims(w: World) -> None:
    """Commands are given while everything is deleted, executors are stopped and killed, and Redis is restarted."""
    server = w.server()
    links = [w.link(server) for _ in range(4)]
    names = ("runs0", "runs1", "runs2", "asks")
    for name, link in zip(names, links, strict=True):
        w.member("host", name, f"redis://127.0.0.1:{link.port}/0", rate=4)
    w.ready(*names)
    faults: list[Callable[[], object]] = [
        w.flush, lambda: _deleted(w, DESK), lambda: (server.kill(), server.start()),
        lambda: _paused(w, w.random.choice(names[:3])), lambda: setattr(w.random.choice(links), "swallow", 2),
        lambda: w.random.choice(links).cut(), lambda: w.members["runs0"].alive and w.kill("runs0")]
    w.random.shuffle(faults)
    for fault in [*faults, *faults] if w.long else faults:
        fault()
        w.nap(0.2, 1.5)


# -- a replica takes over ------------------------------------------------------------------------------------------


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
    for name, link in zip(names, links, strict=True):
        if name != split:
            link.lead(new.port)
            w.nap(0, 0.25)
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
    w.cut(w.flush)


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
            w.until(lambda: deposed.info("replication").get("master_link_status") == "up", "it follows")  # noqa: B023


@scenario(Promise())
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
        lambda: _frozen(w, w.random.choice(links)),
        lambda: _paused(w, w.random.choice(list(w.members))),
        lambda: _deleted(w, w.random.choice((LOG, META))),
        lambda: _full(w)]
    for _ in range(20 if w.long else 6):
        w.random.choice(faults)()
        w.nap(0, 1.5)


def _frozen(w: World, link: Link) -> None:
    link.freeze(True)
    w.nap(0.5, 4)
    link.freeze(False)


def _paused(w: World, name: str) -> None:
    w.members[name].pause()
    w.nap(0.1, 4)
    w.members[name].go_on()


def _deleted(w: World, key: str) -> None:
    with w.primary.client() as client:
        client.delete(key)


def _full(w: World) -> None:
    with w.primary.client() as client:
        client.config_set("maxmemory", "1mb")
        w.nap(0.1, 2)
        client.config_set("maxmemory", 0)
