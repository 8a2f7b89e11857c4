"""Broadcast: clients of Socket.IO that have everything. What is new is read and encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..broker.engineio.packets import Framing
from ..broker.hub import Hub
from ..broker.live import Delivery, LiveGroup
from ..broker.websocket import Source
from ..logs import get_logger
from .fanout.pacing import in_turns

logger = get_logger(__name__)


class Receiver(Protocol):
    """A WebSocket or a poll, as the live group knows it.

    :ivar stream: what its events are read by; ``None`` while it goes on alone.
    """

    stream: Any

    @property
    def source(self) -> Source:
        """What is sent to it."""


class Broadcast:
    """A live group of WebSockets, or of polls. For the loop's thread.

    :param hub: the hub.
    :param max_backlog_s: how old an event may be that is still given, in seconds.
    :param framing: how packets are carried.
    """

    def __init__(self, hub: Hub, max_backlog_s: float, framing: Framing) -> None:
        self._hub, self._live, self._framing = hub, LiveGroup(hub, max_backlog_s), framing

    def join(self, receiver: Receiver) -> bool:
        """Have a receiver get what all get, if it has everything.

        :param receiver: the receiver.
        :return: false if it must go on alone.
        """
        source = receiver.source
        with source.lock:
            receiver.stream = source.shareable(self._framing)
            if receiver.stream is not None:
                self._live.adopt(receiver)
                if self._live.join(receiver):
                    return True
        receiver.stream = None
        return False

    def leave(self, receiver: Receiver, position: int | None = None) -> None:
        """Have a receiver go on alone.

        :param receiver: the receiver, in the group or not.
        :param position: number of the last event that it was given; by default the group's.
        """
        if receiver.stream is not None:
            self._live.leave(receiver, self._live.position if position is None else position)
            receiver.stream = None
            receiver.source.left()

    def refused(self, receiver: Receiver, delivery: Delivery) -> None:
        """Have a receiver go on alone that could not be given something: it gets that by itself.

        :param receiver: the receiver.
        :param delivery: what it could not be given.
        """
        receiver.stream.own_delivered -= delivery.delivered
        self.leave(receiver)
        self._hub.deliveries.delivered(-delivery.delivered, -len(delivery.data))

    def catch_up(self) -> None:
        """Go on behind the newest event, if nobody is in the group: nobody has missed anything."""
        if not len(self._live):
            self._live.arrive(self._live.scatter())

    def deliveries(self) -> Iterator[tuple[Delivery, int]]:
        """Yield what is new and who gets it, with the number of the last event in it. Groups take turns.

        Without any bytes it is for those that have had to leave.
        """
        newest = self._hub.log.newest
        while True:
            try:
                step = self._live.step()
            except Exception:
                logger.exception("a step of Socket.IO's clients failed; each goes on alone")
                step = self._live.scatter()
            if step.to_catch_up:
                yield Delivery(b"", 0, 0, step.to_catch_up), 0
            for delivery, members in in_turns(step.deliveries):
                yield delivery._replace(members=members), step.upto
                count = len(members)
                self._hub.deliveries.delivered(count * delivery.delivered, count * len(delivery.data))
                if delivery.conflated:
                    self._hub.log.note(conflated=count * delivery.conflated)
            self._live.arrive(step)
            if self._live.position >= newest:
                return
