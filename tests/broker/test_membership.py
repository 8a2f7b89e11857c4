"""Rooms: the tables by which an event finds whom it is for say the same as each client does when it is asked."""

from __future__ import annotations

import sys
import threading
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from support.hubs import carried, make_hub

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.broker.hub import Hub
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest

CLIENTS = 4
ROOMS = ("red", "blue")


def new_hub() -> Hub:
    return make_hub(EventLog(epoch=1, clock=lambda: 0.0, wall_ms=lambda: 0, encode=encode_entry, max_events=1000,
                             max_bytes=1 << 20, max_event_bytes=1 << 16))


def admit(hub: Hub, namespace: str = "/") -> Client:
    session = hub.new_session({})
    client = hub.admit(session, {}, namespace)
    carried(SubscriberStream(session, hub, StreamOptions(), StreamRequest(namespace=namespace)))
    return client


#: What is done, by or to which client, and in which room: one of ``ROOMS``, or that named by another client's sid.
doings = st.tuples(st.sampled_from(["emit", "emit", "enter", "enter", "leave", "end"]), st.integers(0, CLIENTS - 1),
                   st.integers(0, len(ROOMS) + CLIENTS - 1))


@given(st.lists(doings, max_size=30))
@settings(max_examples=150, deadline=None)
def test_who_is_found_is_who_it_is_for(done: list[tuple[str, int, int]]) -> None:
    """Whoever came, went, ended and left its own room between the events: each is found once, and nobody else."""
    hub = new_hub()
    clients = [admit(hub, "/chat" if n == CLIENTS - 1 else "/") for n in range(CLIENTS)]
    rooms = [*ROOMS, *(client.sid for client in clients)]
    for act, who, where in done:
        if act == "emit":
            hub.broker.publish(Event.create("e"))
        elif act == "end":
            hub.end(clients[who], "server disconnect")
        else:
            getattr(hub, f"{act}_room")(clients[who].sid, rooms[where])
    hub.broker.publish(Event.create("e"))
    several = [*([room] for room in rooms), [*ROOMS], [*ROOMS, *rooms[-2:]], ["empty"]]
    for seq, aim, skip, namespace in product(range(1, hub.log.newest + 1), several, (0, 1), ("/", "/chat")):
        target = Target(namespace, frozenset(aim), frozenset([clients[0].sid] if skip else ()))
        found = hub.audience(seq, target)
        assert len(found) == len(set(found))
        assert set(found) == {client for client in clients if client.is_for(seq, target)}


def test_a_room_that_changes_while_it_is_looked_at() -> None:
    """Threads that join and leave do not disturb whoever looks, and one that stays is always found."""
    hub = new_hub()
    staying, *moving = (admit(hub) for _ in range(40))
    hub.enter_room(staying.sid, "room")
    hub.broker.publish(Event.create("e"))
    over = threading.Event()

    def move(clients: list[Client]) -> None:
        while not over.is_set():
            for client in clients:
                hub.enter_room(client.sid, "room")
            for client in clients:
                hub.leave_room(client.sid, "room")

    threads = [threading.Thread(target=move, args=(moving[part::3],)) for part in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3000):
            # Nothing is emitted meanwhile: who comes now comes after the event.
            assert hub.audience(1, Target(rooms=frozenset(["room"]))) == [staying]
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_room_that_is_forgotten_while_a_client_is_asked_for_its_rooms() -> None:
    """A client names its rooms while another thread forgets one of them."""
    hub = new_hub()
    client = admit(hub)
    hub.enter_room(client.sid, "kept")
    over = threading.Event()

    def move() -> None:
        while not over.is_set():
            hub.enter_room(client.sid, "left")
            hub.leave_room(client.sid, "left")  # no event came meanwhile: nothing is kept of it

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=move)
    thread.start()
    try:
        for _ in range(20_000):
            assert {*client.rooms(), "left"} == {client.sid, "kept", "left"}
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
