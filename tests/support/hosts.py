"""Hosts in processes of their own, and what speaks to them: HTTP, event streams, drivers that report as JSON."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from werkzeug.serving import make_server

from hakgal_hybrid.broker.sse import Decoder, Message

REPOSITORY = Path(__file__).resolve().parents[2]
SRC = REPOSITORY / "examples" / "legacy_backend" / "src_hexagonal"
#: Both vintages of the example host, each with both broadcasters.
VARIANTS = [(vintage, carrier) for vintage in ("later", "early") for carrier in ("socketio", "blocking")]
#: The console script, if it is installed beside this interpreter.
SCRIPT = shutil.which("hakgal-hybrid", path=str(Path(sys.executable).parent))
#: ``hakgal-hybrid exec --``, as the module, and as the console script where there is one.
EXEC_MODULE = [sys.executable, "-m", "hakgal_hybrid", "exec", "--"]
EXEC = [SCRIPT, "exec", "--"] if SCRIPT else EXEC_MODULE

#: The start command of measurement.md, letter by letter but for paths and ports.
START = (
    "import sys; sys.path.insert(0, r'{src}');\n"
    "from hexagonal_api_enhanced_clean import HexagonalAPI;\n"
    "api = HexagonalAPI(use_legacy=False, enable_websocket={push}, enable_governor=True, enable_sentry=False);\n"
    "{extra}api.run(host='127.0.0.1', port={port}, debug=False)"
)

_OURS = ("LEGACY_", "HAKGAL_", "HYBRID_", "ENABLE_", "APP_PROFILE", "PYTHONPATH", "PYTHONWARNINGS")


class Answer(NamedTuple):
    """What came back, and how long it took."""

    status: int
    body: Any
    headers: Any
    seconds: float


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """The environment of a host: a database of its own, clients that end with their streams, and ``extra``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    own = {"HAKGAL_DB": str(folder / "kb.db")}
    if extra.get("APP_PROFILE") != "WEBSOCKET":
        own["HYBRID_RESUME_S"] = "0"
    return {**inherited, **own, **extra}


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait for a state, with a deadline; return what made it true."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        pause.wait(0.01)
    return value


#: Ports that no system gives to a connection, or to a server that asks for any port.
_PORTS = itertools.cycle(random.SystemRandom().sample(range(10_000, 32_000), 1000))


def free_port() -> int:
    """A loopback port that nobody listens on, and that nobody else is given before the caller listens there."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


def call(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One HTTP request; an error status is an answer like any other."""
    data = None if body is None else json.dumps(body).encode()
    head = {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, head, method=method)
    started = time.perf_counter()
    try:
        response: Any = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        raw = response.read()
        seconds = time.perf_counter() - started
        is_json = response.headers.get_content_type() in ("application/json", "application/problem+json")
        return Answer(response.status, json.loads(raw) if is_json else raw, response.headers, seconds)


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def get(self, path: str, **headers: str) -> Answer:
        """A GET request."""
        return call(self.port, "GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """A POST request with a JSON body."""
        return call(self.port, "POST", path, body, headers)

    def text(self) -> str:
        """Everything the process has printed."""
        return self.log.read_text(errors="replace")

    def answers(self) -> bool:
        """Whether it answers at all; a process that has ended never will."""
        assert self.process.poll() is None, self.text()
        try:
            return bool(self.get("/health").status)
        except OSError:
            return False

    def family(self) -> set[psutil.Process]:
        """The process and its living descendants (on Windows a launcher stands between us and the host)."""
        try:
            ours = psutil.Process(self.process.pid)
            return {process for process in (ours, *ours.children(recursive=True)) if alive(process)}
        except psutil.NoSuchProcess:
            return set()

    def stop(self) -> int:
        """Ask it to end, as an operator's supervisor would; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        return self.process.wait(30)


@contextmanager
def running(folder: Path, command: list[str], port: int, *, cwd: Path | None = None, quiet: bool = True,
            **env: str) -> Iterator[Running]:
    """A server process that answers; ended, whole family, when the block ends.

    :param quiet: check that it printed no traceback.
    """
    log = folder / f"server-{port}.log"
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment(folder, **env), stdout=output, stderr=output, cwd=cwd,
                                   stdin=subprocess.DEVNULL, creationflags=flags)
    server, family = Running(process, port, log), set()
    try:
        until(server.answers, "the server answers", 60)
        yield server
        family = server.family()
        server.stop()
        assert not quiet or "Traceback" not in server.text(), server.text()
    finally:
        family |= server.family()
        process.kill()
        process.wait(10)
        for child in family:
            if alive(child):
                child.kill()
        psutil.wait_procs(family, 5)


@contextmanager
def example_host(folder: Path, *, prefix: list[str] = EXEC, push: bool = False, extra: str = "", quiet: bool = True,
                 **env: str) -> Iterator[Running]:
    """The example host, started by the unchanged start command behind ``prefix``.

    :param push: its ``enable_websocket``.
    :param extra: a statement, with its semicolon and line end, before the host is run.
    """
    port = free_port()
    python = "python" if prefix else sys.executable
    code = START.format(src=SRC, push=push, port=port, extra=extra)
    with running(folder, [*prefix, python, "-c", code], port, quiet=quiet, **env) as server:
        yield server


class Stream:
    """A client of ``/api/events/stream`` that remembers what it was told: ``(event, data)`` pairs, in order."""

    def __init__(self, port: int, query: str = "", **headers: str) -> None:
        self.events: list[tuple[str, Any]] = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/api/events/stream{query}", headers={"Accept": "text/event-stream", **headers})
        self._sock = connection.sock
        self._response = connection.getresponse()
        assert self._response.status == 200, self._response.read()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.open = self.first("hybrid_open")

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while chunk := self._response.read1(65536):
                self.events += [self._told(message) for message in decoder.feed(chunk)]
        except (OSError, ValueError, AttributeError, http.client.HTTPException):  # the test is over
            pass

    def _told(self, message: Message) -> tuple[str, Any]:
        return message.event, json.loads(message.data)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the server hung up first
            pass
        self._thread.join(30)
        self._response.close()
        self._sock.close()

    @property
    def ended(self) -> bool:
        """Whether the server has ended the stream."""
        return not self._thread.is_alive()

    def names(self) -> list[str]:
        """The names of all events so far."""
        return [name for name, _ in self.events]

    def all(self, name: str) -> list[Any]:
        """The payloads of all events of one name so far."""
        return [data for event, data in self.events if event == name]

    def first(self, name: str, having: Callable[[Any], bool] = lambda data: True) -> Any:
        """The payload of the first event of a name (for which ``having`` holds), waited for."""
        found = until(lambda: [data for data in self.all(name) if having(data)],
                      f"{name} on the stream (so far: {self.names()})")
        return found[0]


@contextmanager
def in_a_thread(server: socketserver.BaseServer) -> Iterator[int]:
    """Have a server of the standard library serve for the duration of a block; give its port."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(socketio: Any, app: Any = None, port: int = 0, **options: Any) -> Iterator[int]:
    """Run a facade's server in a thread of this process; give its port, end it with ``stop()``."""
    port = port or free_port()
    thread = threading.Thread(target=socketio.run, args=(app,), kwargs={"port": port, **options}, daemon=True)
    thread.start()
    try:
        until(lambda: listens(port), "the server listens")
        yield port
    finally:
        socketio.stop()
        thread.join(30)
        assert not thread.is_alive(), "stop() ends run()"


@contextmanager
def serving_by(server: str, socketio: Any, app: Any, port: int = 0) -> Iterator[int]:
    """Serve in a thread of this process by ``ours`` or ``werkzeug``; give the port, end it with ``stop()``."""
    if server == "ours":
        with serving(socketio, app, port) as found:
            yield found
        return
    with in_a_thread(make_server("127.0.0.1", port, app, threaded=True)) as found:
        try:
            yield found
        finally:
            socketio.stop()


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def report(folder: Path, code: str, *, options: tuple[str, ...] = (), **env: str) -> Any:
    """Run a driver in a process of its own; return the JSON document on its last line."""
    done = subprocess.run([sys.executable, *options, "-c", code], check=False, env=environment(folder, **env),
                          cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
