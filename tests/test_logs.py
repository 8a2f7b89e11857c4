"""Logs: one tree, no prints, nothing about clients that go away, and no flood of the same."""

from __future__ import annotations

import ast
import functools
import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.hosts import REPOSITORY, free_port, running
from support.servers import Http, Server, Stream, shown_on_failure, wait_until

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.logs import BURST, WINDOW_S, JsonFormatter, RateLimit, get_logger, printable

PACKAGE = REPOSITORY / "hakgal_hybrid"
#: A program of its own, which ``measure`` starts: it answers orders on standard output. (Commands use ``click.echo``.)
ANSWERS = Path("tools", "measure", "clients.py")
LEVELS = ("warning", "error", "exception", "critical")


@functools.cache
def calls() -> list[tuple[Path, list[tuple[ast.Call, str]]]]:
    """Return each module of the package, and of each call in it what is called."""
    return [(path, [(node, ast.unparse(node.func)) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                    if isinstance(node, ast.Call)]) for path in sorted(PACKAGE.rglob("*.py"))]


# -- the house ---------------------------------------------------------------------------------------------------


def test_nothing_is_printed() -> None:
    """No ``print``, no traceback to standard error, no writing to it: the host decides what is shown."""
    found = []
    for path, called in calls():
        for node, name in called if path.relative_to(PACKAGE) != ANSWERS else ():
            if name in ("print", "pprint", "traceback.print_exc", "traceback.print_exception", "warnings.warn",
                        "sys.stderr.write", "sys.stdout.write"):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {name}")
    assert found == []


def test_every_logger_is_of_the_tree() -> None:
    """Loggers are named by their module, or beneath ``hakgal_hybrid``; the root logger is nobody's to speak for."""
    for path, called in calls():
        for node, function in called:
            if function in ("logging.getLogger", "get_logger"):
                name = ast.unparse(node.args[0]) if node.args else ""
                where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                known = name in ("__name__", "name") or name.startswith("'hakgal_hybrid")
                assert known or path.name in ("logs.py", "options.py"), where  # they ask if others have set up
            if re.fullmatch(r"logging\.(debug|info|warning|error|exception|critical)", function):
                pytest.fail(f"{path.relative_to(PACKAGE)}:{node.lineno} logs to the root logger")


def test_every_logger_that_warns_is_behind_the_limit() -> None:
    """A module that has a warning or worse to say gets its logger from ``logs``."""
    wrong = []
    for path, called in calls():
        names = {name for _, name in called}
        warns = any(name.endswith(f"logger.{level}") for name in names for level in LEVELS)
        if warns and "logging.getLogger" in names and "get_logger" not in names and path.name != "commands.py":
            wrong.append(str(path.relative_to(PACKAGE)))
    assert wrong == []


QUIET = """
import logging
from flask import Flask
from hakgal_hybrid import HybridTransport

HybridTransport(Flask(__name__)).emit("note", 1)
tree = [logging.getLogger(name) for name in logging.Logger.manager.loggerDict if name.startswith("hakgal_hybrid")]
assert tree
assert not [logger for logger in tree if logger.handlers or logger.level]
"""


def test_importing_and_emitting_set_up_nothing() -> None:
    """No handler is added and no level set; without any set-up nothing comes out."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


SERVED = """
import logging, sys
from flask import Flask
from hakgal_hybrid import HybridTransport

exec(sys.argv[2])
HybridTransport(Flask(__name__)).run(port=int(sys.argv[1]))
"""


@pytest.mark.parametrize(("set_up", "lines"), [
    ("", 2), ("logging.getLogger('hakgal_hybrid').setLevel(logging.WARNING)", 0), ("logging.basicConfig()", 0)])
def test_a_server_says_where_it_serves(set_up: str, lines: int, tmp_path: Path) -> None:
    """It writes its start to standard error where nothing sets logging up, and leaves it to what does."""
    port = free_port()
    with running(tmp_path, [sys.executable, "-c", SERVED, str(port), set_up], port) as server:
        pass
    assert len(server.text().splitlines()) == lines, server.text()
    assert (f"serving on http://127.0.0.1:{port}" in server.text()) == bool(lines)


# -- how often ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class Limited:
    """A logger of its own with a limit whose time is given."""

    def __init__(self) -> None:
        self.clock, self.kept = Clock(), Kept()
        self.limit = RateLimit(self.clock)
        self.logger = logging.Logger("limited")
        self.logger.addFilter(self.limit)
        self.logger.addHandler(self.kept)


@pytest.fixture
def limited() -> Limited:
    return Limited()


def test_the_same_warning_comes_a_few_times(limited) -> None:
    """The values make no difference; the first one after the minute tells how many were left out."""
    for number in range(BURST + 5):
        limited.logger.warning("client %s is slow", number)
    assert limited.kept.texts == [f"client {number} is slow" for number in range(BURST)]
    assert limited.limit.suppressed == 5
    limited.clock.now += WINDOW_S
    limited.logger.warning("client %s is slow", "next")
    limited.logger.warning("client %s is slow", "after")
    assert limited.kept.texts[BURST:] == ["client next is slow [5 more like this were left out]",
                                          "client after is slow"]
    assert limited.kept.records[BURST].suppressed == 5


def test_others_are_not_held_back(limited) -> None:
    """Another text, another level, and what is no warning come through."""
    for _ in range(BURST * 3):
        limited.logger.warning("loud")
        limited.logger.info("told")
    limited.logger.warning("quiet")
    limited.logger.error("loud")
    assert limited.kept.texts.count("loud") == BURST + 1
    assert limited.kept.texts.count("told") == BURST * 3
    assert "quiet" in limited.kept.texts


def test_another_error_under_the_same_text_is_another(limited) -> None:
    """An exception of another type, or from another line, is news."""
    def first() -> None:
        raise ValueError("a")

    def second() -> None:
        raise ValueError("b")

    def third() -> None:
        raise KeyError("c")

    for call in [first] * (BURST * 2) + [second, third]:
        try:
            call()
        except Exception:
            limited.logger.exception("handler raised")
    told = [str(record.exc_info[1]) for record in limited.kept.records]
    assert told == ["a"] * BURST + ["b", "'c'"]


def test_kinds_are_bounded() -> None:
    """No more than so many kinds are remembered: the one that was not seen for longest begins anew."""
    limit = RateLimit(lambda: 0.0, max_kinds=3)

    def passes(number: int) -> bool:
        return limit.filter(logging.makeLogRecord({"levelno": logging.WARNING, "msg": f"text {number}"}))

    for number in range(3):
        assert [passes(number) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert not passes(0)
    assert passes(3)  # in the place of 1
    assert not passes(0)
    assert passes(1)


def test_threads_lose_nothing(limited) -> None:
    """What came through and what was left out are together what was logged."""
    def shout() -> None:
        for _ in range(200):
            limited.logger.warning("all at once")

    threads = [threading.Thread(target=shout) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(limited.kept.texts) == BURST
    assert limited.limit.suppressed == 1600 - BURST


def test_a_failing_handler_is_told_of_a_few_times(caplog) -> None:
    """A host whose handler raises at each event does not fill the disk; what was left out is counted in the status."""
    app = Flask(__name__)
    transport = HybridTransport(app)

    @transport.socketio.on("boom")
    def boom() -> None:
        raise RuntimeError("again")

    client = app.test_client()
    before = transport.statistics().warnings_suppressed
    for _ in range(BURST + 7):
        assert client.post("/api/events/emit", json={"event": "boom"}).status_code == 500
    told = [record for record in caplog.records if "boom" in record.getMessage()]
    assert len(told) == BURST
    assert all(record.exc_info for record in told)
    assert transport.statistics().warnings_suppressed - before == 7


def test_a_new_transport_begins_anew(caplog) -> None:
    """What an earlier app of this process has said too often does not silence the next one."""
    logger = get_logger("hakgal_hybrid.tests")
    for _ in range(BURST + 1):
        logger.warning("again and again")
    HybridTransport(Flask(__name__))
    logger.warning("again and again")
    assert caplog.messages.count("again and again") == BURST + 1


def test_an_error_does_not_pass_for_lines_of_the_log() -> None:
    """What a client had a handler raise is indented and escaped below its traceback."""
    kept = Kept()
    logger = get_logger("hakgal_hybrid.tests.forged")
    logger.addHandler(kept)
    try:
        raise ValueError("no such room: \x1b[31m\n2026-11-30 INFO hakgal_hybrid.access forged\r\nforged")
    except ValueError:
        logger.exception("handler raised")
    finally:
        logger.removeHandler(kept)
    written = logging.Formatter("%(levelname)s %(message)s").format(kept.records[0]).split("\n")
    assert [line for line in written if not line.startswith(" ")] == [
        "ERROR handler raised", "Traceback (most recent call last):", "ValueError: no such room: \\x1b[31m"]
    assert written[-2:] == ["    2026-11-30 INFO hakgal_hybrid.access forged\\r", "    forged"]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_no_value_forges_a_line(level: int) -> None:
    """A message of ours stays on one line, whatever it is about: a client may have chosen the text of that."""
    kept = Kept()
    logger = get_logger("hakgal_hybrid.tests.values")
    logger.addHandler(kept)
    logger.setLevel(level)
    try:
        logger.log(level, "returned what is no JSON: %s", TypeError("type \r\nERROR forged\x1b[31m\u2028"))
    finally:
        logger.removeHandler(kept)
    assert kept.records[0].getMessage() == "returned what is no JSON: type \\r\\nERROR forged\\x1b[31m\\u2028"
    odd = type("Odd", (), {"__repr__": lambda self: 1 // 0})()
    assert RateLimit().filter(logging.makeLogRecord({"msg": "%r", "args": (odd,), "levelno": level}))


# -- as JSON -----------------------------------------------------------------------------------------------------


def formatted(*args: Any, **options: Any) -> dict[str, Any]:
    kept = Kept()
    logger = logging.Logger("hakgal_hybrid.tests")
    logger.addHandler(kept)
    logger.error(*args, **options)
    line = JsonFormatter().format(kept.records[0])
    assert "\n" not in line
    return dict(json.loads(line))


def test_a_line_is_an_object() -> None:
    told = formatted("client %s said \"no\"\n", "Ä", extra={"sid": "abc", "odd": {1}})
    assert abs(told.pop("ts") - logging.LogRecord("", 0, "", 0, "", None, None).created) < 60
    assert told == {"level": "ERROR", "logger": "hakgal_hybrid.tests", "message": 'client Ä said "no"\n', "sid": "abc",
                    "odd": "{1}"}


@pytest.mark.parametrize("odd", ["\x1b[31m", "\x9b31m", "\x85", "\u2028", "\u202e", "\x7f", "\ud800", "\U000e0001"])
def test_a_line_has_nothing_that_is_not_printable(odd: str) -> None:
    """Whoever shows the file in a terminal sees what is there; read as JSON it is what was logged."""
    record = logging.LogRecord("l", logging.ERROR, "", 0, "%s", (odd,), None)
    record.name_of_room = odd
    line = JsonFormatter().format(record)
    assert line.isprintable()
    assert json.loads(line)["message"] == json.loads(line)["name_of_room"] == odd


def test_a_traceback_is_a_member() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        told = formatted("failed", exc_info=True)
    assert "ValueError: why" in told["error"]
    assert "Traceback" in told["error"]


# -- clients that go away ----------------------------------------------------------------------------------------

def go_away(server: Server, routes_of_the_host: bool) -> None:
    """Clients that leave in every way there is, at every moment."""
    kinds: list[tuple[str, bytes]] = [
        ("in the body of a command", b"POST /api/events/emit HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                     b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"),
        ("in a chunk of a command", b"POST /api/governor/control HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
        ("before a word", b""),
        ("in the request line", b"GET /hea"),
        ("in the head", b"GET /health HTTP/1.1\r\nHost: 127."),
        ("in the body", b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\nabc"),
        ("in a chunk", b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"),
        ("before the answer", b"GET /large?n=8000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("between requests", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("in chunks of an answer", b"GET /chunks?n=100000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("before its stream opens", b"GET /api/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("after connecting", b"POST /api/events/connect HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                             b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        ("in a WebSocket handshake", b"GET /ws/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
                                     b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                     b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
    ]
    for _, data in kinds:
        if not routes_of_the_host and re.search(rb"^\w+ /(?!api)\S+ ", data):
            continue  # what a route of the host does about it there is the host's, and its server's
        for wait in (False, True):
            http = server.connect()
            http.send(data)
            if wait and data.endswith(b"\r\n\r\n") and b"chunked" not in data:
                http.sock.recv(100)
            http.reset()
    streams = [Stream(server.port, rcvbuf=4096) for _ in range(6)]
    for stream in streams:
        stream.wait_for("hybrid_open")
    server.emit("big", n=60, size=100_000)
    for number, stream in enumerate(streams):
        if number % 2:
            stream.reset()
        else:
            stream.close()
    server.emit("after", n=20)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["ours", "werkzeug", "gunicorn-gthread"])
def test_a_client_that_goes_away_is_nothing_to_log(kind: str) -> None:
    """No traceback, no warning, no error: whatever the moment and however abrupt."""
    with Server(kind, HYBRID_HEARTBEAT_S=0.2, HYBRID_STALL_S=1, HYBRID_REQUEST_S=2) as server, \
            shown_on_failure(server):
        for _ in range(3):
            go_away(server, kind == "ours")
        server.wait_for_streams(0, 30)
        assert server.ask("GET", "/health").status == 200
        wait_until(lambda: sum(server.status()["traffic"]["ended"].values()) >= 18, 30)
        text = server.log()
        assert "Traceback" not in text
        assert not re.search(r"\b(ERROR|CRITICAL)\b|WARNING(?!: This is a dev)", text)


@pytest.mark.once
def test_neither_is_one_that_speaks_tls(certificate) -> None:
    """In the handshake, in plain text, in the middle of a stream that its socket has not taken: counted at most."""
    with Server("ours", "--certfile", certificate[0], "--keyfile", certificate[1], HYBRID_HEARTBEAT_S=0.2,
                HYBRID_STALL_S=1, HYBRID_REQUEST_S=2) as server, shown_on_failure(server):
        for data in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(300)):
            http = Http(server.port)
            http.send(data)
            http.reset()
        streams = [server.stream(rcvbuf=4096) for _ in range(4)]
        for stream in streams:
            stream.wait_for("hybrid_open")
        server.emit("big", n=60, size=100_000)
        for stream in streams[:2]:
            stream.reset()
        for stream in streams[2:]:
            stream.close()
        server.emit("after", n=20)
        server.wait_for_streams(0, 30)
        text = server.log()
        assert "Traceback" not in text
        assert not re.search(r"\b(ERROR|WARNING|CRITICAL)\b", text)


# -- what others have written ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "shown"), [
    ("plain text, \u00e4", "plain text, \u00e4"), ("a\r\nERROR forged", "a\\r\\nERROR forged"),
    ("\x1b[2J", "\\x1b[2J"), ("\x9b2J\x85", "\\x9b2J\\x85"), ("\u2028", "\\u2028"), ("\ud800", "\\ud800"), (7, "7")])
def test_what_is_not_printable_is_escaped(text: object, shown: str) -> None:
    """A text of somebody else ends no line of a log and moves no cursor."""
    assert printable(text) == shown


def test_a_request_line_forges_no_line_of_the_access_log() -> None:
    """Control characters that a request line can hold are escaped, in the lines of answered and refused requests."""
    with Server("ours", "--log-output") as server:
        for line in (b"GET /echo?\x85forged\x9b2J HTTP/1.1", b"GET /echo?\rforged\x1b[2J HTTP/1.1"):
            with server.connect() as http:
                http.send(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                http.rest()
        wait_until(lambda: "\\x85forged\\x9b2J" in server.log(), what="the request in the log")
        wait_until(lambda: '"" 400' in server.log(), what="the refused request in the log")
        assert not re.search("[\r\x1b\x85\x9b]", server.log())


@pytest.mark.parametrize(("kind", "options", "level"), [
    ("ours", (), "INFO"), ("ours", ("--host", "0.0.0.0"), "WARNING"), ("werkzeug", (), "INFO"),
    ("werkzeug", ("--host", "0.0.0.0"), "WARNING"), ("waitress", (), "WARNING")])
def test_a_start_without_a_key_says_who_is_served(kind: str, options: tuple[str, ...], level: str) -> None:
    """One line says that only this machine is served; with a key there is none. Beyond loopback it is a warning."""
    sentence = "only this machine is served, because HAKGAL_API_KEY is not set"
    with Server(kind, *options) as server:
        [line] = [line for line in server.log().splitlines() if sentence in line]
        assert line.startswith(level)
    with Server(kind, *options, HAKGAL_API_KEY="key") as server:
        assert sentence not in server.log()
