"""Tickets: signed texts that open one stream, for readers that can send no header.

A client that has connected by POST has another kind of ticket: a random one that names its
:class:`~hakgal_hybrid.broker.sessions.Session`. Those here name nothing yet; each stands for the key that it was got
with, for one minute and one stream. When that is open, the ticket goes on to name its link, so that an ``EventSource``
comes back by the same URL as who it was.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from ..broker.client import Client, bad_ticket
from ..errors import Overloaded
from ..logs import get_logger

logger = get_logger(__name__)

#: How long a ticket may open a stream (seconds).
VALID_S = 60
#: Parameters that do not belong to what a ticket is for.
_FREE = ("ticket", "last_event_id")
#: Why a client is over for good: its ticket opens no other stream then, however young it is.
_FINAL = ("server disconnect", "client disconnect")
_SALT = "hakgal-hybrid-ticket"


def is_signed(ticket: str) -> bool:
    """True for what looks like one of these tickets; those of links hold no dot."""
    return "." in ticket


def query_digest(query: str) -> str:
    """Return what stands for a query in a ticket, however its parameters are ordered and escaped.

    Of a parameter that comes twice the first counts, so the order of those matters.
    """
    found = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")  # what is no UTF-8 is not all the same
    pairs = [pair for pair in found if pair[0] not in _FREE]
    text = json.dumps(sorted(pairs, key=lambda pair: pair[0]))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


class _Use:
    """What a ticket has opened; no client while its ``connect`` handler is running."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.client: Client | None = None

    @property
    def dead(self) -> bool:
        """True if there is nothing left to come back to."""
        return self.client is not None and (self.client.session is None or self.client.session.dead)


class Tickets:
    """Makes tickets, and knows which stream each has opened.

    :param keys: returns the app's secret keys, the current one last; none if it has none.
    :param clock: seconds since 1970.
    """

    def __init__(self, keys: Callable[[], list[bytes]], clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock = keys, clock
        self._own_key: list[bytes] = [secrets.token_bytes(32)]
        self._warned = False
        self._uses: dict[str, _Use] = {}
        self._prune_at = 256
        self._lock = threading.Lock()

    def issue(self, query: str = "") -> str:
        """Return a new ticket for a stream with this query."""
        return str(self._serializer().dumps([secrets.token_urlsafe(12), query_digest(query)]))

    def admits(self, ticket: str, query: str) -> bool:
        """True if a request with this ticket and this query may open a stream, as far as can be said without it."""
        try:
            number, age = self._read(ticket, query)
        except BadData:
            return False
        use = self._uses.get(number)
        return 0 <= age <= VALID_S or (use is not None and not use.dead)

    def redeem(self, ticket: str, query: str, connect: Callable[[], Client]) -> tuple[Client, bool]:
        """Return the client of a ticket, and whether its stream is resumed.

        :param connect: makes the client, if the ticket has not opened a stream yet.
        :raises AccessDenied: if the ticket opens nothing (any more); and whatever ``connect`` raises.
        :raises Overloaded: if another request is opening the ticket's stream just now.
        """
        try:
            number, age = self._read(ticket, query)
        except BadData:
            raise bad_ticket() from None
        with self._lock:
            known = self._resumed(number, fresh=0 <= age <= VALID_S)
            if known is not None:
                return known, True
            self._prune()
            use = self._uses[number] = _Use(self._clock() - age + VALID_S)
        try:
            use.client = connect()
        except BaseException:
            with self._lock:
                self._uses.pop(number, None)
            raise
        return use.client, False

    def _resumed(self, number: str, *, fresh: bool) -> Client | None:
        """Return the client to come back to; nothing if the ticket may open a stream of its own."""
        use = self._uses.get(number)
        if use is None:
            if not fresh:
                raise bad_ticket()
            return None
        if use.client is None:
            raise Overloaded("this ticket's stream is being opened by another request", code="ticket_in_use",
                             status=409)
        if not use.dead:
            return use.client
        if not fresh or use.client.end_reason in _FINAL:
            raise bad_ticket()
        return None

    def _read(self, ticket: str, query: str) -> tuple[str, float]:
        """Return a ticket's number and age in seconds.

        :raises BadData: if it was not signed here, or for another query.
        """
        content, at = self._serializer().loads(ticket, return_timestamp=True)
        number, digest = content
        if digest != query_digest(query):
            raise BadData("for another query")
        return str(number), self._clock() - at.timestamp()

    def _prune(self) -> None:
        """Forget what can open nothing any more, now and then: as many stay as there are clients."""
        if len(self._uses) < self._prune_at:
            return
        now = self._clock()
        self._uses = {number: use for number, use in self._uses.items() if not (use.dead and use.ends < now)}
        self._prune_at = max(256, 2 * len(self._uses))

    def _serializer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._keys() or self._substitute(), salt=_SALT, signer=_signer(self._clock),
                                      signer_kwargs={"digest_method": hashlib.sha256})

    def _substitute(self) -> list[bytes]:
        """Return a key of this process's own, and say once what follows from that."""
        if not self._warned:
            self._warned = True
            logger.warning("the app has no SECRET_KEY, so tickets for streams are signed with a random key: "
                           "they end with this process")
        return self._own_key


def _signer(clock: Callable[[], float]) -> type[TimestampSigner]:
    """Return a signer that goes by ``clock``."""

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    return Signer
