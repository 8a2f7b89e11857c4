"""Link: what one stream carries, kept while the stream is away.

A stream comes and goes; its link stays for a while, so that its clients can come back as who they were. One link
carries several clients: the namespaces of a page, the tabs of a browser.
"""

from __future__ import annotations

import secrets
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from ..errors import Overloaded
from .client import Carrier, Session, bad_ticket
from .environ import ADDRESS
from .timers import TimerQueue


class SessionRegistry:
    """All links, and the places for streams.

    A link that waits for its first stream holds a place, like one that has a stream; one whose stream is away does not:
    clients that come back under another name must not be kept out by what they have left behind.

    :param lapsed: called, in a thread that must not be held up, with a link that nobody came back to.
    :param connect_s: how long a link waits for its first stream; ``resume_s``: for the next one.
    :ivar refused: how many streams a limit kept out. :ivar open: how many there are.
    :ivar lock: guards links and what they carry; whoever else changes that takes it too.
    """

    def __init__(self, lapsed: Callable[[Session], None], *, max_streams: int, max_per_address: int, connect_s: float,
                 resume_s: float) -> None:
        self.refused = 0
        self.open = 0
        self._lapsed = lapsed
        self._max_streams, self._max_per_address = max_streams, max_per_address
        self._connect_s, self._resume_s = connect_s, resume_s
        self._sessions: dict[str, Session] = {}  # by ticket
        self._away: OrderedDict[Session, None] = OrderedDict()
        self._places = 0
        self._per_address: Counter[str] = Counter()
        self._deadlines = TimerQueue()
        self.lock = threading.RLock()  # a stream's finalizer may run inside it

    def make(self, environ: dict[str, Any], start: int, *, lasting: bool = False) -> Session:
        """Return a new link. It waits for a stream once :meth:`expect` says so.

        :param lasting: true if it needs none and never lapses.
        :raises Overloaded: if a limit on streams is reached; counted in ``refused``.
        """
        address = sys.intern(str(environ.get(ADDRESS) or environ.get("REMOTE_ADDR", "")))
        session = Session(address, start, lasting=lasting)
        with self.lock:
            if not lasting:
                self._take_place(session.address)
        return session

    def ticket_of(self, session: Session) -> str:
        """Return what opens a link's stream; a secret."""
        with self.lock:
            if not session.ticket:
                session.ticket = secrets.token_urlsafe(24)
                if not session.dead:
                    self._sessions[session.ticket] = session
            return session.ticket

    def find(self, ticket: object) -> Session | None:
        """Return the link that a ticket belongs to, if clients can come back to it."""
        return self._sessions.get(ticket) if isinstance(ticket, str) else None

    def expect(self, session: Session) -> None:
        """Somebody is about to open the stream, and has time for that; more than was left, if there was less."""
        with self.lock:
            if session.dead or session.lasting or session.carrier is not None:
                return
            deadline = self._deadlines.call_later(self._connect_s, lambda: self.lapse(session))
            if session.deadline is not None and session.deadline.at > deadline.at:
                deadline.cancel()
            else:
                session.await_stream(deadline)

    # -- streams ---------------------------------------------------------------------------------------------

    def carry(self, session: Session, carrier: Carrier) -> bool:
        """A stream begins; one that the link had before is replaced.

        :return: true if there was one, which whoever writes it must be told.
        :raises Overloaded: if the link was away and there is no place for it now.
        :raises AccessDenied: if nobody can come back to it any more.
        """
        with self.lock:
            if session.dead:
                raise bad_ticket()
            if session in self._away:
                self._take_place(session.address)
                del self._away[session]
            session.await_stream(None)
            self.open += session.carrier is None
            replaced, session.carrier, session.opened = session.carrier, carrier, True
            if replaced is not None:
                replaced.stir()
            return replaced is not None

    def let_go(self, session: Session, carrier: object) -> bool:
        """A stream has ended: wait for the next one. False if it was not the link's stream (any more)."""
        with self.lock:
            if session.carrier is not carrier or session.dead:
                return False
            session.carrier = None
            self.open -= 1
            self._free_place(session.address)
            self._away[session] = None
            if self._resume_s:
                session.await_stream(self._deadlines.call_later(self._resume_s, lambda: self.lapse(session)))
        if not self._resume_s:
            self.lapse(session)
        return True

    def lapse(self, session: Session) -> None:
        """Nobody came back in time: the link's clients are over."""
        if self.drop(session):
            self._lapsed(session)

    def lapse_oldest(self) -> bool:
        """Give up the link that has been away longest; false if none is away."""
        with self.lock:
            session = next(iter(self._away), None)
        if session is None:
            return False
        self.lapse(session)
        return True

    def drop(self, session: Session, *, even_if_ridden: bool = True) -> bool:
        """Forget a link; true the first time, and only if it has no stream."""
        with self.lock:
            if session.dead or session.carrier is not None or (session.clients and not even_if_ridden):
                return False
            session.dead = True
            session.await_stream(None)
            self._sessions.pop(session.ticket, None)
            if session in self._away:
                del self._away[session]
            elif not session.lasting:
                self._free_place(session.address)
            return True

    # -- places ----------------------------------------------------------------------------------------------

    def _take_place(self, address: str) -> None:
        if self._places >= self._max_streams:
            self.refused += 1
            raise Overloaded(f"all {self._max_streams} streams are taken (HYBRID_MAX_STREAMS)",
                             code="too_many_streams", retry_after=5)
        if self._per_address[address] >= self._max_per_address:
            self.refused += 1
            raise Overloaded(f"{address} has all {self._max_per_address} streams one address may open "
                             "(HYBRID_MAX_STREAMS_PER_ADDRESS)", code="too_many_streams", status=429, retry_after=5)
        self._places += 1
        self._per_address[address] += 1

    def _free_place(self, address: str) -> None:
        self._places -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]  # or addresses would pile up
