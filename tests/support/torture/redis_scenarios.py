"""What is done to one Redis while everybody emits."""

from __future__ import annotations

import shutil
import subprocess
import sys

from support.needs import missing
from support.redis_server import RedisServer

from .accounts import Promise
from .scenario import WHOLE, scenario
from .world import LOG, META, TESTS, World

HOUR = 3600


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


@scenario(Promise(once=False))  # what a script had appended when it was stopped is sent again
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
            if right == "hset":
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
