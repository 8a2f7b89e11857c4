"""Clients of Socket.IO that share what is read: who is sent what, in which turns."""

from __future__ import annotations

import threading

from support.hubs import carried, make_hub

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.engineio.packets import Framing
from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.broker.hub import Hub
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest
from hakgal_hybrid.server.broadcast import Broadcast
from hakgal_hybrid.server.fanout.pacing import SENDS_PER_TURN


class Client:
    """A client that has everything, and its connection."""

    def __init__(self, hub: Hub, namespace: str) -> None:
        session = hub.new_session({})
        hub.admit(session, {}, namespace)
        self._reads = carried(SubscriberStream(session, hub, StreamOptions(), StreamRequest(namespace=namespace)))
        self._reads.opening()
        self.stream: SubscriberStream | None = None
        self.source, self.lock = self, threading.RLock()

    def shareable(self, framing: Framing) -> SubscriberStream:
        return self._reads

    def left(self) -> None:
        """Go on alone, which nobody does here."""


def test_groups_take_turns() -> None:
    """A small group does not wait for all members of a large one; each member is sent to once."""
    hub = make_hub(EventLog(epoch=0, max_events=100, max_bytes=1 << 20, max_event_bytes=1 << 16, encode=encode_entry,
                            clock=lambda: 0.0, wall_ms=lambda: 0))
    broadcast = Broadcast(hub, 60, Framing.WEBSOCKET)
    many, few = [Client(hub, "/") for _ in range(2 * SENDS_PER_TURN + 1)], [Client(hub, "/few") for _ in range(2)]
    assert all(map(broadcast.join, [*many, *few]))
    for namespace in ("/", "/few"):
        hub.broker.publish(Event.create("x", (), Target.create(namespace=namespace)))
    turns = [delivery.members for delivery, _ in broadcast.deliveries()]
    assert sorted(map(len, turns)) == [1, 2, SENDS_PER_TURN, SENDS_PER_TURN]
    assert few in turns[:2]
    assert [member for turn in turns if turn != few for member in turn] == many
    assert hub.deliveries.snapshot().delivered == len(many) + len(few)
