"""Broadcast: the WebSockets that have everything. What is new is read and encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..broker.engineio.websocket import WebSocketEnd
from ..broker.hub import Hub
from ..broker.live import LiveGroup
from ..logs import get_logger

logger = get_logger(__name__)


class Receiver(Protocol):
    """A WebSocket, as the live group knows it.

    :ivar stream: what its events are read by; set when it joins.
    :ivar end: what comes and goes.
    """

    stream: Any
    end: WebSocketEnd


class Broadcast:
    """The live group of WebSockets. For the loop's thread.

    :param hub: the hub.
    :param max_backlog_s: how old an event may be that is still given, in seconds.
    """

    def __init__(self, hub: Hub, max_backlog_s: float) -> None:
        self._hub, self._live = hub, LiveGroup(hub, max_backlog_s)

    def join(self, receiver: Receiver) -> bool:
        """Have a WebSocket get what all get, if it has everything.

        :param receiver: the WebSocket.
        :return: false if it must go on alone.
        """
        session = receiver.end.session
        with session.lock:
            receiver.stream = session.shareable()
            if receiver.stream is None:
                return False
            self._live.adopt(receiver)
            return self._live.join(receiver)

    def leave(self, receiver: Receiver, position: int | None = None) -> None:
        """Have a WebSocket go on alone.

        :param receiver: the receiver, in the group or not.
        :param position: number of the last event that it was given; by default the group's.
        """
        self._live.leave(receiver, self._live.position if position is None else position)
        receiver.end.session.left()

    def deliveries(self) -> Iterator[tuple[bytes, int, list[Any]]]:
        """Yield what is new: bytes, the number of the last event in them, and who gets them."""
        newest = self._hub.log.newest
        while True:
            try:
                step = self._live.step()
            except Exception:
                logger.exception("a step of the WebSockets failed; each goes on alone")
                step = self._live.scatter()
            for receiver in step.to_catch_up:
                receiver.end.session.left()
            if step.to_catch_up:
                yield b"", 0, step.to_catch_up
            for delivery in step.deliveries:
                yield delivery.data, step.upto, delivery.members
                count = len(delivery.members)
                self._hub.deliveries.delivered(count * delivery.delivered, count * len(delivery.data))
                if delivery.conflated:
                    self._hub.log.note(conflated=count * delivery.conflated)
            self._live.arrive(step)
            if self._live.position >= newest:
                return
