"""Tickets: what opens a stream in the query of its URL, for readers that can send no header.

There are two kinds. A client that has connected by POST gets a random text, which names its
:class:`~hakgal_hybrid.broker.client.Session`. A page with the key can get a signed text, which opens one stream within
one minute. From then on it names the session of that stream, so that an ``EventSource``, which reconnects by the same
URL, comes back as the same client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from ..broker.client import Client, Session, bad_ticket
from ..broker.states import SessionState
from ..errors import Overloaded
from ..logs import get_logger
from .stream_query import is_bound

logger = get_logger(__name__)

#: How long a ticket may open a stream (seconds).
VALID_S = 60
#: Reasons for which a client has ended for good: its ticket opens no other stream then, however young it is.
_FINAL = ("server disconnect", "client disconnect")
_SALT = "hakgal-hybrid-ticket"


def session_of(client: Client) -> Session:
    """Return the session of a client.

    :param client: a client that was let in.
    :raises AccessDenied: if the client has no session, and so no stream to open.
    """
    if client.session is None:
        raise bad_ticket()
    return client.session


def query_digest(query: str) -> str:
    """Return what stands for a query in a signed ticket, however its parameters are ordered and escaped.

    Of a parameter that comes twice the first counts, so the order of those matters.

    :param query: the query of a URL, without ``?``.
    """
    found = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")  # what is no UTF-8 is not all the same
    pairs = [pair for pair in found if is_bound(pair[0])]
    text = json.dumps(sorted(pairs, key=lambda pair: pair[0]))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


class _Use:
    """What a signed ticket has opened.

    :param ends: when the ticket can open no new stream any more, in seconds since 1970.
    :ivar client: the client that the stream was opened for; ``None`` while its ``connect`` handler is running.
    """

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.client: Client | None = None

    @property
    def dead(self) -> bool:
        """True if there is nothing left to come back to."""
        return self.client is not None and (self.client.session is None
                                            or self.client.session.state is SessionState.ENDED)


class Tickets:
    """Makes signed tickets, and finds the session that a ticket of either kind opens a stream of.

    :param keys: returns the app's secret keys, the current one last; none if it has none.
    :param find: returns the session that a random ticket names, or ``None``.
    :param clock: returns the time, in seconds since 1970.
    """

    def __init__(self, keys: Callable[[], list[bytes]], find: Callable[[str], Session | None],
                 clock: Callable[[], float] = time.time) -> None:
        self._keys, self._find, self._clock = keys, find, clock
        self._own_key: list[bytes] = [secrets.token_bytes(32)]
        self._warned = False
        self._uses: dict[str, _Use] = {}
        self._prune_at = 256
        self._lock = threading.Lock()

    def issue(self, query: str = "") -> str:
        """Return a new signed ticket.

        :param query: the query of the stream that the ticket may open, without ``?``.
        """
        return str(self._serializer().dumps([secrets.token_urlsafe(12), query_digest(query)]))

    def name_session(self, process: str) -> str:
        """Return a new ticket for a session of one of several processes, of which it names that process first.

        Every process that has the same secret key knows that it is genuine.

        :param process: the name of the process.
        """
        text = f"{process}~{secrets.token_urlsafe(24)}"
        return f"{text}~{_mac(text, (self._keys() or self._substitute())[-1])}"

    def _is_genuine(self, ticket: str) -> bool:
        text, _, mac = ticket.rpartition("~")
        return text != "" and any(hmac.compare_digest(mac.encode("utf-8", "replace"), _mac(text, key).encode())
                                  for key in self._keys() or self._own_key)

    def admits(self, ticket: str, query: str) -> bool:
        """Return true if a request may open a stream, as far as its ticket says.

        :param ticket: the ticket of the request.
        :param query: the query of the request, the ticket included.
        """
        if not _is_signed(ticket):
            return self._find(ticket) is not None or self._is_genuine(ticket)
        try:
            number, age = self._read(ticket, query)
        except BadData:
            return False
        use = self._uses.get(number)
        return 0 <= age <= VALID_S or (use is not None and not use.dead)

    def session_of(self, ticket: str, query: str, connect: Callable[[], Client]) -> tuple[Session, bool]:
        """Return the session whose stream a ticket opens, and whether somebody comes back to that session.

        :param ticket: the ticket of the request.
        :param query: the query of the request, the ticket included.
        :param connect: makes the client, if this is a signed ticket that has not opened a stream yet.
        :raises AccessDenied: if the ticket opens no stream, or no longer; and what ``connect`` raises.
        :raises Overloaded: if another request is opening the ticket's stream just now.
        """
        if _is_signed(ticket):
            client, resumed = self._redeem(ticket, query, connect)
            return session_of(client), resumed
        session = self._find(ticket)
        if session is None:
            raise bad_ticket()
        return session, True

    def _redeem(self, ticket: str, query: str, connect: Callable[[], Client]) -> tuple[Client, bool]:
        """Return the client of a signed ticket, and whether its stream is resumed."""
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


def process_of_ticket(ticket: object) -> str:
    """Return the name of the process that has the session of a ticket; empty where no backplane names processes.

    :param ticket: the ticket, as somebody has sent it.
    """
    return ticket.partition("~")[0] if isinstance(ticket, str) and ticket.count("~") == 2 else ""


def _mac(text: str, key: bytes) -> str:
    derived = hashlib.sha256(b"hakgal-hybrid-session-ticket" + key).digest()
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), key=derived, digest_size=24).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _is_signed(ticket: str) -> bool:
    """Return true for a signed ticket; a random one has no dot."""
    return "." in ticket


def _signer(clock: Callable[[], float]) -> type[TimestampSigner]:
    """Return a signer that goes by ``clock``."""

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    return Signer
