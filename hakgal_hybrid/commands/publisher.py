"""Publisher: emits events."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from ..broker.broker import Broker
from ..broker.counters import Refusals
from ..broker.entry import Entry
from ..broker.event import EVERYBODY, Event, Target
from ..broker.payload import payload_text
from ..errors import EventError
from .acks import Acks, Callback

Encode = Callable[[str, tuple[Any, ...]], str]


class Mirror(Protocol):
    """Passes events on to the clients of a host's own Socket.IO server.

    :ivar unsent: how many events could not be passed on, in either direction.
    """

    unsent: int

    def mirror(self, event: Event, callback: Callback | None) -> None:
        """Pass on an event that was emitted. Called in the emitter's thread, which must not wait.

        :param event: the event.
        :param callback: called with what each client acknowledges the event with.
        """


class Publisher:
    """Makes events, and sends them to the streams of clients, or back to a caller that has no stream.

    :param broker: publishes to streams.
    :param acks: keeps the callbacks of events that clients may acknowledge.
    :param refusals: counts events that cannot be sent.
    :param encode: returns the JSON text of an event with these arguments; also an attribute, which may be changed.
    :ivar mirror: in profile DUAL, what gives the events to the host's own clients.
    """

    def __init__(self, broker: Broker, acks: Acks, refusals: Refusals, encode: Encode = payload_text) -> None:
        self.encode = encode
        self.mirror: Mirror | None = None
        self._broker, self._acks, self._refusals = broker, acks, refusals
        self._captured: dict[Hashable, list[Event]] = {}

    def send(self, name: str, args: tuple[Any, ...], target: Target = EVERYBODY,
             callback: Callback | None = None) -> Entry | None:
        """Send an event; waits for no client. In profile DUAL the host's own clients get it as well.

        :param name: the event's name.
        :param args: its arguments: JSON values and ``bytes``.
        :param target: for whom it is.
        :param callback: called with what each client acknowledges the event with.
        :return: the event's entry in the log; ``None`` for one that is published later, or not at all.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large.
        """
        event, entry = self.send_here(name, args, target, callback)
        if self.mirror is not None:
            self.mirror.mirror(event, callback)
        return entry

    def send_here(self, name: str, args: tuple[Any, ...], target: Target,
                  callback: Callback | None) -> tuple[Event, Entry | None]:
        """Send an event to the clients of this transport only.

        :param name: the event's name.
        :param args: its arguments: JSON values and ``bytes``.
        :param target: for whom it is.
        :param callback: called with what each client acknowledges the event with.
        :return: the event, and its entry as :meth:`send` returns it.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large.
        """
        try:
            captured = self._captured.get(next(iter(target.rooms))) if target.rooms and len(target.rooms) == 1 else None
            # A caller without a stream has no client that could acknowledge.
            ack = self._acks.new_id() if callback is not None and captured is None else None
            event = Event.create(name, args, target, ack=ack, encode=self.encode)
            if captured is None:
                prepare = partial(self._acks.register, ack, callback) if ack and callback else None
                return event, self._broker.publish(event, prepare)
            captured.append(event)
        except EventError as error:
            self._refusals.count(error.code)
            raise
        return event, None

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
