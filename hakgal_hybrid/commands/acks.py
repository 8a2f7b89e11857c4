"""Acks: callbacks that wait for clients to acknowledge an event."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from ..broker.client import Client
from ..broker.engineio.socketio_packets import ack_id
from ..broker.entry import Entry
from ..broker.event import Target
from ..errors import RequestError

#: How many events may wait for acknowledgements; the oldest gives way. A client need not answer at all.
LIMIT = 10_000

Callback = Callable[..., object]


class _Pending(NamedTuple):
    #: Called with the ``sid`` of the client that answers, and its answer.
    answer: Callable[[str, list[Any]], object]
    seq: int
    target: Target
    #: The ``sid`` of each client that has answered, and the call that was its first.
    answered: dict[str, object]


class Acks:
    """Knows which acknowledgements are expected. Each client that an event was for may answer once.

    There is no lock, because a signal handler or a finalizer may emit while its thread is in here: each change is one
    step that Python does not interrupt.

    :param limit: how many events may wait.
    :ivar dropped: how many events gave way, so that their callbacks are never called.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.dropped = 0
        self._limit = limit
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        #: The ids by the numbers that stand for them in packets of Socket.IO.
        self._by_number: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._pending)

    @staticmethod
    def new_id(process: str = "") -> str:
        """Return an id under which an event can be acknowledged. It is a secret: who knows it has seen the event.

        :param process: the name of this process, if there are others that have the same log.
        :return: the id, 16 characters after that.
        """
        return f"{process}.{secrets.token_urlsafe(12)}" if process else secrets.token_urlsafe(12)

    def register(self, ack: str, callback: Callback, entry: Entry) -> None:
        """Expect acknowledgements of an event. To be called before a client can see it.

        :param ack: the event's id for acknowledgements.
        :param callback: called with what a client answers.
        :param entry: the event in the log; it says which clients may answer.
        """
        self.expect(ack, lambda sid, args: callback(*args), entry)

    def expect(self, ack: str, answer: Callable[[str, list[Any]], object], entry: Entry) -> None:
        """Do what :meth:`register` does, for a function that is given the client, too.

        :param ack: the event's id for acknowledgements.
        :param answer: called with a client's ``sid`` and what it answers.
        :param entry: the event in the log.
        """
        self._pending[ack] = _Pending(answer, entry.seq, entry.event.target, {})
        self._by_number[ack_id(entry.seq)] = ack
        if len(self._pending) > self._limit:
            self._by_number.pop(ack_id(self._pending.popitem(last=False)[1].seq), None)
            self.dropped += 1

    def unanswered(self, entry: Entry, client: Client) -> bool:
        """Say whether a client that comes back is to be sent an event once more: it has not acknowledged it.

        :param entry: the event, which is to be acknowledged.
        :param client: the client.
        :return: true if it is to be sent.
        """
        pending = self._pending.get(entry.event.ack or "")
        if pending is None:  # the only client that it was for has answered; or others have, and it gave way
            return entry.event.target.rooms != frozenset({client.sid})
        return client.sid not in pending.answered

    def answer_number(self, number: int, client: Client, args: list[Any]) -> None:
        """Do what :meth:`answer` does, for a packet of Socket.IO. Anybody can guess a number, but only a client that
        the event was for may answer.

        :param number: what :func:`.ack_id` returns for the event.
        :param client: the client.
        :param args: what it answers.
        :raises RequestError: 404 if nothing is expected under this number, or not from this client any more.
        """
        self.answer(self._by_number.get(number), client, args)

    def answer(self, ack: object, client: Client, args: list[Any]) -> None:
        """Call the callback of an event for one client's acknowledgement, in the calling thread.

        :param ack: the id that the client sent.
        :param client: the client.
        :param args: what it answers; the arguments of the callback.
        :raises RequestError: 404 if nothing is expected under this id, or not from this client any more.
        """
        pending = self._pending.get(ack) if isinstance(ack, str) else None
        if pending is None or not client.is_for(pending.seq, pending.target) or not self.answered(
                str(ack), client.sid, args):
            raise RequestError("no acknowledgement is expected under this id", status=404, code="unknown_ack")

    def answered(self, ack: str, sid: str, args: list[Any]) -> bool:
        """Call the callback of an event for the acknowledgement of a client that the event was for.

        :param ack: the event's id for acknowledgements.
        :param sid: the client's ``sid``; it may be one of another process.
        :param args: what it answers.
        :return: false if nothing is expected under this id, or not from this client any more.
        """
        pending, call = self._pending.get(ack), object()
        if pending is None or pending.answered.setdefault(sid, call) is not call:
            return False
        if pending.target.rooms == frozenset({sid}):  # nobody else may answer
            self._pending.pop(ack, None)
            self._by_number.pop(ack_id(pending.seq), None)
        pending.answer(sid, args)
        return True
