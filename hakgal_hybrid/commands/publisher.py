"""Publisher: how events leave this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

import blinker

from ..broker.counters import Refusals
from ..broker.event import Event, Target
from ..broker.hub import Hub
from ..errors import EventError
from ..signals import Announcer
from .acks import Acks, Callback


class Mirror(Protocol):
    """What gives each event to clients that are not ours.

    :ivar unsent: how many events one side could not be given.
    """

    unsent: int

    def mirror(self, event: Event, callback: Callback | None) -> None:
        """Pass on an event that was emitted; called in the emitter's thread, which must not wait."""


class Publisher:
    """Makes events and puts them into the log.

    :param hub: has the log, and wakes whoever writes.
    :param announcer: sends the signals that are bridged.
    :param acks: gets the callbacks.
    :param refusals: counts the events that cannot be sent.
    :ivar dumps: the host's own JSON encoder, or ``None`` for ours.
    :ivar mirror: in profile DUAL, what gives the events to the host's own clients.
    """

    def __init__(self, hub: Hub, announcer: Announcer, acks: Acks, refusals: Refusals) -> None:
        self.dumps: Callable[..., str] | None = None
        self.mirror: Mirror | None = None
        self._hub, self._announcer, self._acks, self._refusals = hub, announcer, acks, refusals

    def emit(self, event: str, args: tuple[Any, ...], to: Any = None, namespace: str | None = None,
             skip_sid: Any = None, callback: Callback | None = None) -> None:
        """Send an event; see :meth:`.SocketIO.emit`. In profile DUAL the host's own clients get it as well."""
        sent = self.emit_here(event, args, to, namespace, skip_sid, callback)
        if self.mirror is not None:
            self.mirror.mirror(sent, callback)

    def emit_here(self, event: str, args: tuple[Any, ...], to: Any, namespace: str | None, skip_sid: Any,
                  callback: Callback | None) -> Event:
        """Send an event to the clients of this transport only; return what was sent."""
        ack = None if callback is None else self._acks.expect(callback, once=self._hub.client(to) is not None)
        try:
            sent = Event.create(event, args, Target.create(namespace, to, skip_sid), ack=ack, dumps=self.dumps)
            entry = self._hub.publish(sent)
            if ack is not None and entry is not None:
                self._acks.sent(ack, lambda client: client.is_for(entry.seq, sent.target))
        except BaseException as error:
            if ack is not None:
                self._acks.take_back(ack)
            if isinstance(error, EventError):
                self._refusals.count(error.code)
            raise
        return sent

    def bridge(self, signal: blinker.Signal, event: str, *, to: Hashable | Iterable[Hashable] = None,
               namespace: str | None = None) -> Callable[[], None]:
        """Emit ``event`` whenever ``signal`` is sent; see :meth:`.HybridTransport.bridge`."""
        return self._announcer.bridge(signal, lambda values: self.emit(event, (values,), to, namespace))
