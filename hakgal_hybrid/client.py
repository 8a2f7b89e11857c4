"""Client: who somebody is to the host, and what is for them. It outlives the stream that carries it."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from .event import EVERYWHERE, Target
from .turns import Turns

if TYPE_CHECKING:
    from .link import Link

#: From which number a client is in a room, and up to which (``None``: still).
Interval = tuple[int, "int | None"]


class Client:
    """One client: its identity, the rooms it is in, and the request that opened it.

    :ivar sid: public name, also the room it is alone in. :ivar token: proves that a request is this client's.
    :ivar environ: WSGI environment of the opening request; handlers see its arguments, headers and cookies.
    :ivar link: the stream it is carried by, open or not; ``None`` for a caller without a stream.
    :ivar since: number of the last event that was before its time.
    :ivar ended_at: number of the last event that was in its time, once it is over; ``end_reason``: why it is.
    :ivar turns: puts its numbered events in order.
    :ivar session: the session its handlers share, forked from the one of the opening request at first use.
    :ivar store: what the host keeps for it by ``save_session``.
    """

    def __init__(self, environ: dict[str, Any], namespace: str, joined_at: int, *, since: int = 0,
                 link: Link | None = None) -> None:
        self.sid = secrets.token_urlsafe(15)
        self.token = secrets.token_urlsafe(32)
        self.namespace = namespace
        self.environ = environ
        self.link = link
        self.since = since
        self.ended_at: int | None = None
        self.end_reason = ""
        self.address = str(environ.get("REMOTE_ADDR", ""))
        self.opened_at = time.time()
        self.session: Any = None
        self.store: dict[str, Any] = {}
        self.turns = Turns()
        self._rooms: dict[Hashable, tuple[Interval, ...]] = {self.sid: ((joined_at, None),)}

    @property
    def ended(self) -> bool:
        """True once it is over: nothing that happens now is for this client."""
        return self.ended_at is not None

    def proves(self, token: object) -> bool:
        """True if ``token`` is this client's; compared in constant time."""
        return isinstance(token, str) and hmac.compare_digest(token.encode("utf-8", "replace"),
                                                              self.token.encode("ascii"))

    def rooms(self) -> list[Hashable]:
        """Return the rooms this client is in now, its own among them."""
        return [room for room, spells in list(self._rooms.items()) if spells[-1][1] is None]

    def in_room(self, room: Hashable, seq: int) -> bool:
        """True if the client was in ``room`` when event number ``seq`` was emitted."""
        spells = self._rooms.get(room, ())
        return any(joined < seq and (left is None or seq <= left) for joined, left in spells)

    def is_for(self, seq: int, target: Target) -> bool:
        """True if an event with this number and target is for this client."""
        if target.namespace != self.namespace and target.namespace != EVERYWHERE:
            return False
        if not self.lives_at(seq) or self.sid in target.skip:
            return False
        return target.rooms is None or any(self.in_room(room, seq) for room in target.rooms)

    def lives_at(self, seq: int) -> bool:
        """True if event number ``seq`` was emitted in this client's time."""
        return self.since < seq and (self.ended_at is None or seq <= self.ended_at)

    def join(self, room: Hashable, now: int) -> None:
        """Be in ``room`` from the event after number ``now`` on."""
        spells = self._rooms.get(room, ())
        if not spells or spells[-1][1] is not None:
            self._rooms[room] = (*spells, (now, None))

    def leave(self, room: Hashable, now: int, known_from: int) -> None:
        """Be in ``room`` no more after event number ``now``.

        :param known_from: the oldest number that anybody could still ask about.
        """
        spells = self._rooms.get(room, ())
        if spells and spells[-1][1] is None:
            self._rooms[room] = (*spells[:-1], (spells[-1][0], now))
        # Forget spells in which nothing was emitted, or nothing that the log could still ask about.
        kept = {name: tuple((joined, left) for joined, left in spells
                            if left is None or (left >= known_from and left > joined))
                for name, spells in self._rooms.items()}
        self._rooms = {name: spells for name, spells in kept.items() if spells}
