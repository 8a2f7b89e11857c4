"""The bus: receivers come and go, raise and dawdle, and no emit ever suffers."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import blinker
import pytest
from support.log_records import own_records

from hakgal_hybrid import signals
from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.broker import Broker
from hakgal_hybrid.broker.cursor import Cursor
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.signals import connect, event_emitted

APP = object()


class Bus:
    """A log whose events are announced, as a transport has it."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.announcer = signals.Announcer(APP)
        self.broker = Broker(log, lambda event, seq: self.announcer.announce(
            event_emitted, event=event, event_id=log.id_of(seq)))


@pytest.fixture
def bus() -> Bus:
    log = EventLog(epoch=1, clock=lambda: 0.0, wall_ms=lambda: 0, encode=encode_entry, max_events=10_000,
                   max_bytes=1 << 20, max_event_bytes=1000)
    return Bus(log)


@pytest.fixture
def _everybody_is_slow(bus: Bus) -> None:
    """Have every receiver take longer than it may, without waiting for one."""
    bus.announcer = signals.Announcer(APP, slow_s=-1.0)


@pytest.fixture
def _nobody_is_slow(bus: Bus) -> None:
    """Have no receiver called slow on a machine that is."""
    bus.announcer = signals.Announcer(APP, slow_s=3600.0)


def emit(bus: Bus, name: str = "e", *args: Any) -> int:
    entry = bus.broker.publish(Event.create(name, args))
    assert entry is not None
    return entry.seq


def in_log(bus: Bus) -> list[str]:
    entries = Cursor(bus.log, 0, lambda seq, name, target: True).read(max_bytes=1 << 30).entries
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return [entry.event.name for entry in entries]


def broken(sender: object, **values: Any) -> None:
    raise RuntimeError("a receiver's own trouble")


# -- announcing ------------------------------------------------------------------------------------------------

def test_receiver_is_told_event_and_id_by_the_app(bus):
    """A receiver gets the real app as sender, the event and the id it has in the stream."""
    heard = []
    with event_emitted.connected_to(lambda sender, **values: heard.append((sender, values))):
        emit(bus, "kb_update", 5)
    ((sender, values),) = heard
    assert sender is APP
    assert (values["event"].name, values["event"].data, values["event_id"]) == ("kb_update", "5", "1-1")


def test_event_is_in_the_log_before_it_is_announced(bus):
    """A receiver finds the event in the log already, and writers have been woken."""
    seen = []
    bus.broker.add_waker(lambda: seen.append(("woken", bus.log.newest)))
    with event_emitted.connected_to(lambda sender, **values: seen.append(("told", bus.log.newest))):
        emit(bus)
    assert seen == [("woken", 1), ("told", 1)]


def test_receiver_of_another_app_is_not_told(bus):
    """Several apps in one process do not hear each other."""
    heard = []
    with event_emitted.connected_to(lambda sender, **values: heard.append(sender), sender=object()):
        emit(bus)
    assert heard == []


def test_refused_event_is_not_announced(bus):
    """An event that is too large was never emitted."""
    heard = []
    with event_emitted.connected_to(lambda sender, **values: heard.append(values)):
        with pytest.raises(ValueError, match="HYBRID_MAX_EVENT_BYTES"):
            emit(bus, "e", "x" * 2000)
    assert heard == []


@pytest.mark.usefixtures("_nobody_is_slow")
def test_receiver_that_raises_breaks_nothing(bus, caplog):
    """A receiver that raises is logged with its traceback and counted; the emit and other receivers go on."""
    heard = []
    with event_emitted.connected_to(broken), event_emitted.connected_to(lambda sender, **values: heard.append(values)):
        assert [emit(bus), emit(bus), emit(bus)] == [1, 2, 3]
    assert len(heard) == 3
    assert (bus.announcer.errors, bus.announcer.slow) == (3, 0)
    assert in_log(bus) == ["e"] * 3
    assert [record.levelno for record in own_records(caplog)] == [logging.ERROR] * 3
    assert "event-emitted" in caplog.text
    assert "a receiver's own trouble" in caplog.text


@pytest.mark.usefixtures("_everybody_is_slow")
def test_receiver_that_is_slow_is_named_and_counted(bus, caplog):
    """A receiver that takes too long is warned about by name; order and delivery do not change."""
    def dawdler(sender: object, **values: Any) -> None: ...

    with event_emitted.connected_to(dawdler):
        assert [emit(bus), emit(bus)] == [1, 2]
    assert (bus.announcer.errors, bus.announcer.slow) == (0, 2)
    assert "dawdler" in caplog.text
    assert in_log(bus) == ["e"] * 2


@pytest.mark.usefixtures("_everybody_is_slow")
def test_receiver_that_is_slow_and_raises_is_counted_twice(bus):
    """Being slow and raising are two troubles."""
    with event_emitted.connected_to(broken):
        emit(bus)
    assert (bus.announcer.errors, bus.announcer.slow) == (1, 1)


def test_slow_receiver_delays_only_its_own_emitter(bus):
    """While a receiver holds up one emitter, others emit and readers read, the held event included."""
    arrived, release = threading.Event(), threading.Event()

    def holding(sender: object, *, event: Event, **values: Any) -> None:
        if event.name == "held":
            arrived.set()
            assert release.wait(30)

    with event_emitted.connected_to(holding):
        emitter = threading.Thread(target=emit, args=(bus, "held"))
        emitter.start()
        assert arrived.wait(30)
        assert emit(bus, "free") == 2
        assert in_log(bus) == ["held", "free"]
        assert emitter.is_alive()
        release.set()
        emitter.join(30)
    assert not emitter.is_alive()
    assert bus.announcer.errors == 0


def test_emits_from_receivers_keep_the_order_of_ids(bus):
    """A receiver that emits comes after what it answers to, and no id is out of order."""
    told = []

    def answering(sender: object, *, event: Event, event_id: str) -> None:
        told.append((event_id, event.name))
        if event.name != "answer":
            emit(bus, "answer")

    with event_emitted.connected_to(answering):
        for name in "abc":
            emit(bus, name)
    assert in_log(bus) == ["a", "answer", "b", "answer", "c", "answer"]
    assert told == [(f"1-{number}", name) for number, name in enumerate(in_log(bus), 1)]


def test_emits_from_receivers_in_many_threads(bus):
    """However many threads emit and have receivers emit, every event gets one id and every answer follows its cause."""
    def answering(sender: object, *, event: Event, **values: Any) -> None:
        if event.name == "cause":
            bus.broker.publish(Event("answer", event.data, 1))

    def causing(number: int) -> None:
        for count in range(50):
            emit(bus, "cause", f"{number}/{count}")

    with event_emitted.connected_to(answering), event_emitted.connected_to(broken):
        threads = [threading.Thread(target=causing, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(in_log(bus)) == 600
    entries = bus.log.since(0)[1]
    place = {(entry.event.name, entry.event.data): entry.seq for entry in entries}
    assert len(place) == 600
    assert all(place["answer", data] > seq for (name, data), seq in place.items() if name == "cause")
    assert bus.announcer.errors == 600


def test_receiver_that_answers_itself_for_ever_is_stopped(bus):
    """A receiver that emits at every emit runs into Python's stack limit, which is counted; the emitter survives."""
    def echo(sender: object, **values: Any) -> None:
        emit(bus, "echo")

    with event_emitted.connected_to(echo):
        assert emit(bus) == 1
    assert bus.announcer.errors > 0
    assert set(in_log(bus)[1:]) == {"echo"}


def test_receivers_may_come_and_go_while_one_is_called(bus):
    """A receiver that disconnects itself or connects another disturbs nobody."""
    heard = []

    def late(sender: object, **values: Any) -> None:
        heard.append("late")

    def once(sender: object, **values: Any) -> None:
        heard.append("once")
        event_emitted.disconnect(once)
        event_emitted.connect(late)

    event_emitted.connect(once)
    try:
        emit(bus)
        emit(bus)
    finally:
        event_emitted.disconnect(once)
        event_emitted.disconnect(late)
    assert heard == ["once", "late"]
    assert bus.announcer.errors == 0


def test_receivers_that_come_late_or_are_gone(bus):
    """Whether anybody listens is asked for every event: one that comes is told the next, one that died nothing more."""
    heard = []

    def receiver(sender: object, **values: Any) -> None:
        heard.append(values["event_id"])

    emit(bus)
    event_emitted.connect(receiver, sender=APP)
    emit(bus)
    del receiver
    gc.collect()
    emit(bus)
    assert heard == ["1-2"]
    assert bus.announcer.errors == 0


def test_muted_signal_is_silent(bus):
    """Blinker's muted() holds for us too: tests of hosts rely on it."""
    heard = []
    with event_emitted.connected_to(lambda sender, **values: heard.append(values)):
        with event_emitted.muted():
            emit(bus)
        emit(bus)
    assert len(heard) == 1


def test_signals_are_documented_and_in_one_namespace():
    """Every signal says what it means, and all are found in our namespace."""
    assert set(signals.namespace) == {"event-emitted", "command-received", "command-finished", "client-connected",
                                      "client-gone", "client-lagged", "transport-degraded", "backplane-changed",
                                      "events-lost"}
    assert all(signal.__doc__ for signal in signals.namespace.values())
    assert signals.namespace["event-emitted"] is event_emitted


# -- bridging --------------------------------------------------------------------------------------------------

def bridge(bus: Any, signal: blinker.Signal, send: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
    """Have a function called with a signal's keywords, as the apps of a transport do it."""
    return connect(signal, lambda sender, values: bus.announcer.forward(signal, send, values))


@pytest.fixture
def foreign() -> blinker.Signal:
    """A signal of somebody else's."""
    return blinker.Signal()


@pytest.fixture
def bridged(bus, foreign) -> Iterator[Any]:
    """The foreign signal bridged to the event "bridged"; the value ends it."""
    end = bridge(bus, foreign, lambda values: emit(bus, "bridged", values))
    yield end
    end()


@pytest.mark.usefixtures("bridged")
def test_bridged_signal_becomes_an_event(bus, foreign):
    """Every sending of a bridged signal, whoever sends it, is an event with its keywords as payload."""
    foreign.send("somebody", fact="IsA(x, y)", n=1)
    foreign.send(None)
    assert in_log(bus) == ["bridged", "bridged"]
    assert [entry.event.data for entry in bus.log.since(0)[1]] == ['{"fact":"IsA(x, y)","n":1}', "{}"]


def test_bridge_ends(bus, foreign, bridged):
    """After its end a bridge carries nothing, and ending it again does no harm."""
    foreign.send(None)
    bridged()
    bridged()
    foreign.send(None)
    assert in_log(bus) == ["bridged"]
    assert not foreign.receivers


@pytest.mark.usefixtures("bridged")
def test_unserialisable_payload_of_a_bridge_is_counted(bus, foreign, caplog):
    """Who sends a signal did not ask for an event: a payload that cannot be sent is logged and counted."""
    heard = []
    with foreign.connected_to(lambda sender, **values: heard.append(values)):
        foreign.send(None, thing=object())
        foreign.send(None, thing=float("nan"))
        foreign.send(None, thing=1)
    assert bus.announcer.errors == 2
    assert in_log(bus) == ["bridged"]
    assert len(heard) == 3
    assert "could not be bridged" in caplog.text


def test_two_bridges_of_one_signal(bus, foreign):
    """A signal may be bridged twice, and each bridge ends for itself."""
    ends = [bridge(bus, foreign, lambda values, name=name: emit(bus, name)) for name in ("a", "b")]
    foreign.send(None)
    ends[0]()
    foreign.send(None)
    ends[1]()
    foreign.send(None)
    assert sorted(in_log(bus)) == ["a", "b", "b"]


def test_bridge_of_our_own_signal_does_not_run_away(bus):
    """Bridging event_emitted itself would answer every event with an event; the stack limit ends that, counted."""
    end = bridge(bus, event_emitted, lambda values: emit(bus, "again", values["event_id"]))
    try:
        assert emit(bus) == 1
    finally:
        end()
    assert bus.announcer.errors > 0
    assert in_log(bus)[:2] == ["e", "again"]
