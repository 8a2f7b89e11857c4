"""Links: places for streams, coming back, and what happens if nobody does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.hubs import make_hub

from hakgal_hybrid.broker.client import MAX_SESSION_CLIENTS, Session
from hakgal_hybrid.broker.envelope import encode_entry
from hakgal_hybrid.broker.event import Target
from hakgal_hybrid.broker.hub import Hub
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sessions import SessionRegistry
from hakgal_hybrid.errors import AccessDenied, Overloaded


class Watched(SessionRegistry):
    """Links that tell what lapsed."""

    def __init__(self, **bounds: Any) -> None:
        self.over: list[Session] = []
        self.lapsed = threading.Event()
        settings = {"max_streams": 100, "max_per_address": 100, "connect_s": 60, "resume_s": 60, **bounds}
        super().__init__(self._note, **settings)

    def _note(self, link: Session) -> None:
        self.over.append(link)
        self.lapsed.set()


class Carrier:
    """A stream, as far as a link knows it."""

    stirred = 0

    def stir(self) -> None:
        self.stirred += 1


def open_one(links: SessionRegistry, address: str = "here") -> Session:
    link = links.make({"REMOTE_ADDR": address}, 0)
    links.carry(link, Carrier())
    return link


def test_a_link_is_found_by_its_ticket_while_it_lives():
    """A ticket is good from the making of a link until nobody can come back to it."""
    links = Watched()
    link = links.make({}, 7)
    assert links.find(links.ticket_of(link)) is link
    assert link.start == 7
    for nonsense in ("", None, 7, link.ticket[:-1]):
        assert links.find(nonsense) is None
    assert links.drop(link)
    assert not links.drop(link)
    assert links.find(link.ticket) is None


def test_a_link_nobody_opens_lapses():
    """Who connects and opens no stream is over after a while."""
    links = Watched(connect_s=0.01)
    link = links.make({}, 0)
    links.expect(link)
    assert links.lapsed.wait(10)
    assert links.over == [link]
    assert link.dead
    assert not link.opened
    with pytest.raises(AccessDenied) as refused:
        links.carry(link, Carrier())
    assert refused.value.code == "bad_ticket"


def test_a_link_whose_stream_is_gone_lapses():
    """Who does not come back in time is over."""
    links = Watched(resume_s=0.01)
    link = open_one(links)
    assert links.let_go(link, link.carrier)
    assert links.lapsed.wait(10)
    assert links.over == [link]


def test_coming_back_in_time():
    """A stream that begins in time cancels the deadline of the one before."""
    links = Watched()
    link = open_one(links)
    assert links.let_go(link, link.carrier)
    deadline = link.deadline
    assert deadline is not None
    assert links.open == 0
    again = Carrier()
    assert not links.carry(link, again)  # there is nobody to be told
    assert deadline.call is None
    assert link.deadline is None
    assert links.open == 1
    assert links.find(links.ticket_of(link)) is link


def test_without_a_time_to_come_back_it_is_over_at_once():
    """``HYBRID_RESUME_S=0`` means that a client ends with its stream."""
    links = Watched(resume_s=0)
    link = open_one(links)
    assert links.let_go(link, link.carrier)
    assert links.over == [link]


def test_a_replaced_stream_ends_nothing():
    """The end of a stream that another one has replaced is not the end of the link's stream."""
    links = Watched()
    link = open_one(links)
    first, second = link.carrier, Carrier()
    assert links.carry(link, second)
    assert first.stirred == 1  # its writer must close it
    assert links.open == 1
    assert not links.let_go(link, first)
    assert link.carrier is second
    assert links.let_go(link, second)
    assert links.open == 0


def test_places_are_taken_by_those_who_are_there_or_about_to_be():
    """Open streams and those about to open hold places; streams that are away hold none."""
    links = Watched(max_streams=2)
    first = open_one(links)
    links.make({}, 0)
    with pytest.raises(Overloaded) as refused:
        links.make({}, 0)
    assert (refused.value.status, links.refused) == (503, 1)
    links.let_go(first, first.carrier)
    third = open_one(links)
    with pytest.raises(Overloaded):  # its place is another's by now
        links.carry(first, Carrier())
    links.let_go(third, third.carrier)
    links.carry(first, Carrier())
    assert links.open == 1


def test_places_of_one_address():
    """An address has a bound of its own, and gets its places back."""
    links = Watched(max_per_address=1)
    link = open_one(links, "there")
    with pytest.raises(Overloaded) as refused:
        links.make({"REMOTE_ADDR": "there"}, 0)
    assert refused.value.status == 429
    open_one(links, "elsewhere")
    links.let_go(link, link.carrier)
    links.drop(link)
    assert dict(links._per_address) == {"elsewhere": 1}
    open_one(links, "there")


def test_lasting_links_need_no_place_and_never_lapse():
    """A test client's link has no stream and takes nobody's place."""
    links = Watched(max_streams=0)
    link = links.make({}, 0, lasting=True)
    assert link.deadline is None
    assert links.drop(link)
    assert links._places == 0


def hub_of(**bounds: Any) -> Hub:
    log = EventLog(epoch=1, clock=lambda: 0.0, wall_ms=lambda: 0, encode=encode_entry, max_events=100,
                   max_bytes=10_000, max_event_bytes=1000)
    return make_hub(log, **bounds)


def test_one_link_carries_so_many():
    """The riders of one stream are bounded."""
    hub = hub_of(max_clients=10_000)
    link = hub.new_link({})
    for _ in range(MAX_SESSION_CLIENTS):
        hub.admit(link, {}, "/")
    with pytest.raises(Overloaded) as refused:
        hub.admit(link, {}, "/")
    assert (refused.value.status, refused.value.code) == (429, "too_many_clients")


def test_who_is_away_gives_way_to_who_is_there():
    """If all places for clients are taken, those that have been away longest are given up first."""
    hub = hub_of(max_clients=2)
    links = [hub.new_link({}) for _ in range(2)]
    clients = [hub.admit(link, {}, "/") for link in links]
    hub.links.carry(links[0], Carrier())
    hub.links.let_go(links[0], links[0].carrier)
    hub.admit(hub.new_link({}), {}, "/")
    assert clients[0].ended
    assert not clients[1].ended
    assert links[0].dead
    with pytest.raises(Overloaded):
        hub.admit(hub.new_link({}), {}, "/")


def test_a_client_joins_in_the_middle():
    """Who gets on a stream later gets what happens later, and nothing that was before."""
    hub = hub_of()
    link = hub.new_link({})
    first = hub.admit(link, {}, "/")
    from hakgal_hybrid.broker.event import Event

    hub.publish(Event.create("before"))
    second = hub.admit(link, {}, "/")
    hub.publish(Event.create("after"))
    everybody = Target()
    assert [first.is_for(seq, everybody) for seq in (1, 2)] == [True, True]
    assert [second.is_for(seq, everybody) for seq in (1, 2)] == [False, True]
    assert link.riders.settled == 1
    assert hub.forget(first)
    assert not hub.forget(first)
    hub.publish(Event.create("later"))
    assert not first.is_for(3, everybody)
    assert second.is_for(3, everybody)


def test_a_dead_link_takes_nobody():
    """Nobody gets on a link that nobody can come back to."""
    hub = hub_of()
    link = hub.new_link({})
    hub.links.drop(link)
    with pytest.raises(AccessDenied):
        hub.admit(link, {}, "/")


def test_concurrent_lapses_and_arrivals_leave_nobody_behind():
    """A client that gets on just as its link lapses is either refused or ended; none stays for ever."""
    hub = hub_of(connect_s=0.001, max_clients=100_000, max_streams=100_000, max_per_address=100_000)
    admitted = []
    for _ in range(300):
        link = hub.new_link({})
        hub.links.expect(link)
        try:
            while len(link.clients) < 50:
                admitted.append(hub.admit(link, {}, "/"))
        except AccessDenied:
            pass
    ends = threading.Event()
    while not all(client.ended for client in admitted):
        assert not ends.wait(0.01)
    assert hub.clients() == []
