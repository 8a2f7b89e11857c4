"""Acks: callbacks that wait for clients to acknowledge an event."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..broker.client import Client
from ..errors import RequestError

#: How many events may wait for acknowledgements; the oldest gives way. A client need not answer at all.
LIMIT = 10_000

Callback = Callable[..., object]


@dataclass(slots=True)
class _Expected:
    callback: Callback
    once: bool
    meant: Callable[[Client], bool] | None = None
    answered: set[str] = field(default_factory=set)


class Acks:
    """Knows which acknowledgements are expected.

    An id is a secret: who knows it has seen the event. Each client that it was for may answer once.

    :ivar dropped: how many events gave way, so that their callbacks are never called.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.dropped = 0
        self._limit = limit
        self._expected: OrderedDict[str, _Expected] = OrderedDict()
        self._lock = threading.RLock()  # a signal handler may emit while its thread is in here

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, callback: Callback, *, once: bool) -> str:
        """Return the id under which an event will be acknowledged.

        :param once: true if the event is for one client only.
        """
        ack = secrets.token_urlsafe(12)
        with self._lock:
            self._expected[ack] = _Expected(callback, once)
            if len(self._expected) > self._limit:
                self._expected.popitem(last=False)
                self.dropped += 1
        return ack

    def sent(self, ack: str, meant: Callable[[Client], bool]) -> None:
        """Say for whom the event was, once that is known: streams are shared, and others may see the id."""
        with self._lock:
            expected = self._expected.get(ack)
            if expected is not None:
                expected.meant = meant

    def take_back(self, ack: str) -> None:
        """Expect this one no more."""
        with self._lock:
            self._expected.pop(ack, None)

    def answer(self, ack: object, client: Client, args: list[Any]) -> None:
        """Call the callback of an event for one client's acknowledgement, in the calling thread.

        :raises RequestError: 404 if nothing is expected under this id, or not from this client any more.
        """
        with self._lock:
            expected = self._expected.get(ack) if isinstance(ack, str) else None
            if (expected is None or client.sid in expected.answered
                    or (expected.meant is not None and not expected.meant(client))):
                raise RequestError("no acknowledgement is expected under this id", status=404, code="unknown_ack")
            expected.answered.add(client.sid)
            if expected.once:
                del self._expected[str(ack)]
        expected.callback(*args)
