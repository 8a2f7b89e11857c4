"""Links: places for streams, coming back, and what happens if nobody does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.hubs import make_hub

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import MAX_SESSION_CLIENTS, Session, steady
from hakgal_hybrid.broker.event import Target
from hakgal_hybrid.broker.hub import Hub
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sessions import SessionRegistry
from hakgal_hybrid.broker.states import SessionState
from hakgal_hybrid.errors import AccessDenied, Overloaded


class Watched(SessionRegistry):
    """Links that tell what lapsed."""

    def __init__(self, **bounds: Any) -> None:
        self.over: list[Session] = []
        self.lapsed = threading.Event()
        settings = {"max_streams": 100, "max_per_address": 100, "connect_s": 60, "resume_s": 60, **bounds}
        super().__init__(self._note, **settings)

    def _note(self, session: Session, before: SessionState) -> None:
        self.over.append(session)
        self.lapsed.set()


class Carrier:
    """A stream, as far as a link knows it."""

    changes = 0

    def clients_changed(self) -> None:
        self.changes += 1


def open_one(sessions: SessionRegistry, address: str = "here") -> Session:
    session = sessions.make({"REMOTE_ADDR": address}, 0)
    sessions.attach(session, Carrier())
    return session


def test_a_link_is_found_by_its_ticket_while_it_lives():
    """A ticket is good from the making of a link until nobody can come back to it."""
    sessions = Watched()
    session = sessions.make({}, 7)
    assert sessions.find(sessions.ticket_of(session)) is session
    assert session.start == 7
    for nonsense in ("", None, 7, session.ticket[:-1]):
        assert sessions.find(nonsense) is None
    assert sessions.drop(session)
    assert not sessions.drop(session)
    assert sessions.find(session.ticket) is None


def test_a_link_nobody_opens_lapses():
    """Who connects and opens no stream is over after a while."""
    sessions = Watched(connect_s=0.01)
    session = sessions.make({}, 0)
    sessions.expect(session)
    assert sessions.lapsed.wait(10)
    assert sessions.over == [session]
    assert session.state is SessionState.ENDED
    with pytest.raises(AccessDenied) as refused:
        sessions.attach(session, Carrier())
    assert refused.value.code == "bad_ticket"


def test_a_link_whose_stream_is_gone_lapses():
    """Who does not come back in time is over."""
    sessions = Watched(resume_s=0.01)
    session = open_one(sessions)
    assert sessions.detach(session, session.carrier)
    assert sessions.lapsed.wait(10)
    assert sessions.over == [session]


def test_coming_back_in_time():
    """A stream that begins in time cancels the deadline of the one before."""
    sessions = Watched()
    session = open_one(sessions)
    assert sessions.detach(session, session.carrier)
    deadline = session.deadline
    assert deadline is not None
    assert sessions.open == 0
    again = Carrier()
    assert not sessions.attach(session, again)  # there is nobody to be told
    assert deadline.call is None
    assert session.deadline is None
    assert sessions.open == 1
    assert sessions.find(sessions.ticket_of(session)) is session


def test_without_a_time_to_come_back_it_is_over_at_once():
    """``HYBRID_RESUME_S=0`` means that a client ends with its stream."""
    sessions = Watched(resume_s=0)
    session = open_one(sessions)
    assert sessions.detach(session, session.carrier)
    assert sessions.over == [session]


def test_a_replaced_stream_ends_nothing():
    """The end of a stream that another one has replaced is not the end of the link's stream."""
    sessions = Watched()
    session = open_one(sessions)
    first, second = session.carrier, Carrier()
    assert sessions.attach(session, second)
    assert first.changes == 1  # its writer must close it
    assert sessions.open == 1
    assert not sessions.detach(session, first)
    assert session.carrier is second
    assert sessions.detach(session, second)
    assert sessions.open == 0


def test_places_are_taken_by_those_who_are_there_or_about_to_be():
    """Open streams and those about to open hold places; streams that are away hold none."""
    sessions = Watched(max_streams=2)
    first = open_one(sessions)
    sessions.make({}, 0)
    with pytest.raises(Overloaded) as refused:
        sessions.make({}, 0)
    assert (refused.value.status, sessions.refused) == (503, 1)
    sessions.detach(first, first.carrier)
    third = open_one(sessions)
    with pytest.raises(Overloaded):  # its place is another's by now
        sessions.attach(first, Carrier())
    sessions.detach(third, third.carrier)
    sessions.attach(first, Carrier())
    assert sessions.open == 1


def test_places_of_one_address():
    """An address has a bound of its own, and gets its places back."""
    sessions = Watched(max_per_address=1)
    session = open_one(sessions, "there")
    with pytest.raises(Overloaded) as refused:
        sessions.make({"REMOTE_ADDR": "there"}, 0)
    assert refused.value.status == 429
    open_one(sessions, "elsewhere")
    sessions.detach(session, session.carrier)
    sessions.drop(session)
    assert dict(sessions._per_address) == {"elsewhere": 1}
    open_one(sessions, "there")


def test_lasting_links_need_no_place_and_never_lapse():
    """A test client's link has no stream and takes nobody's place."""
    sessions = Watched(max_streams=0)
    session = sessions.make({}, 0, standalone=True)
    assert session.deadline is None
    assert sessions.drop(session)
    assert sessions._slots == 0


def hub_of(**bounds: Any) -> Hub:
    log = EventLog(epoch=1, clock=lambda: 0.0, wall_ms=lambda: 0, encode=encode_entry, max_events=100,
                   max_bytes=10_000, max_event_bytes=1000)
    return make_hub(log, **bounds)


def test_one_link_carries_so_many():
    """The riders of one stream are bounded."""
    hub = hub_of(max_clients=10_000)
    session = hub.new_session({})
    for _ in range(MAX_SESSION_CLIENTS):
        hub.admit(session, {}, "/")
    with pytest.raises(Overloaded) as refused:
        hub.admit(session, {}, "/")
    assert (refused.value.status, refused.value.code) == (429, "too_many_clients")


def test_who_is_away_gives_way_to_who_is_there():
    """If all places for clients are taken, those that have been away longest are given up first."""
    hub = hub_of(max_clients=2)
    sessions = [hub.new_session({}) for _ in range(2)]
    clients = [hub.admit(session, {}, "/") for session in sessions]
    hub.sessions.attach(sessions[0], Carrier())
    hub.sessions.detach(sessions[0], sessions[0].carrier)
    hub.admit(hub.new_session({}), {}, "/")
    assert clients[0].ended
    assert not clients[1].ended
    assert sessions[0].state is SessionState.ENDED
    with pytest.raises(Overloaded):
        hub.admit(hub.new_session({}), {}, "/")


def test_a_client_joins_in_the_middle():
    """Who gets on a stream later gets what happens later, and nothing that was before."""
    hub = hub_of()
    session = hub.new_session({})
    first = hub.admit(session, {}, "/")
    from hakgal_hybrid.broker.event import Event

    hub.broker.publish(Event.create("before"))
    second = hub.admit(session, {}, "/")
    hub.broker.publish(Event.create("after"))
    everybody = Target()
    assert [first.is_for(seq, everybody) for seq in (1, 2)] == [True, True]
    assert [second.is_for(seq, everybody) for seq in (1, 2)] == [False, True]
    assert not steady(session.clients, 0)
    assert steady(session.clients, 1)
    assert hub.forget(first)
    assert not hub.forget(first)
    hub.broker.publish(Event.create("later"))
    assert not first.is_for(3, everybody)
    assert second.is_for(3, everybody)


def test_a_dead_link_takes_nobody():
    """Nobody gets on a link that nobody can come back to."""
    hub = hub_of()
    session = hub.new_session({})
    hub.sessions.drop(session)
    with pytest.raises(AccessDenied):
        hub.admit(session, {}, "/")


def test_concurrent_lapses_and_arrivals_leave_nobody_behind():
    """A client that gets on just as its link lapses is either refused or ended; none stays for ever."""
    hub = hub_of(connect_s=0.001, max_clients=100_000, max_streams=100_000, max_per_address=100_000)
    admitted = []
    for _ in range(300):
        session = hub.new_session({})
        hub.sessions.expect(session)
        try:
            while len(session.clients) < 50:
                admitted.append(hub.admit(session, {}, "/"))
        except AccessDenied:
            pass
    ends = threading.Event()
    while not all(client.ended for client in admitted):
        assert not ends.wait(0.01)
    assert hub.clients() == []
