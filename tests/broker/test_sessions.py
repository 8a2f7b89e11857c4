"""Links: places for streams, coming back, and what happens if nobody does."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest
from support.hubs import make_hub

from hakgal_hybrid.broker.addresses import AddressQueues
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
    assert sessions.lapsed.wait(30)
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
    assert sessions.lapsed.wait(30)
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
    assert dict(sessions._slots._per_address) == {"elsewhere": 1}
    open_one(sessions, "there")


def test_lasting_links_need_no_place_and_never_lapse():
    """A test client's link has no stream and takes nobody's place."""
    sessions = Watched(max_streams=0)
    session = sessions.make({}, 0, standalone=True)
    assert session.deadline is None
    assert sessions.drop(session)
    assert len(sessions._slots) == 0


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


def away(hub: Hub, address: str) -> Session:
    """A session with a client whose stream has come and gone."""
    session = hub.new_session({"REMOTE_ADDR": address})
    hub.admit(session, {}, "/")
    hub.sessions.attach(session, Carrier())
    hub.sessions.detach(session, session.carrier)
    return session


def test_the_address_with_most_away_gives_way():
    """Whoever opens and drops many streams costs nobody else what he could come back to."""
    hub = hub_of(max_clients=10)
    others = [away(hub, f"other {number}") for number in range(3)]
    flood = [away(hub, "flood") for _ in range(50)]
    assert [session.state for session in others] == [SessionState.AWAY] * 3
    assert [session.state for session in flood] == [SessionState.ENDED] * 43 + [SessionState.AWAY] * 7


def test_with_as_many_away_of_each_the_oldest_gives_way():
    """Addresses that have the same number away give way in turn."""
    hub = hub_of(max_clients=4)
    sessions = [away(hub, address) for address in ("a", "b", "a", "b")]
    away(hub, "c")
    away(hub, "c")
    assert [session.state.name for session in sessions] == ["ENDED", "ENDED", "AWAY", "AWAY"]


def expected(sessions: SessionRegistry, address: str) -> Session:
    """A session that waits for its first stream."""
    session = sessions.make({"REMOTE_ADDR": address}, 0)
    sessions.expect(session)
    return session


def test_sessions_without_a_stream_give_way_to_new_ones():
    """If all slots are taken, one that waits for its first stream ends: the oldest of the address with most of them."""
    gave_way: list[str] = []
    sessions = Watched(max_streams=5, gave_way=gave_way.append)
    open_one(sessions, "there")
    lonely = expected(sessions, "lonely")
    flood = [expected(sessions, "flood") for _ in range(3)]
    open_one(sessions, "new")
    assert sessions.over == flood[:1]
    again = [expected(sessions, "flood") for _ in range(9)]
    assert sessions.over == [*flood, *again[:7]]
    assert lonely.state is SessionState.WAITING
    assert gave_way == ["connect_gave_way"] * 10
    for _ in range(3):
        open_one(sessions, "new")
    with pytest.raises(Overloaded) as refused:
        open_one(sessions, "new")
    assert (refused.value.status, sessions.open) == (503, 5)


def test_sessions_without_a_stream_give_way_within_their_address():
    """If an address has its share, its own sessions that wait give way, and no others."""
    sessions = Watched(max_per_address=2)
    other = expected(sessions, "other")
    open_one(sessions, "here")
    waiting = expected(sessions, "here")
    open_one(sessions, "here")
    assert sessions.over == [waiting]
    with pytest.raises(Overloaded) as refused:
        open_one(sessions, "here")
    assert refused.value.status == 429
    assert other.state is SessionState.WAITING


def test_a_session_that_is_being_opened_does_not_give_way():
    """A request that opens a stream keeps its slot while the host's handler runs."""
    sessions = Watched(max_streams=1)
    session = sessions.make({}, 0)
    with pytest.raises(Overloaded):
        sessions.make({}, 0)
    sessions.attach(session, Carrier())
    assert not sessions.make_room()


def test_how_often_one_address_connects():
    """An address has so many new sessions a second, and ten times as many at once; coming back is not counted."""
    sessions = Watched(connect_rate=0.5)
    first = open_one(sessions)
    for _ in range(4):
        sessions.make({"REMOTE_ADDR": "here"}, 0)
    with pytest.raises(Overloaded) as refused:
        sessions.make({"REMOTE_ADDR": "here"}, 0)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (429, "too_many_connects", 2)
    assert sessions.refused == 1
    sessions.make({"REMOTE_ADDR": "elsewhere"}, 0)
    sessions.make({"REMOTE_ADDR": "here"}, 0, standalone=True)
    sessions.detach(first, first.carrier)
    sessions.attach(first, Carrier())


def test_queues_of_addresses_against_a_plain_list():
    """Whatever comes and leaves: the oldest of one address, and of one with most, is what a list would give."""
    rng = random.Random(1)
    queues, plain = AddressQueues(), list[Session]()
    for _ in range(5000):
        if plain and rng.random() < 0.5:
            session = rng.choice(plain) if rng.random() < 0.5 else queues.oldest()
            assert session is not None
            queues.discard(session)
            queues.discard(session)
            plain.remove(session)
        else:
            session = Session(rng.choice("abcdefg"), 0)
            queues.add(session)
            queues.add(session)
            plain.append(session)
        sizes = Counter(item.address for item in plain)
        assert len(queues) == len(sizes)
        for address in "abcdefg":
            assert queues.oldest(address) is next((item for item in plain if item.address == address), None)
        largest = queues.oldest()
        assert (largest is None) == (not plain)
        if largest is not None:
            assert sizes[largest.address] == max(sizes.values())
            assert largest is queues.oldest(largest.address)


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
