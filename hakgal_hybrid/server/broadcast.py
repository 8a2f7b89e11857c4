"""Broadcast: the WebSockets that have everything. What is new is read and encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..broker.engineio.session import EngineSession
from ..broker.hub import Hub
from ..broker.live import LiveGroup
from ..broker.stream import SubscriberStream
from ..logs import get_logger

logger = get_logger(__name__)


class Receiver:
    """A WebSocket, as the live group knows it.

    :param stream: what its events are read by.
    :param session: whose WebSocket it is.
    :param connection: its connection.
    """

    __slots__ = ("connection", "session", "stream")

    def __init__(self, stream: SubscriberStream, session: EngineSession, connection: Any) -> None:
        self.stream, self.session, self.connection = stream, session, connection


class Broadcast:
    """The live group of WebSockets. For the loop's thread.

    :param hub: the hub.
    :param max_backlog_s: how old an event may be that is still given, in seconds.
    """

    def __init__(self, hub: Hub, max_backlog_s: float) -> None:
        self._hub, self._live = hub, LiveGroup(hub, max_backlog_s)

    def join(self, session: EngineSession, connection: Any) -> Receiver | None:
        """Have a WebSocket get what all get, if it has everything.

        :param session: its session.
        :param connection: its connection.
        :return: the receiver; ``None`` if the WebSocket must go on alone.
        """
        with session.lock:
            stream = session.shareable()
            if stream is None:
                return None
            receiver = Receiver(stream, session, connection)
            self._live.adopt(receiver)
            return receiver if self._live.join(receiver) else None

    def leave(self, receiver: Receiver, position: int | None = None) -> None:
        """Have a WebSocket go on alone.

        :param receiver: the receiver, in the group or not.
        :param position: number of the last event that it was given; by default the group's.
        """
        self._live.leave(receiver, self._live.position if position is None else position)
        receiver.session.left()

    def deliveries(self) -> Iterator[tuple[bytes, int, list[Receiver]]]:
        """Yield what is new: bytes, the number of the last event in them, and who gets them."""
        newest = self._hub.log.newest
        while True:
            try:
                step = self._live.step()
            except Exception:
                logger.exception("a step of the WebSockets failed; each goes on alone")
                step = self._live.scatter()
            for receiver in step.to_catch_up:
                receiver.session.left()
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
