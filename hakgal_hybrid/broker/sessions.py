"""Sessions: what one stream carries, kept while the stream is away.

A stream comes and goes; its session stays for a while, so that its clients can come back as who they were. One session
carries several clients: the namespaces of a page, the tabs of a browser.
"""

from __future__ import annotations

import secrets
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..errors import Overloaded
from .client import Carrier, Session, bad_ticket
from .environ import ADDRESS
from .states import SessionEvent, SessionState, after
from .timers import TimerQueue


class SessionRegistry:
    """All sessions, and the slots for streams.

    A session that waits for its first stream holds a slot, like one that has a stream. One whose stream is away does
    not: a page that connects anew must not be kept out by the session that it left behind.

    :param lapsed: called with each session that lapses, and the state it was in. It must not block.
    :param max_streams: how many slots there are.
    :param max_per_address: how many of them one address may take.
    :param connect_s: how long a session waits for its first stream, in seconds.
    :param resume_s: how long it waits for the next one, in seconds.
    :param held: returns the lock that is held while sessions change: ``EventLog.held``; by default one of its own.
    :ivar refused: how many streams were refused because of a limit.
    :ivar open: how many streams there are.
    """

    def __init__(self, lapsed: Callable[[Session, SessionState], None], *, max_streams: int, max_per_address: int,
                 connect_s: float, resume_s: float,
                 held: Callable[[], AbstractContextManager[Any]] | None = None) -> None:
        self.refused = 0
        self.open = 0
        self._lapsed = lapsed
        self._max_streams, self._max_per_address = max_streams, max_per_address
        self._connect_s, self._resume_s = connect_s, resume_s
        self._sessions: dict[str, Session] = {}  # by ticket
        self._away: OrderedDict[Session, None] = OrderedDict()
        self._slots = 0
        self._per_address: Counter[str] = Counter()
        self._deadlines = TimerQueue()
        lock = threading.RLock()  # re-entrant: a stream's finalizer may run inside it
        self._held = (lambda: lock) if held is None else held

    def make(self, environ: dict[str, Any], start: int, *, standalone: bool = False) -> Session:
        """Return a new session. It waits for a stream once :meth:`expect` says so.

        :param environ: the WSGI environment of the request that makes it.
        :param start: number of the last event before.
        :param standalone: true if it needs no stream and never lapses.
        :return: the session.
        :raises Overloaded: if a limit on streams is reached; counted in ``refused``.
        """
        address = sys.intern(str(environ.get(ADDRESS) or environ.get("REMOTE_ADDR", "")))
        session = Session(address, start, standalone=standalone)
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
                session.ticket = secrets.token_urlsafe(24)
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
            deadline = self._deadlines.call_later(self._connect_s, lambda: self.lapse(session))
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
                del self._away[session]
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
            self._free_slot(session.address)
            self._away[session] = None
            if self._resume_s:
                session.await_stream(self._deadlines.call_later(self._resume_s, lambda: self.lapse(session)))
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

    def lapse_oldest(self) -> bool:
        """End the session that has been away longest.

        :return: false if none is away.
        """
        with self._held():
            session = next(iter(self._away), None)
        if session is None:
            return False
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
            if before is SessionState.AWAY:
                del self._away[session]
            elif before is SessionState.WAITING:
                self._free_slot(session.address)
            return True

    # -- slots -----------------------------------------------------------------------------------------------

    def _take_slot(self, address: str) -> None:
        if self._slots >= self._max_streams:
            self.refused += 1
            raise Overloaded(f"all {self._max_streams} streams are taken (HYBRID_MAX_STREAMS)",
                             code="too_many_streams", retry_after=5)
        if self._per_address[address] >= self._max_per_address:
            self.refused += 1
            raise Overloaded(f"{address} has all {self._max_per_address} streams one address may open "
                             "(HYBRID_MAX_STREAMS_PER_ADDRESS)", code="too_many_streams", status=429, retry_after=5)
        self._slots += 1
        self._per_address[address] += 1

    def _free_slot(self, address: str) -> None:
        self._slots -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]  # or addresses would pile up
