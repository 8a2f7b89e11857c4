"""The state machines: their tables are whole, and nothing else can happen."""

from __future__ import annotations

from typing import Any

import pytest

from hakgal_hybrid.broker.states import (
    MACHINES,
    ClientEvent,
    ClientState,
    EngineState,
    SessionState,
    StreamEnd,
    StreamEvent,
    StreamState,
    after,
)

FINAL = {StreamState.ENDED, SessionState.ENDED, ClientState.GONE, EngineState.ENDED}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_complete(name: str) -> None:
    """A state and an event have one row; every state can be reached from the first one, and all but the last left."""
    table = MACHINES[name]
    assert len({(row.state, row.event) for row in table}) == len(table)
    states: set[Any] = set(type(table[0].state))
    first = {table[0].state, SessionState.STANDALONE} & states
    assert {row.after for row in table} | first == states
    assert {row.state for row in table} == states - FINAL


def test_what_is_not_in_the_table_is_refused() -> None:
    """A transition that cannot be is an error that names state and event."""
    assert after(StreamState.OPENING, StreamEvent.OPENED) is StreamState.CATCHING_UP
    with pytest.raises(RuntimeError, match=r"CAUGHT_UP cannot happen in .*ENDED"):
        after(StreamState.ENDED, StreamEvent.CAUGHT_UP)
    with pytest.raises(RuntimeError):
        after(ClientState.GONE, ClientEvent.HANDLED)


def test_the_reasons_for_an_end_are_codes_with_a_text() -> None:
    """A reason is its code, wherever a string is wanted, and says what it means."""
    assert {end.value for end in StreamEnd} == set(StreamEnd)
    assert all(end.text and StreamEnd.of(end.value) is end for end in StreamEnd)
