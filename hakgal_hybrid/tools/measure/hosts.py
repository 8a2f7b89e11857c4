"""Hosts: one that ``measure`` starts itself, in either mode, or one that runs already and is reached by its URL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, HybridError
from ..remote.request import Base, is_loopback, request, resolve
from .client_process import child_options
from .extras import need

#: What each mode of a host that we start is given: ``before`` is the rollback of the migration, ``after`` is it.
VARIABLES = {
    "before": {"APP_PROFILE": "WEBSOCKET", "ENABLE_SSE": "false", "ENABLE_CONTROL_HTTP": "false",
               "ENABLE_WS_SPECIAL": "true"},
    "after": {"APP_PROFILE": "HYBRID", "ENABLE_SSE": "true", "ENABLE_CONTROL_HTTP": "true",
              "ENABLE_WS_SPECIAL": "false",
              # All the clients have one address, and come at once.
              "HYBRID_MAX_STREAMS_PER_ADDRESS": "1000000", "HYBRID_CONNECT_RATE": "1000000"},
}
START_S = 90.0


class HostFailed(HybridError):
    """The host did not start, or does not answer."""

    code = "host_failed"
    title = "The host of the measurement failed"


@dataclass
class Host:
    """A host that answers.

    :ivar mode: ``before``, ``after`` or ``reference``.
    :ivar pid: its process, if it runs on this machine; else ``pid_missing`` says why there is none.
    :ivar log: what it prints; ``log_from`` is where this measurement begins in it.
    :ivar lag: where its sampler writes; only a host that we have started has one.
    :ivar private: its knowledge base is one of our own, so that facts may be written to it.
    """

    mode: str
    base: Base
    started: bool
    pid: int | None = None
    pid_missing: str = ""
    log: Path | None = None
    log_from: int = 0
    lag: Path | None = None
    db: Path | None = None
    private: bool = False
    command: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether its clock is ours."""
        try:
            return self.started or all(is_loopback(str(address.sockaddr[0])) for address in resolve(self.base))
        except OSError:
            return False


@dataclass(frozen=True)
class Target:
    """A host to be started: ``hakgal-hybrid run MODULE:NAME --app-dir …`` with an environment.

    :ivar sets: ``KEY=JSON`` for ``--set``.
    :ivar variables: more environment variables, for every mode; ``before``, ``reference``: for that mode only.
    :ivar db: the knowledge base to begin with; every host gets a copy of it.
    :ivar db_variable: the variable that tells the host where its knowledge base lies.
    :ivar serves_socketio: whether the host serves Socket.IO's own clients after the migration, too.
    """

    name: str
    app_dir: Path
    sets: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    reference: dict[str, str] = field(default_factory=dict)
    db: Path | None = None
    db_variable: str = "HAKGAL_DB"
    serves_socketio: bool = False

    def __post_init__(self) -> None:
        module, _, name = self.name.partition(":")
        if not module or not name:
            raise ConfigurationError.bad_value("target", self.name, "MODULE:CLASS")

    def environment(self, mode: str) -> dict[str, str]:
        """Return the variables that are set for a mode, beside those that are there already.

        :param mode: ``before``, ``after`` or ``reference``.
        """
        more = {"before": self.before, "reference": {**self.before, **self.reference}}.get(mode, {})
        if mode == "after" and self.serves_socketio:
            more = {"ENABLE_WS_SPECIAL": "true"}
        return {**VARIABLES["after" if mode == "after" else "before"], **self.variables, **more}

    def command(self, port: int) -> list[str]:
        """Return the arguments of ``hakgal-hybrid``.

        :param port: the port on which it is to listen.
        """
        sets = [item for value in self.sets for item in ("--set", value)]
        return ["run", self.name, "--app-dir", str(self.app_dir), "--host", "127.0.0.1", "--port", str(port), *sets]


@contextlib.contextmanager
def started(target: Target, mode: str, folder: Path, port: int = 0) -> Iterator[Host]:
    """Start a host and wait until it answers; end it.

    :param target: what is started.
    :param mode: ``before``, ``after`` or ``reference``.
    :param folder: where its output, the sampler's lags and its knowledge base go.
    :param port: 0 for one that is free.
    :raises HostFailed: if it does not answer in time.
    """
    port = port or free_port()
    log, lag, db = folder / f"{mode}.log", folder / f"{mode}.lag", folder / "facts.db"
    if target.db is not None and not db.exists():
        copy_database(target.db, db)
    variables = {**target.environment(mode), target.db_variable: str(db)}
    command = target.command(port)
    host = Host(mode, Base.of(f"http://127.0.0.1:{port}"), True, log=log, lag=lag, db=db, variables=variables,
                command=" ".join(["hakgal-hybrid", *map(quoted, command)]))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hakgal_hybrid.tools.measure.child", str(lag), target.name.partition(":")[0],
             *command],
            env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **child_options())
        try:
            wait_until_up(host, lambda: process.poll() is None)
            host.pid = next((line["pid"] for line in lag_lines(lag) if isinstance(line, dict) and "pid" in line), None)
            host.private = db.exists()
            yield host
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a host as an operator's supervisor would, and by force if it does not listen.

    :param process: of the host.
    """
    if process.poll() is None:
        with contextlib.suppress(OSError):
            process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def running(mode: str, url: str, *, db: Path | None = None, log: Path | None = None) -> Host:
    """Return the host that answers at ``url``.

    :param mode: ``before``, ``after`` or ``reference``.
    :param url: where it runs.
    :param db: the path of its database, if there is one.
    :param log: the file it logs to, if that can be read from here.
    :raises HostFailed: if nobody answers there.
    """
    host = Host(mode, Base.of(url), False, db=db, log=log, log_from=log.stat().st_size if log else 0, command=url)
    wait_until_up(host, lambda: True, seconds=10)
    host.pid, host.pid_missing = listener(host)
    return host


def wait_until_up(host: Host, alive: Callable[[], bool], seconds: float = START_S) -> None:
    """Wait until the host answers, whatever it answers.

    :param host: the host that is measured.
    :param alive: tells whether its process still runs.
    :param seconds: for how long, in seconds.
    :raises HostFailed: if it ended, or the time is up.
    """
    deadline = time.monotonic() + seconds
    last: OSError | None = None
    while alive() and time.monotonic() < deadline:
        try:
            request(host.base, "GET", "/health", timeout=30)
            return
        except OSError as error:
            last = error
            time.sleep(0.05)
    printed = host.log.read_text(errors="replace")[-4000:] if host.started and host.log else ""
    raise HostFailed(f"the host ({host.mode}) does not answer at {host.base.url}: {last}\n{printed}".rstrip())


def listener(host: Host) -> tuple[int | None, str]:
    """Return the process that listens where ``host`` is, or why it is not known.

    :param host: a host on this machine.
    """
    if not host.local:
        return None, f"{host.base.host} is another machine: its CPU and memory cannot be read from here"
    psutil = need("psutil", "read the CPU of the host")
    try:
        found = [connection.pid for connection in psutil.net_connections("tcp")
                 if connection.status == psutil.CONN_LISTEN and connection.laddr.port == host.base.port]
    except psutil.AccessDenied:
        return None, "listing the connections of this machine needs more rights here"
    pids = {pid for pid in found if pid is not None}
    if len(pids) == 1:
        return pids.pop(), ""
    if pids:
        return None, f"{len(pids)} processes listen on port {host.base.port}, so no one of them is the host"
    if found:
        return None, f"the process that listens on port {host.base.port} belongs to somebody else"
    return None, f"no process of this machine (or container) listens on port {host.base.port}"


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at this moment, also while its host writes to it.

    :param source: the path of the database.
    :param target: the path of the copy.
    :raises ConfigurationError: if it is none.
    """
    try:
        with (contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
              contextlib.closing(sqlite3.connect(target)) as new):
            old.backup(new)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{str(source)!r} cannot be copied as an SQLite database: {error}") from error


def lag_lines(path: Path) -> list[Any]:
    """Return what a sampler has written; a line that is not whole yet is left out.

    :param path: the file of the sampler.
    """
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def harmless(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables for showing: the value of a key or a password is left out.

    :param variables: values by name.
    """
    secret = ("KEY", "SECRET", "TOKEN", "PASSWORD")
    return {name: "..." if any(word in name.upper() for word in secret) else value for name, value in variables.items()}


def quoted(argument: str) -> str:
    """Quote an argument for showing, where a shell would need it; the value of a key or a password is left out.

    :param argument: one argument of a command line.
    """
    name, equals, value = argument.partition("=")
    argument = f"{name}={harmless({name: value})[name]}" if equals and name.isidentifier() else argument
    if argument and not set(argument) & set(" \"'$`\\;&|<>*?()"):
        return argument
    return '"' + argument.replace('"', '\\"') + '"'
