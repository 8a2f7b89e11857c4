"""A host that raises, blocks, burns CPU, and receivers and a governor that do: no request waits, no event is lost."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support.faults import MINUTE, Scene
from support.servers import CONTROL, EMIT, STATUS, Http, wait_until

pytestmark = [pytest.mark.once, pytest.mark.long]

UP = "streams, host, status"
OURS = "streams, status, control"


def command(scene: Scene, action: str, **more: Any) -> int:
    """Give a command; return the status of the answer."""
    return scene.server.ask("POST", CONTROL, {"action": action, **more}).status


@contextlib.contextmanager
def held(scene: Scene, number: int, path: str = "/hold") -> Iterator[list[Http]]:
    """Have requests that hold a host's thread, until the governor releases them."""
    with contextlib.ExitStack() as stack:
        holding = [stack.enter_context(scene.server.connect()) for _ in range(number)]
        for http in holding:
            http.request("GET", path)
        yield holding


def release(scene: Scene) -> None:
    assert command(scene, "set_mode", mode="release") in (200, 202)


def test_handlers_that_raise(fault: Any) -> None:
    """Routes and event handlers that raise are answered with an error; the next request is served."""
    with fault("host handlers raise", UP) as scene:
        answers = []
        for _ in range(20):
            answers.append(scene.server.ask("GET", "/raise").status)
            answers.append(scene.server.ask("GET", "/raw/exit").status)
            answers.append(scene.server.ask("POST", EMIT, {"event": "boom", "data": None}).status)
        assert set(answers) == {500}
        scene.last(0.2)
        scene.row.note = f"{len(answers)} errors answered with 500"


def test_a_handler_that_blocks(fault: Any) -> None:
    """Handlers that block for a minute hold their thread and nothing else."""
    with fault(f"4 handlers block for {MINUTE:g} s", UP) as scene, held(scene, 4) as holding:
        wait_until(lambda: scene.server.status()["server"]["lanes"]["host"]["busy"] >= 4, 30)
        scene.last(MINUTE)
        release(scene)
        assert [http.answer().status for http in holding] == [200] * 4


def test_handlers_that_burn_cpu(fault: Any) -> None:
    """Handlers that compute without a pause share the processor with everybody else, and do not stop them."""
    seconds = 15 if MINUTE > 10 else 3
    with fault(f"2 handlers burn CPU for {seconds} s", UP) as scene:
        with held(scene, 2, f"/work?seconds={seconds}&burn=1") as burning:
            wait_until(lambda: scene.server.status()["server"]["lanes"]["host"]["busy"] >= 2, 30)
            scene.last(0.5)
            for http in burning:
                http.sock.settimeout(60)
                assert http.answer().status == 200


def test_every_host_thread_taken(fault: Any) -> None:
    """With no host thread left and the queue full, host requests are refused; what is ours is served, events flow."""
    with fault("every host thread and the queue taken", OURS, paths=(STATUS,), HYBRID_THREADS=4,
               HYBRID_QUEUE_REQUESTS=4) as scene, held(scene, 4) as holding:
        lane = wait_until(lambda: [lane for lane in [scene.server.status()["server"]["lanes"]["host"]]
                                   if lane["busy"] == 4], 30)
        assert lane[0]["threads"] == 4
        with held(scene, 4, "/health") as waiting:
            wait_until(lambda: scene.server.status()["server"]["lanes"]["host"]["waiting"] == 4, 30)
            refused = [scene.server.ask("GET", "/health") for _ in range(10)]
            assert {(answer.status, answer.json()["code"]) for answer in refused} == {
                (503, "too_many_requests_waiting")}
            assert command(scene, "status") in (200, 202)
            with scene.server.opened():
                scene.last(0.5)
            release(scene)
            assert [http.answer().status for http in [*holding, *waiting]] == [200] * 8
        scene.row.note = "10 host requests refused with 503"


# -- the governor --------------------------------------------------------------------------------------------------


def test_a_governor_that_hangs(fault: Any) -> None:
    """While a governor hangs, commands are accepted up to a bound, then refused; all else goes on."""
    with fault(f"governor hangs for {MINUTE:g} s", OURS + ", host", HYBRID_COMMAND_QUEUE=5) as scene:
        assert command(scene, "set_mode", mode="frozen") in (200, 202)
        answers = [command(scene, "stop") for _ in range(10)]
        # How many: the one that hangs, perhaps the change of mode before it, and five that wait.
        assert answers[0] == 202
        assert answers[-1] == 429
        assert set(answers) == {202, 429}
        asked = [command(scene, "status") for _ in range(3)]
        assert set(asked) <= {202}
        scene.last(MINUTE)
        # The orders' worker hangs: only the host can let go.
        scene.server.ask("POST", "/release")
        wait_until(lambda: scene.server.status()["commands_waiting"] == 0, 30)
        assert command(scene, "set_mode", mode="fast") in (200, 202)
        scene.row.note = f"{answers.count(429)} of {len(answers)} commands refused with 429"


def test_a_governor_that_raises(fault: Any) -> None:
    """A governor that raises has a command fail, which is told; the next one is carried out."""
    with fault("governor raises", OURS + ", host") as scene, scene.server.opened() as stream:
        answers = [command(scene, "set_mode", mode="explosive") for _ in range(10)]
        assert set(answers) <= {202, 500}
        results = stream.wait_for("control_result", 10, 30)
        assert {result["status"] for result in results} == {"failed"}
        assert command(scene, "set_mode", mode="fast") in (200, 202)
        assert stream.wait_for("control_result", 11, 30)[-1]["status"] == "done"
        scene.last(0.2)
        scene.row.note = "10 commands failed, told as control_result"


def test_a_governor_that_is_killed(fault: Any) -> None:
    """A governor whose process is killed is the governor's trouble: its status is told, it is started again."""
    with fault("governor's process killed", OURS + ", host") as scene, scene.server.opened() as stream:
        for turn in range(3):
            assert command(scene, "start") in (200, 202)
            child = wait_until(lambda: psutil.Process(scene.pid).children(), 30, "its process")[0]
            os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            assert command(scene, "status") in (200, 202)
            assert command(scene, "stop") in (200, 202)
            results = stream.wait_for("control_result", 2 * (turn + 1), 30)
            assert results[-1]["status"] == "done"
        scene.last(0.2)
        wait_until(lambda: not psutil.Process(scene.pid).children(), 30, "no child to be left")
        scene.row.note = "killed and started again, 3 times"


# -- receivers -----------------------------------------------------------------------------------------------------


def test_receivers_that_raise(fault: Any) -> None:
    """A receiver of every event that raises is counted and breaks no emit."""
    with fault("blinker receiver raises at every event", UP) as scene:
        assert scene.server.ask("POST", "/receiver", {"kind": "raise"}).status == 200
        scene.last(1)
        errors = wait_until(lambda: scene.server.status()["receiver_errors"], 30)
        scene.server.ask("DELETE", "/receiver")
        scene.row.note = f"{errors} errors counted"


def test_receivers_that_block(fault: Any) -> None:
    """A receiver that blocks delays whoever emitted to it; others emit, and its event is delivered all the same."""
    with fault(f"blinker receiver blocks for {MINUTE:g} s", UP) as scene, scene.server.opened() as stream:
        assert scene.server.ask("POST", "/receiver", {"kind": "block"}).status == 200
        with scene.server.connect() as http:
            http.request("POST", "/emit", {"event": "poisoned"})
            stream.wait_for("poisoned", 1, 30)
            scene.last(MINUTE)
            assert http.quiet(), "its emitter waits for it"
            release(scene)
            http.sock.settimeout(60)
            assert http.answer().status == 200
        scene.server.ask("DELETE", "/receiver")
        assert wait_until(lambda: scene.server.status()["slow_receivers"], 30) >= 1
        scene.row.note = "delivered at once; only its emitter waited"
