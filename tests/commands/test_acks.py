"""Acks: callbacks wait for clients, in bounds, and each client answers once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.broker.entry import Entry
from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.commands.acks import Acks
from hakgal_hybrid.errors import RequestError

A, B = (Client({}, "/") for _ in range(2))


def expect(acks: Acks, callback: Callable[..., object], to: object = None) -> str:
    """Return the id of an event with a callback, for everybody or for one client."""
    ack = acks.new_id()
    event = Event.create("e", (), Target.create(to=to), ack=ack)
    acks.register(ack, callback, Entry(1, 0.0, 0, event, b""))
    return ack


def test_an_answer_calls_the_callback_with_its_arguments():
    """The arguments of the acknowledgement are those of the callback."""
    acks, got = Acks(), []
    ack = expect(acks, lambda *args: got.append(args), A.sid)
    acks.answer(ack, A, [1, {"two": 2}])
    assert got == [(1, {"two": 2})]
    assert len(acks) == 0


def test_each_client_answers_once():
    """An event for several clients has its callback called for each of them, and not again."""
    acks, got = Acks(), []
    ack = expect(acks, got.append)
    acks.answer(ack, A, ["from a"])
    acks.answer(ack, B, ["from b"])
    with pytest.raises(RequestError, match="no acknowledgement") as refused:
        acks.answer(ack, A, ["again"])
    assert (refused.value.status, refused.value.code) == (404, "unknown_ack")
    assert got == ["from a", "from b"]


@pytest.mark.parametrize("ack", ["made up", None, 7, ["list"], {}])
def test_an_id_that_nobody_gave_out(ack):
    """An id that is not known is refused, whatever it is."""
    with pytest.raises(RequestError):
        Acks().answer(ack, A, [])


def test_the_oldest_gives_way():
    """Clients need not answer: what waits is bounded, and what was dropped is counted."""
    acks = Acks(limit=2)
    ids = [expect(acks, print) for _ in range(3)]
    assert (len(acks), acks.dropped) == (2, 1)
    with pytest.raises(RequestError):
        acks.answer(ids[0], A, [])


def test_an_error_of_the_callback_is_its_callers(caplog):
    """A callback's exception reaches whoever brought the answer; the id is used up all the same."""
    acks = Acks()
    ack = expect(acks, lambda: 1 / 0, A.sid)
    with pytest.raises(ZeroDivisionError):
        acks.answer(ack, A, [])
    with pytest.raises(RequestError):
        acks.answer(ack, A, [])


def test_only_who_got_the_event_may_answer():
    """Streams are shared: who has only seen the id of an event for somebody else is refused."""
    acks, got = Acks(), []
    ack = expect(acks, got.append, A.sid)
    with pytest.raises(RequestError):
        acks.answer(ack, B, ["not mine"])
    acks.answer(ack, A, ["mine"])
    assert got == ["mine"]
