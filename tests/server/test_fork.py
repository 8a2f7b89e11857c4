"""A host that forks in a route: its children are processes of their own, and take nothing of the server with them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.app import create_app
from support.forking import LIVES_S, in_child
from support.hosts import call, free_port, listens
from support.servers import SOON, InProcess, Server, wait_until

from hakgal_hybrid.broker.timers import TimerQueue
from hakgal_hybrid.commands.worker import Worker

if not hasattr(os, "fork"):
    pytest.skip("this system does not fork", allow_module_level=True)

CHILD = "ForkedProcess forked_process"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("ours", SUPPORT_FORKS=1) as server:
        yield server


def ask(server: Server, path: str, **body: Any) -> Any:
    answer = server.ask("POST", path, body)
    assert answer.status == 200, answer
    return answer.json()


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[list[int]]:
    """Children that are ended when the test ends."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_a_child_can_be_terminated(server: Server) -> None:
    """SIGTERM ends a child, however soon it comes after the fork."""
    assert ask(server, "/fork/terminate", n=12)["codes"] == [-signal.SIGTERM] * 12


def test_a_pool_can_be_left(server: Server) -> None:
    """Leaving a pool whose worker is still busy ends the worker."""
    done = ask(server, "/fork/pool")
    assert done["raised"] == "TimeoutError"
    assert done["seconds"] < LIVES_S / 2


def test_a_child_has_the_handlers_from_before(server: Server) -> None:
    """A child does about signals what the process did before it served, blocks none, and switches threads as ever."""
    with server.opened():
        assert ask(server, "/fork/handlers") == {
            "term": True, "int": True, "blocked": [], "in_parent": [], "switch_interval": sys.getswitchinterval()}


def test_a_child_may_serve_another_app(server: Server) -> None:
    """A child may run a server of its own, which ends as cleanly as any."""
    port = free_port()
    with ThreadPoolExecutor(1) as asking:
        served = asking.submit(ask, server, "/fork/serve", port=port)
        wait_until(lambda: served.done() or listens(port), what="the child to serve")
        if not served.done():
            call(port, "GET", "/end")
        assert served.result(SOON) == {"code": 0}


def test_programs_and_other_methods(server: Server) -> None:
    """Children that become other programs have ordinary signal handlers too."""
    assert ask(server, "/fork/program") == {"default": "True"}
    assert ask(server, "/fork/spawn") == {"codes": [-signal.SIGTERM] * 2}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_that_ends_ends_for_its_client(server: Server, child: list[int], version: str) -> None:
    """A stream that the server ends is at its end for the client, though a child lives that was forked meanwhile."""
    with server.opened(version=version) as stream:
        child.append(ask(server, "/fork/child")["pid"])
        ask(server, "/kick", sid=stream.payloads("hybrid_open")[0]["sid"])
        stream.read_to_end()


@pytest.mark.parametrize("daemon", [False, True])
def test_the_server_ends_beside_a_child(child: list[int], daemon: bool) -> None:
    """SIGTERM of the server waits for no child; its clients see the end, and its port is free."""
    with Server("ours", SUPPORT_FORKS=1) as server:
        with server.opened() as stream:
            child.append(ask(server, "/fork/child", daemon=daemon)["pid"])
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            stream.read_to_end()
            assert server.ended() == 0
            assert time.monotonic() - began < LIVES_S / 2
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", server.port))
            sock.listen()


def test_a_killed_server_ends_for_its_clients(child: list[int]) -> None:
    """If the server is killed, its clients see the end at once, whatever children it leaves."""
    with Server("ours", SUPPORT_FORKS=1) as server:
        with server.opened() as stream, server.connect() as http:
            assert http.ask("GET", "/health").status == 200
            child.append(ask(server, "/fork/child")["pid"])
            server.signal(signal.SIGKILL)
            server.process.wait(SOON)
            stream.read_to_end()
            assert http.closed()


def test_an_emit_in_a_child_raises(server: Server) -> None:
    """An emit in a child raises at once, also if the fork came while another thread was emitting."""
    raised = ask(server, "/fork/emit", n=24)["raised"]
    assert all(text.startswith(CHILD) and "Emitter" in text for text in raised), raised
    assert ask(server, "/fork/executor")["raised"].startswith(CHILD)


def test_whatever_a_child_does_with_clients_raises(server: Server) -> None:
    """All that needs the clients, or the log, raises the same in a child; the server itself goes on."""
    with server.opened() as stream:
        done = ask(server, "/fork/use", sid=stream.payloads("hybrid_open")[0]["sid"])
        assert all(text.startswith(CHILD) for text in done.values()), done
        server.emit("note", data=1)
        assert stream.wait_for("note") == [1]


def test_a_child_leaves_the_journal_alone(tmp_path: Path) -> None:
    """Children emit nothing into the journal, and their ends do not end it."""
    settings = {"HYBRID_JOURNAL": tmp_path / "journal.sqlite3", "SUPPORT_MANIFEST": tmp_path / "manifest"}
    with Server("ours", SUPPORT_FORKS=1, **settings) as server:
        last = server.emit("note", data=1)
        wait_until(lambda: server.status()["journal"]["written"], what="the journal to be open")
        assert ask(server, "/fork/exits", n=3) == {"codes": [0, 0, 0]}
        server.emit("note", data=2)
        wait_until(lambda: server.status()["journal"]["written"] == 2, what="the second to be written")
        assert server.status()["journal"]["state"] == "on"
        server.signal(signal.SIGKILL)  # what a clean end could still make good is not
        server.process.wait(SOON)
    with Server("ours", **settings) as server, server.opened(headers={"Last-Event-ID": last}) as stream:
        assert stream.wait_for("note") == [2]


# -- a child that serves -------------------------------------------------------------------------------------------


def test_a_worker_serves_what_its_master_has_made() -> None:
    """With ``gunicorn --preload``, the worker serves the app that was made before it was forked."""
    with Server("gunicorn-gthread", "--preload", SUPPORT_FORKS=1) as server, server.opened() as stream:
        server.emit("note", data=1)
        assert stream.wait_for("note") == [1]
        assert ask(server, "/fork/emit", n=4)["raised"][0].startswith(CHILD)  # a child of the worker
        server.emit("note", data=2)
        assert stream.wait_for("note", 2) == [1, 2]


def test_a_child_may_use_what_nobody_serves_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is served, a child can use everything, also if other threads emitted as it was forked."""
    monkeypatch.setenv("SUPPORT_FORKS", "1")
    app = create_app(journal=str(tmp_path / "journal.sqlite3"))
    api = InProcess(app)
    api.ask("GET", "/health")  # a test client is no server
    raised = api.ask("POST", "/fork/emit", {"n": 24}).json()["raised"]
    assert raised == ["nothing"] * 24
    used = api.ask("POST", "/fork/use", {}).json()
    assert used.pop("enter_room").startswith("NotConnected")
    assert set(used.values()) == {"nothing"}


def test_timers_and_workers_begin_anew_in_a_child() -> None:
    """What waits in the process that forks is not done a second time in its child, where new calls are made."""
    timers, worker, release = TimerQueue(), Worker("test", 10), threading.Event()
    calls: list[str] = []
    timers.call_later(0.05, lambda: calls.append("old timer"))
    worker.submit(lambda: release.wait(20))
    worker.submit(lambda: calls.append("old call"))

    def look() -> str:
        done = threading.Event()
        timers.call_later(0.2, lambda: worker.submit(done.set))
        return f"{done.wait(30)} {calls}"

    found = in_child(look, 10)
    release.set()
    assert found == "True []"
