"""Publisher: emits events."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..broker.broker import Broker
from ..broker.counters import Refusals
from ..broker.entry import Entry
from ..broker.event import EVERYBODY, Event, Target
from ..broker.payload import payload_text
from ..errors import EventError
from .acks import Acks, Callback

Encode = Callable[[str, tuple[Any, ...]], str]


class Publisher:
    """Makes events, and sends them to the streams of clients, or back to a caller that has no stream.

    :param broker: publishes to streams.
    :param acks: keeps the callbacks of events that clients may acknowledge.
    :param refusals: counts events that cannot be sent.
    :param encode: returns the JSON text of an event with these arguments; also an attribute, which may be changed.
    """

    def __init__(self, broker: Broker, acks: Acks, refusals: Refusals, encode: Encode = payload_text) -> None:
        self.encode = encode
        self._broker, self._acks, self._refusals = broker, acks, refusals
        self._captured: dict[Hashable, list[Event]] = {}

    def send(self, name: str, args: tuple[Any, ...], target: Target = EVERYBODY,
             callback: Callback | None = None) -> Entry | None:
        """Send an event; waits for no client.

        :param name: the event's name.
        :param args: its arguments: JSON values and ``bytes``.
        :param target: for whom it is.
        :param callback: called with what each client acknowledges the event with.
        :return: the event's entry in the log; ``None`` for one that is published later, or not at all.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large.
        """
        try:
            captured = self._captured.get(next(iter(target.rooms))) if target.rooms and len(target.rooms) == 1 else None
            # A caller without a stream has no client that could acknowledge.
            ack = self._acks.new_id(self._broker.process) if callback is not None and captured is None else None
            event = Event.create(name, args, target, ack=ack, encode=self.encode)
            if captured is None:
                prepare = partial(self._acks.register, ack, callback) if ack and callback else None
                return self._broker.publish(event, prepare)
            captured.append(event)
        except EventError as error:
            self._refusals.count(error.code)
            raise
        return None

    @contextmanager
    def capture(self, room: Hashable, into: list[Event]) -> Iterator[None]:
        """Gather the events for one room in a list, in place of publishing them, for as long as a block runs.

        :param room: the room: the ``sid`` of a caller that has no stream.
        :param into: the list.
        """
        self._captured[room] = into
        try:
            yield
        finally:
            del self._captured[room]
