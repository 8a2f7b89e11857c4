"""Clients that would hold the host's threads: by events that come early, and by answers that they do not take."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from support.faults import Scene
from support.servers import EMIT, Http, wait_until

pytestmark = [pytest.mark.once, pytest.mark.long]

UP = "streams, host, status"


def health(scene: Scene) -> float:
    """Return how long the host's own page takes now (ms)."""
    started = time.perf_counter()
    assert scene.server.ask("GET", "/health").status == 200
    return (time.perf_counter() - started) * 1000


def test_events_that_come_before_their_turn(fault: Any) -> None:
    """Events whose predecessor never comes hold a quarter of the host's threads at most; the others are refused."""
    title = "48 numbered events of 6 clients, whose number 1 never comes"
    with fault(title, UP) as scene, contextlib.ExitStack() as stack:
        early: list[Http] = []
        for _ in range(6):
            stream = stack.enter_context(scene.server.opened())
            for number in range(2, 10):
                http = stack.enter_context(scene.server.connect())
                http.request("POST", EMIT, {"event": "echo", "data": 1, "number": number, "sid": stream.sid},
                             {"X-Hybrid-Token": stream.open["token"]})
                early.append(http)
        took = max(health(scene) for _ in range(10))
        answers = [http.answer() for http in early]
        assert {(answer.status, answer.json()["code"], answer.json()["expected"]) for answer in answers} == {
            (409, "out_of_turn", 1)}
        scene.last(0.1)
        scene.row.note = f"/health meanwhile: {took:.0f} ms at most (before: 4,967 ms)"
        assert took < 1000


def asked(scene: Scene, stack: contextlib.ExitStack, path: str, number: int, **options: Any) -> list[Http]:
    """Have clients that ask for something and read nothing of it."""
    clients = [stack.enter_context(scene.server.connect(**options)) for _ in range(number)]
    for http in clients:
        http.request("GET", path)
    return clients


def slowest(scene: Scene, number: int = 20) -> float:
    """Return how long the host's own page takes at most (ms)."""
    return max(health(scene) for _ in range(number))


def test_visitors_of_a_waiting_generator_that_leave(fault: Any) -> None:
    """Three times as many visitors as host threads open a generator that waits for ever, and leave."""
    with fault("96 visitors of a generator that waits for ever leave", UP) as scene, contextlib.ExitStack() as stack:
        visitors = asked(scene, stack, "/subscribe", 96)
        there = slowest(scene)
        for http in visitors:
            http.close()
        gone = slowest(scene)
        scene.last(0.5)
        wait_until(lambda: scene.server.ask("POST", "/publish").json() == {"queues": 0}, 30, "the generators to end")
        scene.row.note = (f"/health: {there:.0f} ms at most while they are there, {gone:.0f} ms when they have gone "
                          "(before: none in 10 s)")
        assert max(there, gone) < 2000


@pytest.mark.parametrize(("what", "path", "before"), [
    ("a route of 64 KiB pieces", "/chunks", "none in 10 s"), ("a file of 16 MiB", "/file?n=256", "none in 10 s"),
    ("16 MiB in one object", "/bytes?n=256", "145 ms")])
def test_visitors_that_read_nothing(fault: Any, what: str, path: str, before: str) -> None:
    """66 visitors read nothing of a large answer, leave and come again."""
    with fault(f"66 visitors read nothing of {what}, three times", UP) as scene:
        scene.kept_mib = 128.0  # what spools had in memory stays the allocator's: about 70 MiB, however often they come
        if path != "/chunks":
            assert scene.server.ask("GET", path).status == 200  # the app makes it once
        took = 0.0
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                asked(scene, stack, path, 66, rcvbuf=4096)
                took = max(took, slowest(scene))
        scene.last(0.5)
        scene.row.note = f"/health meanwhile: {took:.0f} ms at most (before: {before})"
        assert took < 2000
