"""Sessions: what one stream carries, kept while the stream is away.

A stream comes and goes; its session stays for a while, so that its clients can come back as who they were. One session
carries several clients: the namespaces of a page, the tabs of a browser.
"""

from __future__ import annotations

import math
import secrets
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..errors import Overloaded
from .addresses import AddressQueues
from .client import Carrier, Session, bad_ticket
from .environ import ADDRESS
from .slots import StreamSlots, TokenBuckets
from .states import SessionEvent, SessionState, after
from .timers import TimerQueue


class SessionRegistry:
    """All sessions, and the slots for streams.

    A session that waits for its first stream holds a slot, like one that has a stream. One whose stream is away does
    not: a page that connects anew must not be kept out by the session that it left behind. Where there is no slot for a
    stream, a session that waits for its first one gives way.

    :param lapsed: called with each session that lapses, and the state it was in. It must not block.
    :param max_streams: how many slots there are.
    :param max_per_address: how many of them one address may take.
    :param connect_s: how long a session waits for its first stream, in seconds.
    :param resume_s: how long it waits for the next one, in seconds.
    :param connect_rate: how many new sessions one address may have in a second, and ten times as many at once.
    :param gave_way: called with ``connect_gave_way`` or ``resume_gave_way`` when a session has to end because there is
        too much: one that waits for its first stream, or one whose stream is away.
    :param held: returns the lock that is held while sessions change: ``EventLog.held``; by default one of its own.
    :ivar refused: how many streams were refused because of a limit.
    :ivar open: how many streams there are.
    :ivar new_ticket: returns the ticket of a session.
    :ivar deadlines: calls what is due.
    """

    def __init__(self, lapsed: Callable[[Session, SessionState], None], *, max_streams: int, max_per_address: int,
                 connect_s: float, resume_s: float, connect_rate: float = 1_000_000,
                 gave_way: Callable[[str], object] = lambda code: None,
                 held: Callable[[], AbstractContextManager[Any]] | None = None) -> None:
        self.refused = self.open = 0
        self._lapsed = lapsed
        self.connect_s, self._resume_s, self._gave_way = connect_s, resume_s, gave_way
        self._sessions: dict[str, Session] = {}  # by ticket
        self._waiting, self._away = AddressQueues(), AddressQueues()
        self._slots = StreamSlots(max_streams, max_per_address)
        self._connect_rate, self._connects = connect_rate, TokenBuckets(connect_rate, 10 * connect_rate)
        self.new_ticket, self.deadlines = _random_ticket, TimerQueue()
        lock = threading.RLock()  # re-entrant: a stream's finalizer may run inside it
        self._held = (lambda: lock) if held is None else held

    def make(self, environ: dict[str, Any], start: int, *, standalone: bool = False) -> Session:
        """Return a new session. It waits for a stream once :meth:`expect` says so.

        :param environ: the WSGI environment of the request that makes it.
        :param start: number of the last event before.
        :param standalone: true if it needs no stream and never lapses.
        :return: the session.
        :raises Overloaded: if a limit on streams is reached, or the address connects too often; counted in ``refused``.
        """
        address = sys.intern(str(environ.get(ADDRESS) or environ.get("REMOTE_ADDR", "")))
        session = Session(address, start, standalone=standalone)
        if not standalone and (wait := self._connects.take(address)):
            self.refused += 1
            raise Overloaded(f"{address} has connected more than {self._connect_rate:g} times a second "
                             "(HYBRID_CONNECT_RATE)", code="too_many_connects", status=429,
                             retry_after=max(1, math.ceil(wait)))
        with self._held():
            if not standalone:
                self._take_slot(address)
        return session

    def ticket_of(self, session: Session) -> str:
        """Return the ticket that opens a session's stream; a secret. It is made at the first call.

        :param session: the session.
        :return: the ticket.
        """
        with self._held():
            if not session.ticket:
                session.ticket = self.new_ticket()
                if session.state is not SessionState.ENDED:
                    self._sessions[session.ticket] = session
            return session.ticket

    def find(self, ticket: object) -> Session | None:
        """Return the session that a ticket belongs to, if clients can come back to it.

        :param ticket: the ticket that a request shows; a value of any other type finds nothing.
        :return: the session, or ``None``.
        """
        return self._sessions.get(ticket) if isinstance(ticket, str) else None

    def expect(self, session: Session) -> None:
        """Allow ``connect_s`` from now for opening the stream, unless the deadline is later already.

        :param session: the session.
        """
        with self._held():
            if session.state not in (SessionState.WAITING, SessionState.AWAY):
                return
            if session.state is SessionState.WAITING:
                self._waiting.add(session)
            deadline = self.deadlines.call_later(self.connect_s, lambda: self.lapse(session))
            if session.deadline is not None and session.deadline.at > deadline.at:
                deadline.cancel()
            else:
                session.await_stream(deadline)

    # -- streams ---------------------------------------------------------------------------------------------

    def attach(self, session: Session, carrier: Carrier) -> bool:
        """Begin a stream. One that the session had before is replaced.

        :param session: the session.
        :param carrier: the stream.
        :return: true if there was one, whose writer must be woken.
        :raises Overloaded: if the session was away and there is no slot for it now.
        :raises AccessDenied: if nobody can come back to it any more.
        """
        with self._held():
            if session.state in (SessionState.ENDED, SessionState.STANDALONE):
                raise bad_ticket()
            if session.state is SessionState.AWAY:
                self._take_slot(session.address)
                self._away.discard(session)
            self._waiting.discard(session)
            session.await_stream(None)
            replaced, session.carrier = session.carrier, carrier
            session.state = after(session.state, SessionEvent.STREAM_BEGAN)
            self.open += replaced is None
            if replaced is not None:
                replaced.clients_changed()
            return replaced is not None

    def detach(self, session: Session, carrier: object) -> bool:
        """End a stream, and wait for the next one.

        :param session: the session.
        :param carrier: the stream.
        :return: false if it was not the session's stream (any more).
        """
        with self._held():
            if session.carrier is not carrier or session.state is not SessionState.OPEN:
                return False
            session.carrier = None
            session.state = after(session.state, SessionEvent.STREAM_ENDED)
            self.open -= 1
            self._slots.free(session.address)
            self._away.add(session)
            if self._resume_s:
                session.await_stream(self.deadlines.call_later(self._resume_s, lambda: self.lapse(session)))
        if not self._resume_s:
            self.lapse(session)
        return True

    def lapse(self, session: Session) -> None:
        """End a session that nobody came back to, and its clients.

        :param session: the session.
        """
        state = session.state
        if self.drop(session):
            self._lapsed(session, state)

    def make_room(self) -> bool:
        """End a session without a stream: of the address that has most of them away the one that is away longest.

        If none is away, one that waits for its first stream ends, by the same rule.

        :return: false if every session has its stream.
        """
        with self._held():
            session, code = self._away.oldest(), "resume_gave_way"
            if session is None:
                session, code = self._waiting.oldest(), "connect_gave_way"
        if session is None:
            return False
        self._gave_way(code)
        self.lapse(session)
        return True

    def drop(self, session: Session, *, even_with_clients: bool = True) -> bool:
        """Forget a session that has no stream.

        :param session: the session.
        :param even_with_clients: false to keep it if it has clients.
        :return: true if it was forgotten now.
        """
        with self._held():
            before = session.state
            if before in (SessionState.OPEN, SessionState.ENDED) or (session.clients and not even_with_clients):
                return False
            session.state = after(before, SessionEvent.LAPSED)
            session.await_stream(None)
            self._sessions.pop(session.ticket, None)
            self._away.discard(session)
            self._waiting.discard(session)
            if before is SessionState.WAITING:
                self._slots.free(session.address)
            return True

    def _take_slot(self, address: str) -> None:
        """Take a slot; sessions that have never had a stream give way, those of the address itself if it has its share.

        :raises Overloaded: if there is none, and nobody who could give way.
        """
        while (full := self._slots.take(address)) is not None:
            session = self._waiting.oldest(address if full.status == 429 else None)
            if session is None:
                self.refused += 1
                raise full
            self._gave_way("connect_gave_way")
            self.lapse(session)


def _random_ticket() -> str:
    return secrets.token_urlsafe(24)
