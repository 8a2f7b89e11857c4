"""Several clients on one stream: each gets what is its own, and hides nothing from the others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.hubs import carried, make_hub

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.broker.event import Event, Target, glob_matcher
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sse import Decoder
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest


class Ride:
    """A stream with several clients, by ticket, in envelopes."""

    def __init__(self, *, max_events: int = 1000, clients: int = 2, **wish: Any) -> None:
        self.now = 0.0
        self.log = EventLog(epoch=1, clock=lambda: self.now, wall_ms=lambda: 1, encode=encode_entry,
                            max_events=max_events, max_bytes=1 << 20, max_event_bytes=1 << 16,
                            conflates=glob_matcher(["load*"]))
        self.hub = make_hub(self.log)
        self.session = self.hub.new_session({})
        self.clients = [self.join() for _ in range(clients)]
        self.feed = self.opened(**wish)

    def join(self, namespace: str = "/") -> Client:
        return self.hub.admit(self.session, {}, namespace)

    def opened(self, **wish: Any) -> SubscriberStream:
        request = StreamRequest(format=Format.ENVELOPE, ticket=self.hub.sessions.ticket_of(self.session), **wish)
        feed = carried(SubscriberStream(self.session, self.hub, StreamOptions(), request))
        feed.opening()
        return feed

    def emit(self, name: str, *args: Any, **target: Any) -> None:
        self.hub.broker.publish(Event.create(name, args, Target.create(**target)))

    def take(self) -> list[tuple[str, Any, Any]]:
        """Read what is new: of each message its event, its payload and for whom it is."""
        data = b""
        while self.feed.behind:
            data += self.feed.take({})
        bodies = [json.loads(message.data) for message in Decoder().feed(data)]
        return [(body["event"], body["data"], body.get("to")) for body in bodies]


def test_a_snapshot_is_not_for_who_came_later():
    """Replayed events carry no id by which a newcomer would know them, so they say for whom they are."""
    ride = Ride(clients=1, snapshot="gap")
    ann = ride.clients[0]
    ride.hub.enter_room(ann.sid, "den")
    ride.emit("secret", 1, to="den")
    ride.join()
    ride.now = 1000.0
    ride.emit("fresh", 2)
    told = ride.take()
    assert [name for name, _, _ in told] == ["hybrid_gap", "secret", "fresh"]
    assert told[1][2] == [ann.sid]
    assert told[2][2] is None


def test_an_ending_is_told_even_if_the_log_has_dropped_what_was_around_it():
    """A gap swallows events, but not that a client is over."""
    ride = Ride(max_events=3)
    ann, bob = ride.clients
    ride.hub.end(ann, "server disconnect")
    for number in range(5):
        ride.emit("e", number)
    told = ride.take()
    assert ("hybrid_disconnect", {"sid": ann.sid, "reason": "server disconnect"}, [ann.sid]) in told
    assert [name for name, _, _ in told if name == "e"] == ["e"] * 3
    assert ride.session.clients == (bob,)


def test_endings_stand_in_their_place():
    """What was emitted before a client's end comes before it, what came after follows."""
    ride = Ride(clients=3)
    ann, bob, _ = ride.clients
    ride.emit("one")
    ride.hub.end(ann, "x")
    ride.emit("two")
    ride.hub.end(bob, "y")
    ride.emit("three")
    assert [name for name, _, _ in ride.take()] == ["one", "hybrid_disconnect", "two", "hybrid_disconnect", "three"]


def test_endings_cost_the_log_nothing():
    """Clients that come and go do not push the host's events out of the log."""
    ride = Ride(max_events=3)
    ride.emit("kept")
    for _ in range(10):
        ride.hub.end(ride.join(), "client disconnect")
    assert ride.log.newest == 1
    assert [name for name, _, _ in ride.take()] == ["kept", *["hybrid_disconnect"] * 10]


@pytest.mark.parametrize("how", ["leaves the room", "ends"])
def test_a_newer_event_stands_for_an_older_one_only_for_who_gets_both(how):
    """Of two conflated events the first still comes if somebody on the stream does not get the second."""
    ride = Ride()
    ann, bob = ride.clients
    for client in (ann, bob):
        ride.hub.enter_room(client.sid, "den")
    ride.emit("load", 9, to="den")
    if how == "ends":
        ride.hub.end(ann, "x")
    else:
        ride.hub.leave_room(ann.sid, "den")
    ride.emit("load", 12, to="den")
    values = [value for name, value, _ in ride.take() if name == "load"]
    assert values == [9, 12]


def test_conflation_still_works_for_several():
    """Where everybody gets the newer one, the older is left out."""
    ride = Ride()
    ride.emit("load", 1)
    ride.emit("load", 2)
    assert ride.take() == [("load", 2, None)]


def test_what_one_take_looks_at_is_bounded(monkeypatch):
    """Many clients on one stream cost more for each event, so that one take looks at fewer; nothing is left out."""
    monkeypatch.setattr("hakgal_hybrid.broker.reading.MAX_LOOK", 640)
    ride = Ride(clients=10)
    for number in range(300):
        ride.emit("e", number)
    first = ride.feed.take({})
    assert first.count(b"id: ") == 64
    assert [value for _, value, _ in ride.take()] == list(range(64, 300))


def test_a_gap_that_newcomers_had_no_part_in_counts_for_nobody_exactly():
    """Where clients came meanwhile, how many events were for them is not claimed to be known."""
    ride = Ride(max_events=2)
    ride.emit("e")
    ride.join()
    for _ in range(5):
        ride.emit("e")
    assert ride.take()[0][1]["missed"] is None
