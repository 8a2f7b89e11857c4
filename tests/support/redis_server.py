"""A Redis of the tests' own, that can be stopped, killed and started again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from .needs import missing
from .servers import wait_until


class RedisServer:
    """``redis-server`` on a free port of this machine.

    :param folder: where it keeps its files.
    :param options: its options, as on its command line.
    :param environ: its environment, besides that of the tests.
    """

    def __init__(self, folder: Path, *options: str, environ: dict[str, str] | None = None) -> None:
        if shutil.which("redis-server") is None:
            missing("redis-server is not installed (apt-get install redis-server)")
        self.port = _lasting_port()
        self._folder, self._options = folder, options
        self._environ = {**os.environ, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of it."""
        return redis.Redis(port=self.port, protocol=2, **options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, env=self._environ)
        deadline = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise
                    time.sleep(0.02)

    def _command(self) -> list[str]:
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir",
                str(self._folder), *self._options]

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it where it is; its connections stay open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on after :meth:`pause`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


def _lasting_port() -> int:
    """Return a free port that no connection is given by the system while the server is down.

    Nor is the one that a server of a cluster has besides, 10,000 above it.
    """
    while True:
        port = random.SystemRandom().randrange(12000, 22000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


class Sentinel(RedisServer):
    """A Sentinel that watches one master, and promotes a replica of it after a second without an answer."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        self._config = folder / "sentinel.conf"
        self._config.write_text(f"sentinel monitor events 127.0.0.1 {master.port} 1\n"
                                "sentinel down-after-milliseconds events 1000\n"
                                "sentinel failover-timeout events 5000\n")
        super().__init__(folder)

    @property
    def url(self) -> str:
        """The URL of the master that it watches."""
        return f"redis+sentinel://127.0.0.1:{self.port}/events/0"

    def _command(self) -> list[str]:
        return ["redis-server", str(self._config), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self._folder)]


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, Sentinel]]:
    """Start a master, a replica that has what it has, and a Sentinel that watches both; kill them in the end.

    :param folder: where they keep their files.
    """
    folders = [folder / name for name in ("master", "replica", "sentinel")]
    for made in folders:
        made.mkdir()
    master = RedisServer(folders[0])
    replica = RedisServer(folders[1], "--replicaof", "127.0.0.1", str(master.port))
    with replica.client() as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
    sentinel = Sentinel(folders[2], master)
    yield master, replica, sentinel
    for server in (sentinel, replica, master):
        server.kill()
