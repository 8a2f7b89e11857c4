"""Commands for governors of several processes: one of them carries each out, once, or it is unknown whether it was."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support.redis_server import RedisServer
from support.shared_apps import Host, until
from werkzeug.test import TestResponse

from hakgal_hybrid.commands.backplane.desk import LEASE_S, RENEW_S


class Governor:
    """Notes who was asked for what."""

    def __init__(self, name: str, calls: list[tuple[str, str]]) -> None:
        self.name, self.calls = name, calls
        self.may_start = threading.Event()
        self.may_start.set()
        self.fences: list[int] = []

    def start(self) -> str:
        self.may_start.wait(20)
        self.calls.append((self.name, "start"))
        return self.name

    def stop(self) -> str:
        raise RuntimeError("it does not stop")

    def set_mode(self, mode: str, fence: int) -> str:
        self.calls.append((self.name, mode))
        self.fences.append(fence)
        return mode

    def get_status(self) -> dict[str, Any]:
        return {"name": self.name}


class Trio:
    """Three processes, two of which have a governor."""

    def __init__(self, server: RedisServer) -> None:
        self.calls: list[tuple[str, str]] = []
        self.hosts = [Host(server, HYBRID_QUEUE_S=3) for _ in range(3)]
        self.governors = [Governor(name, self.calls) for name in ("first", "second")]
        for host, governor in zip(self.hosts, self.governors, strict=False):
            host.transport.governor = governor
        for host in self.hosts:
            host.open().close()  # it begins to read
        for host in self.hosts:
            until(lambda host=host: host.status()["backplane"]["tail"]["position"] != "0-0")

    def command(self, host: Host, action: str, key: str | None = None, **more: Any) -> TestResponse:
        headers = {} if key is None else {"Idempotency-Key": key}
        return host.flask.test_client().post("/api/governor/control", json={"action": action, **more}, headers=headers)

    def outcome(self, host: Host, answer: TestResponse) -> dict[str, Any]:
        """Wait for the outcome of a command, as its client does."""
        report = dict(answer.get_json())

        def known() -> bool:
            nonlocal report
            report = host.flask.test_client().get(f"/api/governor/control/{report['id']}").get_json()
            return report["status"] not in ("accepted", "running")

        until(known)
        return report


@pytest.fixture
def trio(redis_server: RedisServer) -> Iterator[Trio]:
    made = Trio(redis_server)
    yield made
    for host in made.hosts:
        host.stop()


def test_one_process_carries_out_whoever_is_asked(trio: Trio) -> None:
    """Whichever process gets a command, one and the same governor carries each out, once, in order."""
    answers = [(host, trio.command(host, "set_mode", mode=f"m{number}"))
               for number in range(5) for host in trio.hosts]
    reports = [trio.outcome(host, answer) for host, answer in answers]
    assert [report["status"] for report in reports] == ["done"] * 15
    assert len({name for name, _ in trio.calls}) == 1
    assert Counter(mode for _, mode in trio.calls) == {f"m{number}": 3 for number in range(5)}
    assert len({fence for governor in trio.governors for fence in governor.fences}) == 1


def test_outcome_is_known_everywhere(trio: Trio) -> None:
    """The outcome of a command can be asked for at each process; a failure is said as such."""
    report = trio.outcome(trio.hosts[2], trio.command(trio.hosts[2], "stop"))
    assert (report["status"], report.get("error")) == ("failed", "RuntimeError: it does not stop")
    for host in trio.hosts:
        until(lambda host=host: host.flask.test_client().get(
            f"/api/governor/control/{report['id']}").get_json().get("status") == "failed")


def test_command_of_another_life_of_the_log_is_unknown(redis_server: RedisServer, trio: Trio) -> None:
    """When Redis has lost its data between a command and its claim, nobody carries it out any more."""
    trio.outcome(trio.hosts[0], trio.command(trio.hosts[0], "set_mode", mode="early"))
    fence = max(fence for governor in trio.governors for fence in governor.fences)
    trio.calls.clear()
    with redis_server.client() as client:
        client.flushall()
        answer = trio.command(trio.hosts[2], "set_mode", mode="late")
    assert trio.outcome(trio.hosts[2], answer)["status"] == "unknown"
    assert not trio.calls
    until(lambda: trio.outcome(trio.hosts[2], trio.command(trio.hosts[2], "set_mode", mode="new"))["status"] == "done")
    assert [mode for _, mode in trio.calls][-1] == "new"
    assert max(fence for governor in trio.governors for fence in governor.fences) > fence  # of the lost log's


def test_desk_that_redis_has_lost_is_taken_for_the_next_command(redis_server: RedisServer, trio: Trio) -> None:
    """A command does not wait for the next renewal when Redis does not know any more who has the desk."""
    trio.outcome(trio.hosts[0], trio.command(trio.hosts[0], "start"))
    took: list[float] = []
    with redis_server.client() as client:
        while not took or (min(took) >= RENEW_S / 2 and len(took) < 5):  # the best counts: the machine may be busy
            until(lambda: client.pttl("{shared}:desk") > (LEASE_S - RENEW_S / 10) * 1000)  # the next renewal is far
            client.delete("{shared}:desk")
            began = time.monotonic()
            assert trio.outcome(trio.hosts[0], trio.command(trio.hosts[0], "start"))["status"] == "done"
            took.append(time.monotonic() - began)
    assert min(took) < RENEW_S / 2
    assert len(trio.calls) == 1 + len(took)


def test_command_without_a_governor_anywhere_is_unknown(redis_server: RedisServer) -> None:
    """A command that nobody can carry out has an outcome as well, after a while."""
    host = Host(redis_server, HYBRID_QUEUE_S=1)
    try:
        host.open().close()
        answer = host.flask.test_client().post("/api/governor/control", json={"action": "start"})
        assert answer.status_code == 202
        path = f"/api/governor/control/{answer.get_json()['id']}"
        until(lambda: host.flask.test_client().get(path).get_json()["status"] == "unknown")
    finally:
        host.stop()


def test_status_is_that_of_the_governor_at_work(trio: Trio) -> None:
    """``status`` is answered by the process that carries out commands."""
    trio.outcome(trio.hosts[0], trio.command(trio.hosts[0], "start"))
    worker = trio.calls[0][0]
    for host in trio.hosts:
        time.sleep(0)
        assert trio.outcome(host, trio.command(host, "status"))["result"] == {"name": worker}


def test_key_counts_in_every_process(trio: Trio) -> None:
    """A command with a key is carried out once, whichever process it is sent to again; each knows its outcome."""
    first = trio.command(trio.hosts[2], "start", "once")
    assert trio.outcome(trio.hosts[2], first)["status"] == "done"
    for host in trio.hosts:
        until(lambda host=host: trio.command(host, "start", "once").status_code == 200)
        again = trio.command(host, "start", "once")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (again.get_json()["id"], again.get_json()["result"]) == (first.get_json()["id"], trio.calls[0][0])
        other = trio.command(host, "set_mode", "once", mode="slow")
        assert (other.status_code, other.get_json()["code"]) == (422, "idempotency_key_reused")
    assert len(trio.calls) == 1


def test_key_is_used_in_all_processes_at_once(trio: Trio) -> None:
    """Even where no process can know of the others' command yet, one is carried out, and all have its outcome."""
    answers: list[tuple[Host, TestResponse]] = []
    threads = [threading.Thread(target=lambda host=host: answers.append((host, trio.command(host, "start", "at once"))))
               for host in trio.hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.get_json()["id"] for _, answer in answers}) == 1
    assert [trio.outcome(host, answer)["result"] for host, answer in answers] == [trio.calls[0][0]] * 3
    assert len(trio.calls) == 1


def test_repetition_of_what_is_unknown(redis_server: RedisServer) -> None:
    """Who repeats a command whose outcome never came is told that it is unknown, and it is not given again."""
    host = Host(redis_server, HYBRID_QUEUE_S=2, HYBRID_GOVERNOR="off")
    try:
        host.open().close()
        headers = {"Idempotency-Key": "lost"}
        post = host.flask.test_client().post
        assert post("/api/governor/control", json={"action": "start"}, headers=headers).status_code == 202
        until(lambda: post("/api/governor/control", json={"action": "start"}, headers=headers).status_code == 504)
        again = post("/api/governor/control", json={"action": "start"}, headers=headers)
        assert (again.get_json()["code"], again.get_json()["status"]) == ("unknown", 504)
    finally:
        host.stop()


def given(host: Host, mode: str, status: str) -> str:
    """Give a command, wait until it has a status, and return its path."""
    answer = host.flask.test_client().post("/api/governor/control", json={"action": "set_mode", "mode": mode})
    path = f"/api/governor/control/{answer.get_json()['id']}"
    until(lambda: host.flask.test_client().get(path).get_json()["status"] == status)
    return path


def test_command_of_the_past_is_not_carried_out(redis_server: RedisServer) -> None:
    """A process that begins does not carry out what was given before, and is unknown by now."""
    giver, calls = Host(redis_server, HYBRID_QUEUE_S=1), list[tuple[str, str]]()
    giver.open().close()
    path = given(giver, "old", "unknown")
    late = Host(redis_server, HYBRID_QUEUE_S=1)
    late.transport.governor = Governor("late", calls)
    late.open().close()
    until(lambda: late.flask.test_client().get(path).get_json()["status"] == "unknown")
    given(giver, "new", "done")
    assert calls == [("late", "new")]
    assert giver.flask.test_client().get(path).get_json()["status"] == "unknown"
    for host in (giver, late):
        host.stop()


def test_command_that_is_read_too_late_is_not_carried_out(redis_server: RedisServer) -> None:
    """Nor does a process that was held up, when it reads what was given meanwhile."""
    giver, lagging = Host(redis_server, HYBRID_QUEUE_S=1), Host(redis_server, HYBRID_QUEUE_S=1)
    calls = list[tuple[str, str]]()
    lagging.transport.governor = Governor("lagging", calls)
    for host in (giver, lagging):
        host.open().close()
    with lagging.transport.node.log.held():
        giver.socketio.emit("what holds it up")  # as its reader cannot append that
        path = given(giver, "old", "unknown")
    given(giver, "new", "done")
    assert calls == [("lagging", "new")]
    assert giver.flask.test_client().get(path).get_json()["status"] == "unknown"
    for host in (giver, lagging):
        host.stop()
