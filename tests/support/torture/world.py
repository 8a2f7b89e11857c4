"""The world of one run: its Redis servers, its processes, and the proxies between them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

from support.redis_server import RedisServer

from .accounts import Run
from .links import Link

TESTS = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
LOG, META, DESK = "{torture}:log", "{torture}:meta", "{torture}:desk"


class Member(NamedTuple):
    """A process of the run."""

    process: subprocess.Popen[bytes]
    role: str

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


class World:
    """One run of a scenario.

    :param folder: where everything is written.
    :param seed: from which what happens by chance is made.
    :param long: whether each thing is done several times.
    :param package: the folder that holds the package to be tried, if that is not the one of the tests.
    :ivar options: what every process is given.
    """

    def __init__(self, folder: Path, seed: int, *, long: bool = False, package: Path | None = None) -> None:
        self.random, self.seed, self.long = random.Random(seed), seed, long
        self.folder, self._package = folder, package or TESTS.parent
        folder.mkdir(parents=True)
        # In memory: where the disk is busy, a process that writes something down is held up for seconds.
        self.notes = Path(tempfile.mkdtemp(prefix="torture-", dir=MEMORY if MEMORY.is_dir() else folder))
        self.run = Run(self.notes)
        self.options: dict[str, Any] = {}
        self.members: dict[str, Member] = {}
        self.servers: list[RedisServer] = []
        self.links: list[Link] = []
        self._primary: RedisServer | None = None
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Note how long the machine holds up what wants to run: then what is lost may be put back too late."""
        while not self._over.is_set():
            began = time.monotonic()
            self._over.wait(0.02)
            self.run.held_up_s = max(self.run.held_up_s, time.monotonic() - began - 0.02)

    # -- what there is ---------------------------------------------------------------------------------------

    def server(self, *options: str, environ: dict[str, str] | None = None) -> RedisServer:
        """Start a Redis. The first one is the primary."""
        folder = self.folder / f"redis{len(self.servers)}"
        folder.mkdir()
        started = RedisServer(folder, "--repl-diskless-sync-delay", "0", *options, environ=environ)
        self.servers.append(started)
        self._primary = self._primary or started
        return started

    def replica(self, primary: RedisServer) -> RedisServer:
        """Start a replica that has everything."""
        started = self.server("--replicaof", "127.0.0.1", str(primary.port))
        self.until(lambda: _info(started)["master_link_status"] == "up", "the replica follows")
        return started

    @property
    def primary(self) -> RedisServer:
        """The server that has the log."""
        assert self._primary is not None
        return self._primary

    @primary.setter
    def primary(self, server: RedisServer) -> None:
        self._primary = server

    def link(self, server: RedisServer) -> Link:
        made = Link(server.port)
        self.links.append(made)
        return made

    def member(self, role: str, name: str, url: str, **more: Any) -> Member:
        """Start a process."""
        options = {"role": role, "name": name, "url": url, "folder": str(self.notes),
                   "seed": self.seed * 100 + len(self.members), **self.options, **more}
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(self._package), str(TESTS)))}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "support.torture.member", json.dumps(options)],
                                       env=environ, cwd=self.folder, stderr=log)
        self.members[name] = Member(process, role)
        return self.members[name]

    def four(self, server: RedisServer, user: str = "", **more: Any) -> list[Link]:
        """Start two processes that do everything, one that only reads, and an emitter; each with a proxy of its own."""
        links = [self.link(server) for _ in range(4)]
        roles = (("reader", "edge"), ("both", "p1"), ("both", "p2"), ("emitter", "ext"))
        for (role, name), link in zip(roles, links, strict=True):
            self.member(role, name, f"redis://{user}127.0.0.1:{link.port}/0", **more)
        self.ready("edge", "p1", "p2", "ext")
        return links

    def later(self, role: str, name: str, link: Link, **more: Any) -> Member:
        """Start a process when others have emitted already."""
        if role != "emitter":
            self.run.late.add(name)
        return self.member(role, name, f"redis://127.0.0.1:{link.port}/0", **more)

    def kill(self, name: str) -> None:
        """Kill a process."""
        self.members[name].process.kill()
        self.run.killed.add(name)

    def leave(self, name: str) -> None:
        """Have a process end of itself."""
        (self.notes / f"{name}.leave").touch()
        self.run.left.add(name)
        status = self.members[name].process.wait(40)
        assert status == 0, f"{name} has ended with {status}"

    # -- time ------------------------------------------------------------------------------------------------

    def rounds(self, count: int) -> range:
        """Return how often something is done: so many times if the run is a long one, else once."""
        return range(count if self.long else 1)

    def nap(self, least: float, most: float) -> None:
        """Wait by chance."""
        time.sleep(self.random.uniform(least, most))

    def until(self, what: Callable[[], object], why: str, seconds: float = 60.0) -> None:
        """Wait for something that must come."""
        end = time.monotonic() + seconds
        while not what():
            for name, member in self.members.items():
                if not member.alive and name not in self.run.killed | self.run.left:
                    raise AssertionError(f"{name} has ended: {(self.folder / f'{name}.log').read_text()[-2000:]}")
            if time.monotonic() > end:
                raise AssertionError(f"in vain: {why}")
            time.sleep(0.05)

    def ready(self, *names: str) -> None:
        """Wait until processes are at work."""
        for suffix in ("begun", "ready"):
            self.until(lambda suffix=suffix: all(  # type: ignore[misc]
                (self.notes / f"{name}.{suffix}").exists() for name in names), f"{names} are {suffix}", 100)
            (self.notes / "go").touch()

    def generation(self) -> int:
        """Return the generation of the log; 0 while it is not open."""
        try:
            with self.primary.client(socket_timeout=1) as client:
                generation, till, repl = client.hmget(META, "gen", "till", "repl")  # type: ignore[misc]
                now = client.info("replication")["master_replid"]
        except redis.RedisError:
            return 0
        return int(generation) if generation and till == b"0" and repl.decode() == now else 0

    def cut(self, fault: Callable[[], object]) -> None:
        """Do something that has the log lose something, and wait until it is open again."""
        before = self.generation()
        fault()
        self.until(lambda: self.generation() > before, "the log opens again")

    def flush(self) -> None:
        """Delete everything."""
        with self.primary.client() as client:
            client.flushall()

    # -- the end ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Have nobody emit any more, everything be sent, and everybody read all of it."""
        alive = {name: member for name, member in self.members.items() if member.alive}
        for member in alive.values():
            member.process.terminate()
        self.until_files(alive, "drained", 70)
        with self.primary.client() as client:
            newest = client.xrevrange(LOG, count=1)
        assert newest, "the log is empty"
        [(last, _)] = newest  # type: ignore[misc]
        (self.notes / "end.new").write_text(last.decode())
        (self.notes / "end.new").rename(self.notes / "end")
        self.until_files(alive, "end", 40)

    def until_files(self, members: dict[str, Member], suffix: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all((self.notes / f"{name}.{suffix}").exists() or not member.alive for name, member in members.items()):
                return
            time.sleep(0.05)

    def close(self) -> None:
        """End everything that was started."""
        self._over.set()
        for member in self.members.values():
            member.process.kill()  # SIGCONT or not
            member.process.wait()
        for link in self.links:
            link.close()
        for server in self.servers:
            server.kill()
        self.notes = self.run.folder = Path(shutil.move(self.notes, self.folder / "notes"))

    def said(self) -> Iterator[str]:
        """Return what processes have said before they ended badly."""
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_text(errors="replace")
            if "Traceback" in text:
                yield f"{path.stem}: {text[-1500:]}"

    def forget(self) -> None:
        """Delete what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _info(server: RedisServer) -> dict[str, Any]:
    with server.client() as client:
        return dict(client.info("replication"))
