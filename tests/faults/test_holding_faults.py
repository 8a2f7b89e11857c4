"""Clients that would hold the host's threads: by events that come early, and by answers that they do not take."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from support.faults import Scene
from support.servers import EMIT, Http

pytestmark = pytest.mark.once

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
        scene.row.note = f"/health meanwhile: {took:.0f} ms at most (4,967 before)"
        assert took < 1000
