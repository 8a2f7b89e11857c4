"""Where requests spend their time, seen in the stacks of real threads; and the URLs by which the doctor asks."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.hosts import call, serving, until
from werkzeug.middleware.proxy_fix import ProxyFix

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.monitoring.sampler import Sampling, sample

REMOTE = {"REMOTE_ADDR": "203.0.113.9"}


class Slow:
    """Handlers that wait until they are let go, each in its own way."""

    def __init__(self, folder: Path) -> None:
        self.go = threading.Event()
        self.folder = folder

    def write_to_all(self) -> None:
        self.go.wait(30)

    def in_helper(self) -> str:
        self.write_to_all()
        return ""

    def in_sleep(self) -> str:
        while not self.go.is_set():
            time.sleep(0.5)
        return ""

    def in_lock(self) -> str:
        self.go.wait(30)
        return ""

    def in_sqlite(self) -> str:
        connection = sqlite3.connect(self.folder / "db", timeout=0.5)
        while not self.go.is_set():
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                continue
        connection.close()
        return ""

    def in_subprocess(self) -> str:
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            closer = threading.Thread(target=lambda pipe: (self.go.wait(30), pipe.close()), args=(process.stdin,))
            closer.start()
            process.wait(30)
            closer.join(30)
        return ""

    def in_code(self) -> str:
        number = 0
        while not self.go.is_set():
            number = sum(range(1000))
        return str(number)


@contextmanager
def in_a_request(app: Flask, handler: Callable[[], str], go: threading.Event) -> Iterator[None]:
    """One thread in a request that the handler holds up."""
    begun = threading.Event()

    def view() -> str:
        begun.set()
        return handler()

    app.add_url_rule("/slow", "slow", view)
    thread = threading.Thread(target=lambda: app.test_client().get("/slow"), daemon=True)
    thread.start()
    assert begun.wait(30)
    try:
        yield
    finally:
        go.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["helper", "sleep", "lock", "sqlite", "subprocess", "code"])
def test_where_a_request_waits(tmp_path: Path, kind: str) -> None:
    """The innermost function of the host's own code is named, with its line, and for how long it was seen."""
    slow = Slow(tmp_path)
    holder = sqlite3.connect(tmp_path / "db")
    holder.execute("BEGIN EXCLUSIVE")
    other = threading.Thread(target=slow.go.wait, args=(30,), daemon=True)  # waits as well, but in no request
    other.start()
    with in_a_request(Flask(__name__), getattr(slow, f"in_{kind}"), slow.go):
        seen = until(lambda: _if_clear(sample(0.4, 0.005)), f"a sampling that shows {kind}", 30)
    other.join(30)
    holder.close()
    top = seen.groups[0]
    assert "test_sampler.py:" in top.where
    assert top.where.endswith(" write_to_all" if kind == "helper" else f" in_{kind}"), top
    assert seen.requests <= seen.rounds, "one thread was in a request"
    assert top.where.partition(":")[0] in "".join(top.stack)


def _if_clear(seen: Sampling) -> Sampling | None:
    """A sampling in which one place prevails: the first look may come before the handler is where it waits."""
    return seen if seen.groups and seen.groups[0].share > 0.8 and seen.groups[0].longest_ms > 50 else None


def test_nothing_runs() -> None:
    """Without a request nothing is seen, however many threads there are."""
    seen = sample(0.05)
    assert (seen.requests, seen.groups) == (0, [])
    assert seen.rounds


# -- over HTTP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"seconds": 11}, {"seconds": 0}, {"seconds": "1"}, {"seconds": True},
                                  {"interval_ms": 0}, {"interval_ms": 1000}, {"seconds": None}])
def test_bounds(body: dict[str, Any]) -> None:
    """Nobody can have the host look for longer, or more often, than it may."""
    app = Flask(__name__)
    HybridTransport(app)
    answer = app.test_client().post("/api/hybrid/stacks", json=body)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "bad_number")


def test_who_may_look() -> None:
    """Looking is a command: from this machine, or with the key where there is one. Seeing oneself is reading."""
    app, keyed = Flask("open"), Flask("keyed")
    HybridTransport(app)
    HybridTransport(keyed, api_key="secret")
    body = {"seconds": 0.05}
    assert app.test_client().post("/api/hybrid/stacks", json=body).status_code == 200
    assert app.test_client().post("/api/hybrid/stacks", json=body, environ_overrides=REMOTE).status_code == 403
    assert app.test_client().get("/api/hybrid/seen", environ_overrides=REMOTE).status_code == 403
    client = keyed.test_client()
    assert client.post("/api/hybrid/stacks", json=body).status_code == 401
    assert client.get("/api/hybrid/seen").status_code == 200
    key = {"X-API-Key": "secret"}
    assert client.post("/api/hybrid/stacks", json=body, headers=key, environ_overrides=REMOTE).status_code == 200
    assert "secret" not in client.get("/api/hybrid/seen").get_data(as_text=True)


@pytest.mark.long
def test_one_at_a_time_and_never_behind_the_host() -> None:
    """A second look is refused while one goes on; both are answered while every thread of the host is busy."""
    app = Flask(__name__)
    transport = HybridTransport(app, threads=1)
    go = threading.Event()
    app.add_url_rule("/slow", "slow", lambda: str(go.wait(30)))
    answers: list[Any] = []

    def ask(seconds: float) -> None:
        while not answers or answers[-1].status == 409:  # the other one was quicker
            answers.append(call(port, "POST", "/api/hybrid/stacks", {"seconds": seconds}))

    with serving(transport.socketio, app) as port:
        slow = threading.Thread(target=lambda: call(port, "GET", "/slow"), daemon=True)
        slow.start()
        until(lambda: transport.statistics().server["lanes"]["host"]["busy"] == 1, "the only thread is busy")
        first = threading.Thread(target=ask, args=(3,), daemon=True)
        first.start()
        refused = until(lambda: [answer for answer in [call(port, "POST", "/api/hybrid/stacks", {"seconds": 0.05})]
                                 if answer.status == 409], "the second is refused")[0]
        first.join(20)
        go.set()
        slow.join(30)
    assert refused.body["code"] == "already_sampling"
    looked = next(answer for answer in answers if answer.status == 200)
    assert "test_sampler.py:" in looked.body["groups"][0]["where"]
    assert looked.body["greenlets"] is False


def test_seen_by_the_host() -> None:
    """Who asks, by which headers, and what is patched; behind ProxyFix still the peer itself."""
    app = Flask(__name__)
    transport = HybridTransport(app)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    with serving(transport.socketio, app) as port:
        seen = call(port, "GET", "/api/hybrid/seen", headers={"X-Forwarded-For": "127.0.0.9", "Via": "1.1 x"}).body
    assert seen["peer"] == "127.0.0.1"
    assert seen["peer_port"]
    assert seen["headers"]["X-Forwarded-For"] == "127.0.0.9"
    assert seen["headers"]["Via"] == "1.1 x"
    assert not any(seen["patched"].values())
    assert seen["versions"]["hakgal_hybrid"]
    assert (seen["key_set"], seen["loopback"], seen["heartbeat_s"]) == (False, True, 15)
