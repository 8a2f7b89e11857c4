"""Commands: carried out in order, answered in time, remembered, and never lost silently."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import pytest

from hakgal_hybrid.broker.payload import payload_text
from hakgal_hybrid.commands.command_store import Command
from hakgal_hybrid.commands.governor import INLINE_WAIT_S, GovernorQueue
from hakgal_hybrid.commands.worker import Worker
from hakgal_hybrid.errors import Overloaded, RequestError

#: How long a state may take to come about (seconds) before a test gives up.
PATIENCE = 30


class Governor:
    """Acts like a host's governor: ``stop`` blocks until it is let go, the rest answers at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.mode = "balanced"
        self.stopping = threading.Event()
        self.let_go = threading.Event()

    def start(self) -> str:
        self.calls.append("start")
        return "started"

    def stop(self) -> str:
        self.stopping.set()
        assert self.let_go.wait(PATIENCE)
        self.calls.append("stop")
        return "stopped"

    def set_mode(self, mode: str) -> dict[str, str]:
        self.calls.append(f"set_mode {mode}")
        self.mode = mode
        return {"mode": mode}

    def get_status(self) -> Any:
        return {"mode": self.mode, "running": not self.stopping.is_set()}


class Office:
    """A queue, its governor, and what it told."""

    inline_wait_s = INLINE_WAIT_S

    def __init__(self, governor: Any = None, *, queue_limit: int = 10, results: int = 100) -> None:
        self.governor = Governor() if governor is None else governor
        self.told: list[tuple[str, str]] = []
        self.statuses: list[Any] = []
        self.finished = threading.Condition()
        self.desk = GovernorQueue(lambda: self.governor, queue_limit=queue_limit, results=results,
                                 on_received=lambda command: self.told.append(("received", command.id)),
                                 on_finished=self.on_finished, inline_wait_s=self.inline_wait_s)

    def on_finished(self, command: Command, status: dict[str, Any] | None) -> None:
        with self.finished:
            self.told.append(("finished", command.id))
            self.statuses.append(status)
            self.finished.notify_all()

    def order(self, action: Any, key: str | None = None, **arguments: Any) -> Command:
        return self.desk.take(action, arguments, key)[0]

    def wait_for(self, *orders: Command) -> None:
        """Wait until the end of these orders has been told."""
        with self.finished:
            assert self.finished.wait_for(lambda: all(("finished", one.id) in self.told for one in orders), PATIENCE)

    def blocked(self) -> Command:
        """Have the governor begin to stop, and not end."""
        command = self.order("stop")
        assert self.governor.stopping.wait(PATIENCE)
        return command


@pytest.fixture
def office() -> Any:
    office = Office()
    yield office
    office.governor.let_go.set()


@pytest.fixture
def _patient(monkeypatch) -> None:
    """Have answers wait for their commands, so that a slow machine makes no difference."""
    monkeypatch.setattr(Office, "inline_wait_s", PATIENCE)


# -- the worker ------------------------------------------------------------------------------------------------

def test_worker_keeps_the_order():
    """Tasks run one after the other, in the order they were submitted, in one thread that is not ours."""
    worker = Worker("test-worker", 1000)
    ran: list[tuple[int, str]] = []
    done = threading.Event()
    for number in range(200):
        assert worker.submit(lambda number=number: ran.append((number, threading.current_thread().name)))
    assert worker.submit(done.set)
    assert done.wait(PATIENCE)
    assert ran == [(number, "test-worker") for number in range(200)]


def test_worker_does_not_keep_the_process_alive():
    """The thread is a daemon."""
    daemon: list[bool] = []
    done = threading.Event()
    Worker("test-daemon", 1).submit(lambda: (daemon.append(threading.current_thread().daemon), done.set()))
    assert done.wait(PATIENCE)
    assert daemon == [True]


def test_worker_is_bounded():
    """As many tasks as the limit may wait, not counting the one that runs; one more is refused and not run."""
    worker = Worker("test-bound", 3)
    begun, gate, done = threading.Event(), threading.Event(), threading.Event()
    ran: list[int] = []
    assert worker.submit(lambda: (begun.set(), gate.wait(PATIENCE)))
    assert begun.wait(PATIENCE)
    assert [worker.submit(lambda number=number: ran.append(number)) for number in range(5)] == [True] * 3 + [False] * 2
    assert worker.waiting == 3
    gate.set()
    while not worker.submit(done.set):  # there is room as soon as one of them has begun
        pass
    assert done.wait(PATIENCE)
    assert ran == [0, 1, 2]
    assert worker.waiting == 0


def test_worker_survives_a_task_that_raises(caplog):
    """A task that raises is logged, and the next one runs."""
    worker = Worker("test-raise", 10)
    done = threading.Event()

    def fails() -> None:
        raise RuntimeError("what a task said")

    worker.submit(fails)
    worker.submit(done.set)
    assert done.wait(PATIENCE)
    assert "what a task said" in caplog.text


def test_worker_survives_a_task_that_exits():
    """A task that calls sys.exit does not strand those that wait behind it."""
    worker = Worker("test-exit", 10)
    gate, done = threading.Event(), threading.Event()

    def exits() -> None:
        gate.wait(PATIENCE)
        raise SystemExit

    worker.submit(exits)
    worker.submit(done.set)
    gate.set()
    assert done.wait(PATIENCE)


# -- orders ----------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(("action", "arguments", "result"), [
    ("start", {}, "started"), ("set_mode", {"mode": "eco"}, {"mode": "eco"}),
    ("status", {}, {"mode": "balanced", "running": True}),
])
def test_quick_command_is_done_when_it_is_answered(office, action, arguments, result):
    """The answer to a command that ends in time has its result."""
    command, repeated = office.desk.take(action, arguments)
    assert not repeated
    assert command.report() == {"status": "done", "id": command.id, "action": action, "result": result}
    assert office.desk.store.find(command.id) is command


def test_answer_does_not_wait_for_a_command_that_takes_its_time(office):
    """The answer to a command that blocks comes after a grace of 25 ms, while it still runs."""
    assert INLINE_WAIT_S == 0.025
    command = office.blocked()
    assert not command.wait(0)
    assert command.report() == {"status": "running", "id": command.id, "action": "stop"}
    office.governor.let_go.set()
    office.wait_for(command)
    assert command.report() == {"status": "done", "id": command.id, "action": "stop", "result": "stopped"}


def test_orders_are_carried_out_in_order(office):
    """What is ordered while another order runs waits for its turn, in the order it came."""
    orders = [office.blocked()]
    for mode in ("eco", "turbo"):
        orders.append(office.order("set_mode", mode=mode))
    orders.append(office.order("start"))
    assert office.desk.waiting == 3
    assert [one.report()["status"] for one in orders] == ["running", "accepted", "accepted", "accepted"]
    office.governor.let_go.set()
    office.wait_for(*orders)
    assert office.governor.calls == ["stop", "set_mode eco", "set_mode turbo", "start"]
    assert office.told == [(what, one.id) for one in orders for what in ("received", "finished")]
    assert office.statuses[-1] == {"mode": "turbo", "running": False}


def test_status_answers_while_stop_blocks(office):
    """Asking how the governor is does not queue behind what it is doing, even if many orders wait."""
    stop = office.blocked()
    waiting = [office.order("start") for _ in range(5)]
    status = office.order("status")
    assert status.wait(PATIENCE)
    assert status.report()["result"] == {"mode": "balanced", "running": False}
    assert not stop.wait(0)
    assert not any(one.wait(0) for one in waiting)


@pytest.mark.usefixtures("_patient")
def test_status_after_a_command_is_told(office):
    """The end of an order is told with the governor's status after it; that of an inquiry without."""
    office.wait_for(office.order("set_mode", mode="eco"))
    office.wait_for(office.order("status"))
    assert office.statuses == [{"mode": "eco", "running": True}, None]


@pytest.mark.parametrize("action", ["restart", "", "START", "start ", None, 5, ["start"], {"start": 1}, "__init__",
                                    "get_status"])
def test_unknown_action_is_refused(office, action):
    """An action that does not exist is 422 and names those that do."""
    with pytest.raises(RequestError, match="start, stop, status, set_mode") as caught:
        office.order(action)
    problem = caught.value.problem()
    assert (problem["status"], problem["code"]) == (422, "unknown_action")
    assert problem["accepted"] == ["start", "stop", "status", "set_mode"]


@pytest.mark.parametrize("arguments", [{}, {"mode": None}, {"mode": ""}, {"mode": 5}, {"mode": ["eco"]},
                                       {"Mode": "eco"}])
def test_missing_mode_is_refused(office, arguments):
    """set_mode without a mode, or with one that is no text, is 422, and nothing is ordered."""
    with pytest.raises(RequestError, match="'mode'") as caught:
        office.desk.take("set_mode", arguments)
    assert (caught.value.status, caught.value.code) == (422, "missing_argument")
    assert office.told == []


@pytest.mark.usefixtures("_patient")
def test_other_members_of_the_body_are_not_passed_on(office):
    """Only what an action needs reaches the governor."""
    command, _ = office.desk.take("set_mode", {"mode": "eco", "action": "set_mode", "extra": [1]})
    assert command.arguments == {"mode": "eco"}
    assert command.report()["status"] == "done"
    assert office.order("start", mode="eco").arguments == {}


def test_no_governor_is_a_conflict():
    """A host that has no governor answers 409."""
    desk = GovernorQueue(lambda: None, queue_limit=1, results=1, on_received=lambda command: None,
                        on_finished=lambda command, status: None)
    with pytest.raises(RequestError) as caught:
        desk.take("status", {})
    assert (caught.value.status, caught.value.code) == (409, "no_governor")


def test_unknown_command_is_not_found(office):
    """Asking for a command that never was is 404."""
    with pytest.raises(RequestError) as caught:
        office.desk.store.find("nonsense")
    assert (caught.value.status, caught.value.code) == (404, "unknown_command")


# -- failures --------------------------------------------------------------------------------------------------

class Trouble(Governor):
    """A governor that answers ``start`` with whatever it was given, raised if it can be."""

    def __init__(self, outcome: Any) -> None:
        super().__init__()
        self.outcome = outcome

    def start(self) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Process:
    def __repr__(self) -> str:
        return "<Popen: returncode: None>"


@pytest.mark.usefixtures("_patient")
def test_failure_is_told_and_the_next_order_works(caplog):
    """A governor that raises makes that one command fail, with what it raised; the next is carried out."""
    office = Office(Trouble(RuntimeError("engine on fire")))
    failed = office.order("start")
    assert failed.report() == {"status": "failed", "id": failed.id, "action": "start",
                               "error": "RuntimeError: engine on fire"}
    assert office.order("set_mode", mode="eco").report()["status"] == "done"
    office.wait_for(failed)
    assert "engine on fire" in caplog.text


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("action", ["start", "status"])
def test_governor_without_the_method_fails(action):
    """A governor that does not know an action makes the command fail, and the missing status is no second failure."""
    office = Office(object())
    command = office.order(action)
    assert command.report()["status"] == "failed"
    assert "AttributeError" in command.report()["error"]
    office.wait_for(command)
    assert office.statuses == [None]


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("outcome", [UnspeakableError(), SystemExit("governor quits"), OSError("\udcff")],
                         ids=["exception without text", "sys.exit", "text with a surrogate"])
def test_odd_failures_are_failures_too(outcome, caplog):
    """Whatever the governor raises, the command ends as failed, its report can be sent, and the next order runs."""
    caplog.set_level("CRITICAL", "hakgal_hybrid.commands")  # pytest-xdist cannot carry a surrogate that was logged
    office = Office(Trouble(outcome))
    command = office.order("start")
    assert command.report()["status"] == "failed"
    assert payload_text("control_result", (command.report(),))
    assert office.order("set_mode", mode="eco").report()["status"] == "done"


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(("outcome", "result"), [
    (None, None), (True, True), ({"process": Process()}, {"process": "<Popen: returncode: None>"}),
    ((1, {2}), [1, [2]]), (float("nan"), "nan"), ({1: b"x"}, {"1": "b'x'"}), ("\ud800", "?"),
])
def test_result_can_always_be_sent(outcome, result):
    """Whatever the governor returns becomes something JSON can hold."""
    office = Office(Trouble(outcome))
    command = office.order("start")
    assert command.report()["result"] == result
    assert json.dumps(command.report(), allow_nan=False)
    assert payload_text("control_result", (command.report(),))


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(("status", "told"), [
    ({"process": Process()}, {"process": "<Popen: returncode: None>"}), ("fine", {"status": "fine"}),
    (None, {"status": None}), ([1], {"status": [1]}), (RuntimeError("no status"), None),
])
def test_status_is_told_in_any_form(status, told):
    """A status that is no dict is wrapped in one, and one that cannot be had is None and fails nothing."""
    class Odd(Governor):
        def get_status(self) -> Any:
            if isinstance(status, Exception):
                raise status
            return status

    office = Office(Odd())
    command = office.order("start")
    office.wait_for(command)
    assert command.report()["status"] == "done"
    assert office.statuses == [told]


# -- repeating -------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("_patient")
def test_same_key_is_the_same_command(office):
    """An order that is repeated under its key is not carried out again; the answer is that of the first."""
    first, repeated = office.desk.take("start", {}, "key")
    assert not repeated
    again, repeated = office.desk.take("start", {"extra": "ignored"}, "key")
    assert repeated
    assert again is first
    assert office.governor.calls == ["start"]


def test_key_of_a_command_that_still_runs(office):
    """A repetition while the first still runs is the first."""
    stop, _ = office.desk.take("stop", {}, "key")
    assert office.governor.stopping.wait(PATIENCE)
    again, repeated = office.desk.take("stop", {}, "key")
    assert again is stop
    assert repeated
    assert office.desk.waiting == 0


@pytest.mark.usefixtures("_patient")
def test_orders_without_or_with_other_keys_are_their_own(office):
    """Without a key, or under another, the same order is another command."""
    for key in (None, None, "a", "b"):
        assert office.desk.take("start", {}, key)[1] is False
    assert office.governor.calls == ["start"] * 4


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(("action", "arguments"), [("start", {}), ("set_mode", {"mode": "turbo"}), ("status", {})])
def test_same_key_for_another_command_is_refused(office, action, arguments):
    """A key that was used for another action or other arguments is refused, and nothing is ordered."""
    office.order("set_mode", "key", mode="eco")
    with pytest.raises(RequestError) as caught:
        office.desk.take(action, arguments, "key")
    assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")
    assert office.governor.calls == ["set_mode eco"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_bad_key_is_refused(office, key):
    """A key has 1 to 255 characters."""
    with pytest.raises(RequestError) as caught:
        office.order("start", key)
    assert (caught.value.status, caught.value.code) == (422, "bad_idempotency_key")
    assert office.governor.calls == []


@pytest.mark.usefixtures("_patient")
def test_longest_key_is_accepted(office):
    """The limit is inclusive."""
    assert office.order("start", "x" * 255).report()["status"] == "done"


@pytest.mark.usefixtures("_patient")
def test_failed_command_is_repeated_as_failed():
    """A repetition of what failed tells of the same failure and tries nothing."""
    office = Office(Trouble(RuntimeError("no")))
    first = office.order("start", "key")
    office.governor.outcome = "would work now"
    assert office.order("start", "key") is first
    assert first.report()["status"] == "failed"


@pytest.mark.usefixtures("_patient")
def test_oldest_commands_are_forgotten():
    """Beyond the limit the oldest finished command is forgotten, with its key, which may then be used again."""
    office = Office(results=2)
    first = office.order("start", "first")
    office.order("start", "second")
    third = office.order("set_mode", "third", mode="eco")
    with pytest.raises(RequestError) as caught:
        office.desk.store.find(first.id)
    assert caught.value.code == "unknown_command"
    assert office.desk.store.find(third.id) is third
    assert office.desk.take("start", {}, "second")[1] is True
    again, repeated = office.desk.take("set_mode", {"mode": "turbo"}, "first")
    assert not repeated
    assert again is not first


def test_unfinished_commands_are_not_forgotten():
    """Asking for the status again and again does not push out an order that still runs, nor its key."""
    office = Office(results=2)
    try:
        stop = office.order("stop", "key")
        assert office.governor.stopping.wait(PATIENCE)
        for _ in range(5):
            assert office.order("status").wait(PATIENCE)
        assert office.desk.store.find(stop.id) is stop
        assert office.desk.take("stop", {}, "key") == (stop, True)
    finally:
        office.governor.let_go.set()


@pytest.mark.usefixtures("_patient")
def test_same_key_from_many_threads(office):
    """Of many equal orders that come at once under one key, one is carried out, and all get its answer."""
    barrier = threading.Barrier(8)
    answers: list[tuple[Command, bool]] = []

    def order() -> None:
        barrier.wait()
        answers.append(office.desk.take("start", {}, "key"))

    threads = [threading.Thread(target=order) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert office.governor.calls == ["start"]
    assert len({command.id for command, _ in answers}) == 1
    assert sorted(repeated for _, repeated in answers) == [False] + [True] * 7


# -- overload --------------------------------------------------------------------------------------------------

def test_full_queue_refuses_and_remembers_nothing():
    """An order that finds no room is 429 with Retry-After; nothing of it is remembered, so it may come again."""
    office = Office(queue_limit=2)
    try:
        running = office.blocked()
        waiting = [office.order("start") for _ in range(2)]
        with pytest.raises(Overloaded, match="HYBRID_COMMAND_QUEUE") as caught:
            office.desk.take("set_mode", {"mode": "eco"}, "key")
        assert (caught.value.status, caught.value.code) == (429, "command_queue_full")
        assert caught.value.headers == {"Retry-After": "5"}
        office.governor.let_go.set()
        office.wait_for(running, *waiting)
        assert office.governor.calls == ["stop", "start", "start"]
        command, repeated = office.desk.take("set_mode", {"mode": "turbo"}, "key")
        assert not repeated
        office.wait_for(command)
        assert office.governor.calls[3:] == ["set_mode turbo"]
    finally:
        office.governor.let_go.set()


def test_full_queue_still_gives_the_answers_it_has():
    """While there is no room, repetitions of earlier orders and status are answered."""
    office = Office(queue_limit=1)
    try:
        office.blocked()
        first, _ = office.desk.take("start", {}, "key")
        with pytest.raises(Overloaded):
            office.order("start")
        assert office.desk.take("start", {}, "key") == (first, True)
        status = office.order("status")
        assert status.wait(PATIENCE)
        assert status.report()["status"] == "done"
    finally:
        office.governor.let_go.set()


def test_a_worker_whom_the_system_gives_no_thread(monkeypatch, caplog):
    """What is submitted meanwhile raises nothing, and is carried out by the first thread that there is."""
    worker, done = Worker("test", 10), threading.Event()

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", start)
        assert worker.submit(done.set)
    assert "no thread" in caplog.text
    assert worker.submit(lambda: None)
    assert done.wait(PATIENCE)


def test_a_worker_with_several_threads_is_not_held_up_by_one_task():
    """One task that hangs costs one of its threads, also if the next one comes just as that thread takes it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # or threads hardly ever meet there
    try:
        for _ in range(200):
            worker, release, done = Worker("several", limit=100, threads=2), threading.Event(), threading.Event()
            assert worker.submit(lambda release=release: release.wait(30))
            assert worker.submit(done.set)
            assert done.wait(20)
            release.set()
    finally:
        sys.setswitchinterval(interval)


def test_threads_without_work_end():
    """A thread ends after a while without work, and the next task starts another one."""
    worker = Worker("idle", limit=100, idle_s=0.01)
    for _ in range(3):
        done = threading.Event()
        assert worker.submit(done.set)
        assert done.wait(30)
        for thread in worker._threads:
            thread.join(30)
        assert worker._threads == []
