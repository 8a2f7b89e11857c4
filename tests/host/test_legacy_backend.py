"""The example of a legacy host, by itself: real processes, real sockets, nothing wrapped."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import websocket
from support.socketio_clients import client

SRC = Path(__file__).resolve().parents[2] / "examples" / "legacy_backend" / "src_hexagonal"
FACTS = 3776
DB_BYTES = 354_607
NEW_FACT = "IsA(Platypus, Monotreme)."
START = """
import os, sys; sys.path.insert(0, {src!r}); print("pid", os.getpid(), flush=True)
from hexagonal_api_enhanced_clean import HexagonalAPI
api = HexagonalAPI(use_legacy=False, enable_websocket={push}, enable_governor=True, enable_sentry=False)
api.run(host="127.0.0.1", port={port}, debug=False)
"""


class Answer(NamedTuple):
    """What came back, and how long it took."""

    status: int
    body: Any
    headers: Any
    seconds: float


class Backend:
    """One running backend and how to speak to it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, vintage: str, log: Path) -> None:
        self.process = process
        self.port = port
        self.vintage = vintage
        self.log = log

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One HTTP request; an error status is an answer like any other."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        started = time.perf_counter()
        try:
            response = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            raw = response.read()
            seconds = time.perf_counter() - started
            is_json = response.headers.get_content_type() == "application/json"
            return Answer(response.status, json.loads(raw) if is_json else raw, response.headers, seconds)

    def get(self, path: str) -> Answer:
        """A GET request."""
        return self.call("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """A POST request with a JSON body."""
        return self.call("POST", path, {} if body is None else body, **headers)

    def children(self) -> list[psutil.Process]:
        """Its child processes; its own pid as it says, for on Windows a venv starts a launcher first."""
        pid = re.search(r"^pid (\d+)", self.log.read_text(errors="replace"), re.MULTILINE)
        assert pid is not None
        return psutil.Process(int(pid[1])).children()

    def answers(self) -> bool:
        """Whether it is ready; a backend that has ended never will be."""
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        try:
            return self.get("/health").status == 200
        except OSError:
            return False


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait for a state, with a deadline; return what made it true."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        pause.wait(0.02)
    return value


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def backend_process(folder: Path, push: bool = True, **env: str) -> Iterator[Backend]:
    """A backend in a process of its own with a fresh database; ended when the block ends."""
    port, log = free_port(), folder / "backend.log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LEGACY_", "HAKGAL_"))}
    environment = {**inherited, "HAKGAL_DB": str(folder / "kb.db"), **env}
    command = [sys.executable, "-c", START.format(src=str(SRC), push=push, port=port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        backend = Backend(process, port, env.get("LEGACY_VINTAGE", "later"), log)
        until(backend.answers, "the backend is ready", 20)
        yield backend
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module", params=["later", "early"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend of each vintage, with Flask-SocketIO, shared by the tests of this module."""
    with backend_process(tmp_path_factory.mktemp(request.param), LEGACY_VINTAGE=request.param) as running:
        yield running


class Dashboard:
    """A Socket.IO client that remembers what it was told."""

    def __init__(self, backend: Backend, transport: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.client = client()
        self.client.on("*", lambda event, data=None: self.events.append((event, data)))
        self.client.connect(f"http://127.0.0.1:{backend.port}", transports=[transport])

    def first(self, event: str) -> Any:
        """The first payload of an event, waited for."""
        self.has(event)
        return next(data for name, data in self.events if name == event)

    def has(self, event: str) -> None:
        """Wait for an event."""
        until(lambda: any(name == event for name, _ in self.events), f"the event {event}")

    def ask(self, event: str, data: Any, answer: str) -> Any:
        """Emit an event and wait for the answer to it."""
        self.events = [entry for entry in self.events if entry[0] != answer]
        self.client.emit(event, data)
        return self.first(answer)


@contextmanager
def dashboard(backend: Backend, transport: str = "polling") -> Iterator[Dashboard]:
    """A connected dashboard."""
    board = Dashboard(backend, transport)
    try:
        board.has("connection_status")
        yield board
    finally:
        board.client.disconnect()


def test_health_names_the_host(backend: Backend) -> None:
    """`/health` says what the contract promises, from either vintage, and says it quickly."""
    answer = backend.get("/health")
    assert answer.status == 200
    assert answer.body["status"] == "operational"
    assert set(answer.body) == {"status", "architecture", "port", "repository"}
    assert answer.body["port"] == backend.port
    assert min(backend.get("/health").seconds for _ in range(5)) < 0.5


def test_fresh_database_holds_the_seeded_facts(tmp_path: Path) -> None:
    """Two processes that meet an absent database leave 3,776 facts and a file of the original size."""
    database = tmp_path / "new" / "kb.db"
    code = "import sys; from pathlib import Path; from adapters.fact_repository import FactRepository as R;"
    code += "print(R(Path(sys.argv[1])).count())"
    command = [sys.executable, "-c", code, str(database)]
    processes = [subprocess.Popen(command, cwd=SRC, stdout=subprocess.PIPE) for _ in range(2)]
    assert [int(process.communicate(timeout=20)[0]) for process in processes] == [FACTS, FACTS]
    connection = sqlite3.connect(database)
    statements = {row[0] for row in connection.execute("SELECT statement FROM facts")}
    connection.close()
    assert len(statements) == FACTS
    assert all(re.fullmatch(r"[A-Z]\w+\(\w+, \w+\)\.", statement) for statement in statements)
    assert abs(database.stat().st_size - DB_BYTES) < DB_BYTES * 0.1


def test_facts_are_listed_counted_and_found(backend: Backend) -> None:
    """Reading routes answer from the seeded knowledge base."""
    assert backend.get("/api/facts/count").body["count"] == FACTS
    assert backend.get("/api/facts/count").body["cached"] is True
    assert len(backend.get("/api/facts?limit=7").body["facts"]) == 7
    found = backend.post("/api/search", {"query": "OrbitsAround(Earth"}).body
    assert [result["statement"] for result in found["results"]] == ["OrbitsAround(Earth, Sun)."]
    assert backend.post("/api/reason", {"query": "OrbitsAround(Earth, Sun)."}).body["confidence"] == 1.0


def test_a_fact_is_stored_once(backend: Backend) -> None:
    """A new fact is created, a known one conflicts, anything else is refused."""
    bodies = [
        {"statement": NEW_FACT},
        {"statement": NEW_FACT},
        {"statement": "Platypus"},
        {"statement": 7},
        [],
    ]
    assert [backend.post("/api/facts", body).status for body in bodies] == [201, 409, 422, 400, 400]


def test_every_origin_may_read_and_the_catch_all_turns_404_into_405(backend: Backend) -> None:
    """CORS headers are on every response, and the catch-all for OPTIONS owns every path."""
    preflight = backend.call("OPTIONS", "/no/such/path")
    unknown = backend.get("/no/such/path")
    assert (preflight.status, unknown.status) == (204, 405)
    for answer in (preflight, unknown, backend.get("/health")):
        assert answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]


def test_a_socketio_client_hears_of_a_new_fact(backend: Backend) -> None:
    """One stored fact makes three events, and the request itself a fourth of 2 to 4 KB."""
    transport = "websocket" if backend.vintage == "later" else "polling"
    with dashboard(backend, transport) as board:
        statement = f"IsA(Echidna, {backend.vintage.title()}Monotreme)."
        assert backend.post("/api/facts", {"statement": statement}).status == 201
        fact = board.first("fact_added")
        assert (fact["statement"], fact["success"]) == (statement, True)
        assert board.first("kb_update")["fact_count"] == board.first("kb_metrics")["fact_count"] > FACTS
        assert 2_000 <= len(json.dumps(board.first("system_status_update"), separators=(",", ":"))) <= 4_096
        assert backend.get("/api/status").body["websocket"]["connected_clients"] == 1
    until(lambda: backend.get("/api/status").body["websocket"]["connected_clients"] == 0, "it is forgotten")


def test_socket_handlers_answer_their_caller(backend: Backend) -> None:
    """What a dashboard may ask for comes back to it."""
    with dashboard(backend) as board:
        assert len(board.ask("request_initial_data", None, "initial_data")["facts"]) == 20
        assert board.ask("kb_metrics_request", {}, "kb_metrics")["size_bytes"] > 0
        status = board.ask("request_status", {}, "system_status")
        assert status["vintage"] == backend.vintage, "the handler registered last must win"
        assert "success_rate" in board.ask("governor_status_request", {}, "governor_update")
        query = {"query": "OrbitsAround(Io, Jupiter)."}
        assert board.ask("reasoning_request", query, "reasoning_result")["confidence"] == 1.0
        assert board.first("reasoning_complete")["query"] == query["query"]


def test_the_governor_runs_a_real_child_process(backend: Backend) -> None:
    """Start gives the backend a living child, stop takes it away, and the early status breaks in between."""
    assert backend.children() == []
    assert backend.post("/api/governor/start").body == {"success": True, "running": True}
    assert backend.post("/api/governor/start").body["success"] is False
    [child] = backend.children()
    assert child.is_running()
    status = backend.get("/api/governor/status")
    if backend.vintage == "early":
        assert status.status == 500
    else:
        assert [engine["pid"] for engine in status.body["engines"].values()] == [child.pid]
    stopped = backend.post("/api/governor/stop")
    assert (stopped.body, stopped.seconds < 4.9) == ({"success": True, "running": False}, True)
    assert not child.is_running()
    assert backend.get("/api/governor/status").body["running"] is False


def test_agents_get_tasks_and_their_answers_are_broadcast(tmp_path: Path) -> None:
    """An agent of the later vintage is given a task, and its response leaves through the worker thread."""
    with backend_process(tmp_path) as backend, dashboard(backend) as board:
        task = board.ask("cursor_identify", {"name": "test"}, "cursor_task")
        answer = {"task_id": task["task_id"], "response": "done"}
        assert board.ask("cursor_response", answer, "agent_task_response")["response"] == "done"


def test_the_key_guards_commands(tmp_path: Path) -> None:
    """With a key set, the governor obeys those only who know it, over HTTP and over the socket."""
    with backend_process(tmp_path, HAKGAL_API_KEY="secret") as backend, dashboard(backend) as board:
        assert backend.post("/api/governor/start").status == 401
        assert "error" in board.ask("governor_control", {"action": "start"}, "governor_update")
        command = {"action": "start", "apiKey": "secret"}
        assert board.ask("governor_control", command, "governor_update")["success"] is True
        stop = backend.post("/api/governor/stop", None, **{"X-API-Key": "secret"})
        assert stop.body["success"] is True


def test_no_engine_outlives_a_killed_backend(tmp_path: Path) -> None:
    """A backend that is killed without warning leaves no child behind."""
    with backend_process(tmp_path) as backend:
        backend.post("/api/governor/start")
        [child] = backend.children()
        backend.process.kill()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the engine ends")


@pytest.mark.long
def test_a_stubborn_governor_blocks_for_five_seconds(tmp_path: Path) -> None:
    """Stopping waits the whole five seconds for a thread that will not end, then kills the engine."""
    # The early vintage, because it joins a real thread whether or not eventlet is installed.
    env = {"LEGACY_GOVERNOR_STUBBORN": "1", "LEGACY_VINTAGE": "early"}
    with backend_process(tmp_path, **env) as backend:
        backend.post("/api/governor/start")
        [child] = backend.children()
        stopped = backend.post("/api/governor/stop")
        assert stopped.body["success"] is True
        assert 4.9 <= stopped.seconds < 8
        assert not child.is_running()


def test_without_a_push_channel_nothing_is_emitted(tmp_path: Path) -> None:
    """With `enable_websocket=False` there is no Socket.IO, and a busy handler holds nobody else up."""
    with backend_process(tmp_path, push=False) as backend:
        assert backend.get("/socket.io/?EIO=4&transport=polling").status == 405
        assert backend.get("/api/status").body["websocket"]["enabled"] is False
        assert backend.post("/api/facts", {"statement": NEW_FACT}).status == 201
        burning = threading.Thread(target=backend.get, args=("/api/work?seconds=4",))
        burning.start()
        assert backend.get("/health").status == 200
        assert burning.is_alive(), "the health answer must not have waited for the long report"
        burning.join(30)


class RawClient:
    """A WebSocket client that shakes hands and then reads only when it is told to."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket()
        # Set before connecting: it decides how large a window is ever offered.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.sock.settimeout(5)
        self.sock.connect(("127.0.0.1", port))
        head = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.sock.sendall((head + key).encode())
        self.stream = self.sock.makefile("rb")
        while self.stream.readline() != b"\r\n":
            pass

    def close(self) -> None:
        """Hang up; the file alone would keep the socket open."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def event(self) -> str:
        """Read one whole frame and return the name of its event; empty at the end."""
        head = self.stream.read(2)
        if len(head) < 2:
            return ""
        assert head[0] == 0x81, "an unfragmented text frame, or the stream is torn"
        size = head[1]
        if size > 125:
            size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
        payload = self.stream.read(size)
        return json.loads(payload)["event"] if len(payload) == size else ""  # the host ended in the middle of it


class Reader:
    """Reads a client to its end in a thread; dies of the first frame that is not whole.

    :param receive: returns the name of the next event, or nothing at the end.
    """

    def __init__(self, receive: Callable[[], str]) -> None:
        self.events: list[str] = []
        self.thread = threading.Thread(target=self._read, args=(receive,), daemon=True)
        self.thread.start()

    def _read(self, receive: Callable[[], str]) -> None:
        try:
            while event := receive():
                self.events.append(event)
        except (OSError, websocket.WebSocketException):  # the test is over
            pass

    def waits_for(self, *events: str) -> None:
        """Wait until all these events have come."""
        until(lambda: set(events) <= set(self.events), f"{events} arrive")


@contextmanager
def live_client(port: int) -> Iterator[Reader]:
    """A WebSocket client that reads all the time."""
    connection = websocket.create_connection(f"ws://127.0.0.1:{port}/ws", timeout=30)
    try:
        yield Reader(lambda: json.loads(connection.recv() or '{"event": ""}')["event"])
    finally:
        connection.sock.shutdown(socket.SHUT_RDWR)  # to close it ends nothing while the reader's thread waits for it
        connection.shutdown()


@pytest.mark.quiet
@pytest.mark.parametrize("vintage", ["later", "early"])
def test_one_stalled_client_makes_every_request_slow(tmp_path: Path, vintage: str) -> None:
    """With the blocking broadcaster one client that stopped reading costs each request about two seconds."""
    env = {"LEGACY_BROADCASTER": "blocking", "LEGACY_VINTAGE": vintage}
    with backend_process(tmp_path, **env) as backend:
        with live_client(backend.port) as live, closing(RawClient(backend.port)) as stalled:
            live.waits_for("connection_status")
            assert max(backend.get("/health").seconds for _ in range(5)) < 0.5
            slow = until(lambda: slower_than(1.5, backend.get("/health")), "the stall is felt", 30)
            assert slow.seconds < 3.5
            # Three events and the fourth of the request itself: they wait together, not one after another.
            stored = backend.post("/api/facts", {"statement": NEW_FACT})
            assert (stored.status, 1.5 <= stored.seconds < 3.5) == (201, True)
            live.waits_for("fact_added", "kb_update", "kb_metrics", "system_status_update")

            late = Reader(stalled.event)
            until(lambda: backend.get("/health").seconds < 0.5, "all is well once the client reads again")
            backend.post("/api/facts", {"statement": "IsA(Echidna, Monotreme)."})
            late.waits_for("connection_status", "fact_added")
            assert late.thread.is_alive(), "every frame that reached the late reader was whole"
            if vintage == "later":
                live.waits_for("system_load_update")
        until(lambda: backend.get("/api/status").body["websocket"]["connected_clients"] == 0, "both are gone", 30)
        assert "Traceback" not in backend.log.read_text(errors="replace")


def slower_than(seconds: float, answer: Answer) -> Answer | None:
    """The answer, if it took that long."""
    return answer if answer.seconds > seconds else None
