"""Hosts as Flask-SocketIO documents them: on Flask-SocketIO with socket.io-client, and on ours with either client.

An app is made with either module; a scenario is played with either client. Both ways real processes talk over real
sockets, everything that clients see and handlers are told is written down, and the two transcripts must be the same.

What is left out, or brought into an order that does not depend on speed, when a transcript is written: ids of clients
(numbered as they appear), the order of what different clients see, and of what handlers of different namespaces do.
What is known to differ is listed in ``BY_DESIGN``.
"""

from __future__ import annotations

import difflib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.npm import install
from support.servers import Server

import hakgal_hybrid

pytest.importorskip("flask_socketio", reason="the other side of the comparison")

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

HERE = Path(__file__).parent / "transcripts"
CLIENT = Path(hakgal_hybrid.__file__).parent / "web" / "static" / "client" / "client.js"
THEIRS, OURS = "flask_socketio", "hakgal_hybrid.socketio"
#: How long a scenario may take; each of its steps has a deadline of its own.
PATIENCE = 60


#: Hosts that others stand for, in short: sessions that are shared and not, and a tour of what the others do.
LONG = ("errors_unhandled", "sessions_frozen", "sessions_kept", "tour")
#: The scenarios that unmodified clients play in each run; the others are for the long tests.
UNMODIFIED_SHORT = ("doors", "payloads", "restart")

#: App, scenario, and lines that must be in the transcript for it to prove anything (their order does not matter).
KEY_LINES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("acks", "acks"): [
        {"client": "ann", "ack": "answer", "args": ["one", 2]},
        {"client": "ann", "ack": "answer", "args": []},
        {"server": "acknowledged", "args": [1, {"two": 2}, [3]], "sid": "<sid 1>", "namespace": "/"},
        {"server": "acknowledged", "args": ["bob answers"], "sid": "<sid 1>", "namespace": "/"},
        {"client": "ann", "finds": "rejection", "value": "operation has timed out"},
    ],
    ("acks", "listening"): [
        {"client": "ann", "finds": "connect", "value": '"connect" is a reserved event name'},
        {"client": "bob", "finds": "rejection", "value": "operation has timed out"},
    ],
    ("background", "background"): [
        {"client": "bob", "event": "tick", "args": [{"left": 1}]},
        {"client": "ann live", "event": "generated", "args": [{"data": "from a thread", "count": 5}]},
        {"server": "answered", "answer": ["several", {"values": True}], "type": "tuple"},
        {"server": "unanswered", "error": "TimeoutError"},
    ],
    ("burst", "burst"): [
        {"client": "ann", "event": "number", "args": [499]},
        {"server": "all", "got": list(range(100)), "sid": "<sid 1>", "namespace": "/"},
        {"client": "bob", "finds": "answers", "value": list(range(10))},
    ],
    ("chat", "chat"): [
        {"client": "bob", "event": "said", "args": [{"room": "red", "text": "hello"}]},
        {"client": "cid", "event": "shouted", "args": ["not bob"]},
        {"client": "ann", "event": "left", "args": [{"room": "red", "how": "gone"}]},
        {"server": "disconnect", "rooms": ["red"], "sid": "<sid 2>", "namespace": "/"},
        {"client": "bob", "ack": "rooms", "args": [{"own": True, "others": []}]},
    ],
    ("classes", "classes"): [
        {"client": "ann", "ack": "look", "args": [[{"seen": 2}, 2, True]]},
        {"client": "careful", "ack": "fail", "args": ["the error was: dealt with"]},
        {"server": "called", "answer": 'about "!"'},
        {"server": "disconnect", "reason": "server disconnect", "sid": "<sid 2>", "namespace": "/"},
    ],
    ("doors", "doors"): [
        {"client": "text and data", "connect_error": "not today", "data": {"until": "tomorrow"}, "isError": True,
         "connected": False, "disconnected": True, "active": False},
        {"client": "guest with a query", "ack": "asked", "args": [["a question & more", "too"]]},
        {"client": "ann", "event": "welcome", "args": [{"auth": {"name": "ann"}}]},
    ],
    ("errors", "errors"): [
        {"client": "ann", "event": "failed", "args": [{"error": "failed with (1, 'two')", "errors": 1}]},
        {"client": "ann elsewhere", "ack": "fail", "args": ["by default"]},
    ],
    ("errors_unhandled", "errors_unhandled"): [
        {"client": "ann", "finds": "fail", "value": "operation has timed out"},
        {"client": "ann", "event": "before", "args": []},
    ],
    ("namespaces", "namespaces"): [
        {"client": "ann", "ack": "hello", "args": ["default"]},
        {"client": "ann's chat", "ack": "hello", "args": ["chat"]},
        {"client": "ann", "ack": "unheard of", "args": [{"caught": "unheard of", "args": [1, {"two": 2}]}]},
        {"client": "ann, open", "ack": "elsewhere", "args": [{"namespace": "/open", "args": ["open", 2]}]},
    ],
    ("outside", "outside"): [
        {"client": "bob", "event": "with data", "args": [{"route": "/emit"}]},
        {"client": "bob", "event": "past one", "args": [0]},
        {"client": "bob's news", "event": "published elsewhere", "args": ["extra!"]},
    ],
    ("partings", "partings"): [
        {"server": "disconnect", "reason": "client disconnect", "known": True, "sid": "<sid 1>", "namespace": "/",
         "told": {"message": "disconnect", "args": ["client disconnect"]}},
        {"client": "bob", "disconnect": "io server disconnect", "hasId": False, "connected": False,
         "disconnected": True, "active": False},
        {"server": "here", "value": "my last words", "sid": "<sid 4>", "namespace": "/"},
    ],
    ("partings", "restart"): [
        {"client": "ann", "disconnect": "transport close", "hasId": False, "connected": False, "disconnected": True,
         "active": True},
        {"client": "ann", "connect": True, "id": "<sid 3>", "connected": True, "disconnected": False, "active": True},
        {"server": "here", "value": "kept", "sid": "<sid 3>", "namespace": "/"},
    ],
    ("payloads", "payloads"): [
        {"client": "ann", "event": "thing", "args": [{"bytes": "0001feff"}]},
        {"server": "put", "args": [{"bytes": "01"}, "two", {"bytes": "03"}], "types": ["bytes", "str", "bytes"],
         "sid": "<sid 1>", "namespace": "/"},
        {"client": "ann", "event": "thing", "args": [{"text": "xxxxxxxxxx", "length": 100_000}]},
        {"client": "ann", "event": "json", "args": [{"to": "all others"}]},
    ],
    ("sessions", "sessions"): [
        {"client": "ann", "ack": "session", "args": [{"user": "ann", "count": 2, "colour": "red"}]},
        {"visitor": "ann", "path": "/session", "status": 200, "body": {"user": "ann"}},
    ],
    ("sessions_frozen", "sessions"): [
        {"client": "ann", "ack": "session", "args": [{"user": "ann"}]},
    ],
    ("sessions_kept", "sessions"): [
        {"client": "ann", "ack": "session", "args": [{"user": "ann", "count": 2, "colour": "red"}]},
        {"visitor": "ann", "path": "/session", "status": 200, "body": {"user": "ann"}},
    ],
    ("sessions_shared", "sessions"): [
        {"client": "ann", "ack": "session", "args": [{"user": "ann", "count": 2, "colour": "red"}]},
        {"visitor": "ann", "path": "/session", "status": 200, "body": {"colour": "red", "count": 2, "user": "ann"}},
    ],
    ("tour", "tour"): [
        {"client": "ann", "event": "reply", "args": [{"data": "hello", "count": 1}]},
        {"server": "may disconnect", "same": "<sid 1>", "received": 3, "sid": "<sid 1>", "namespace": "/"},
    ],
}


class Difference(NamedTuple):
    """A line that differs, and why: what it begins with on either side. ``None`` for lines that are left out."""

    scenario: str
    theirs: str
    ours: str | None
    reason: str


#: All differences there may be; and each must be there.
BY_DESIGN = [
    Difference(
        "namespaces", '{"client":"lost","connect_error":"","data":"<undefined>"',
        '{"client":"lost","connect_error":"Unable to connect","data":{"detail":"Unable to connect",',
        "python-socketio tells why there is no such namespace in a form that socket.io-client does not read"),
    Difference(
        "namespaces", '{"client":"ann, open","ack":"remember","args":[["default","open"]]}',
        '{"client":"ann, open","ack":"remember","args":[["open"]]}',
        "a session belongs to a client: what is one connection there is here a stream, which tabs may share"),
    Difference(
        "restart", r'{"client":"[^"]*","connect_error":"(xhr poll error|websocket error|fetch failed)"', None,
        "how often a client tries while there is no server, and what the network tells it, is the transport's own"),
]

#: The same where socket.io-client plays on ours.
UNMODIFIED_BY_DESIGN = [
    Difference(
        "namespaces", '{"client":"lost","connect_error":""', '{"client":"lost","connect_error":"Invalid namespace"',
        "python-socketio tells why there is no such namespace in a form that socket.io-client does not read"),
    *BY_DESIGN[1:],
]
#: Scenarios in which events come in another order, and why.
UNMODIFIED_ORDER = {"doors": "a client is told that it is connected before it gets what its connect handler emits"}


# -- what must be there ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that scenarios need, and our client as a module."""
    folder = tmp_path_factory.mktemp("stage")
    shutil.copy(CLIENT, folder / "client.mjs")
    install(HERE, folder)
    return folder


# -- playing -----------------------------------------------------------------------------------------------------


class Host(Server):
    """One of the apps, served over one of the modules."""

    def __init__(self, app: str, module: str, port: int = 0, *, special: bool = False) -> None:
        super().__init__(app, module, "--port", str(port), ENABLE_WS_SPECIAL=str(special).lower())

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        return [sys.executable, str(HERE / "serve.py"), kind, *options]


class Played(NamedTuple):
    """What came of playing a scenario: the transcript, what went wrong, and what the server logged."""

    lines: list[str]
    failure: str
    log: str


def play(app: str, scenario: str, module: str, stage: Path, *, unmodified: bool = False) -> Played:
    """Play a scenario on a server of its own; start another one when it asks for that.

    :param unmodified: true to have socket.io-client play it on ours as well.
    """
    hosts = [Host(app, module, special=unmodified)]
    url = f"http://127.0.0.1:{hosts[0].port}"
    command = ["node", str(HERE / "drive.mjs"), scenario, url, str(stage)]
    command += [str(stage / "client.mjs")] if module == OURS and not unmodified else []
    log = ""
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              encoding="utf-8") as node:
            alarm = threading.Timer(PATIENCE, node.kill)
            alarm.start()
            lines = []
            for line in told_by(node):
                if line != "restart":
                    lines.append(line)
                    continue
                dead = hosts[-1]
                dead.process.kill()
                dead.process.wait()
                log += dead.log()
                hosts.append(Host(app, module, dead.port, special=unmodified))
                print("there", file=node.stdin, flush=True)
            errors = node.stderr.read() if node.stderr else ""
            alarm.cancel()
        failure = f"the scenario ended with {node.returncode}\n{errors}" if node.returncode else ""
        return Played(lines, failure, log + hosts[-1].log())
    finally:
        for host in hosts:
            host.stop()


def told_by(process: subprocess.Popen[str]) -> Iterator[str]:
    """Give the lines that a process prints."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip("\n")


def without_differences(lines: list[str], scenario: str, ours: bool,
                        by_design: Iterable[Difference] = BY_DESIGN) -> list[str]:
    """Return a transcript in which reasons stand for the lines that differ by design."""
    for difference in by_design:
        if difference.scenario != scenario:
            continue
        if difference.ours is None:
            found = [line for line in lines if re.match(difference.theirs, line)]
            lines = [line for line in lines if line not in found]
        else:
            start = difference.ours if ours else difference.theirs
            found = [line for line in lines if line.startswith(start)]
            lines = [f"<{difference.reason}>" if line in found else line for line in lines]
        assert found, f"no longer so: {difference}"
    return lines


def difference_of(theirs: list[str], ours: list[str]) -> str:
    return "\n".join(difflib.unified_diff(theirs, ours, "Flask-SocketIO", "ours", n=2, lineterm=""))


def contains(lines: list[str], part: dict[str, Any]) -> bool:
    return any(json.loads(line) == part for line in lines if line.startswith("{"))


# -- tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "scenario"), [
    pytest.param(host, scenario, id=f"{host}-{scenario}", marks=[pytest.mark.long] if host in LONG else [])
    for host, scenario in KEY_LINES])
def test_transcripts_are_the_same(host, scenario, stage):
    """Clients see, and handlers are told, the same on both transports."""
    with ThreadPoolExecutor(2) as both:
        theirs, ours = both.map(lambda module: play(host, scenario, module, stage), (THEIRS, OURS))
    print(f"-- Flask-SocketIO --\n{theirs.log}\n-- ours --\n{ours.log}")  # pytest shows it with a failure
    assert not theirs.failure, theirs.failure
    assert not ours.failure, f"{ours.failure}\n{difference_of(theirs.lines, ours.lines)}"
    expected, told = (without_differences(played.lines, scenario, played is ours) for played in (theirs, ours))
    assert expected == told, difference_of(expected, told)
    absent = [part for part in KEY_LINES[host, scenario] if not contains(told, part)]
    assert not absent, absent


@pytest.mark.parametrize(("host", "scenario"), [
    pytest.param(host, scenario, id=f"{host}-{scenario}",
                 marks=[] if scenario in UNMODIFIED_SHORT else [pytest.mark.long])
    for host, scenario in KEY_LINES])
def test_unmodified_clients_see_the_same(host, scenario, stage):
    """A page that is not changed at all sees, and handlers are told, the same on both servers."""
    with ThreadPoolExecutor(2) as both:
        theirs, ours = both.map(lambda module: play(host, scenario, module, stage, unmodified=module == OURS),
                                (THEIRS, OURS))
    print(f"-- Flask-SocketIO --\n{theirs.log}\n-- ours --\n{ours.log}")
    assert not theirs.failure, theirs.failure
    assert not ours.failure, f"{ours.failure}\n{difference_of(theirs.lines, ours.lines)}"
    expected, told = (without_differences(played.lines, scenario, played is ours, UNMODIFIED_BY_DESIGN)
                      for played in (theirs, ours))
    if scenario in UNMODIFIED_ORDER:
        assert expected != told, "no longer so"
        expected, told = sorted(expected), sorted(told)
    assert expected == told, difference_of(expected, told)


def test_every_scenario_is_played():
    """Whatever lies in the folders is in the table, and every difference is about a scenario in it."""
    assert {app for app, _ in KEY_LINES} == names_in("apps", "[!_]*.py")
    assert {scenario for _, scenario in KEY_LINES} == names_in("scenarios", "*.mjs")
    assert {difference.scenario for difference in BY_DESIGN} <= names_in("scenarios", "*.mjs")


def names_in(folder: str, pattern: str) -> set[str]:
    return {path.stem for path in (HERE / folder).glob(pattern)}
