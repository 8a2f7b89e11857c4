"""Hub: who is connected, who is in which room, and who must be woken when something happens."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from . import signals
from .errors import Overloaded
from .event import Event, Target
from .log import Entry, EventLog
from .turns import Turns

#: From which number a client is in a room, and up to which (``None``: still).
Interval = tuple[int, "int | None"]


class Client:
    """One opened stream: its identity, the rooms it is in, and the request that opened it.

    :ivar sid: public name, also the room it is alone in. :ivar token: proves that a request is this client's.
    :ivar environ: WSGI environment of the opening request; handlers see its arguments, headers and cookies.
    :ivar turns: puts its numbered events in order.
    :ivar ended: true once the host has ended it; its writer then closes the stream.
    :ivar session: the session its handlers share, forked from the one of the opening request at first use.
    """

    def __init__(self, environ: dict[str, Any], namespace: str, joined_at: int) -> None:
        self.sid = secrets.token_urlsafe(15)
        self.token = secrets.token_urlsafe(32)
        self.namespace = namespace
        self.environ = environ
        self.address = str(environ.get("REMOTE_ADDR", ""))
        self.opened_at = time.time()
        self.session: Any = None
        self.ended = False
        self.turns = Turns()
        self._rooms: dict[Hashable, tuple[Interval, ...]] = {self.sid: ((joined_at, None),)}

    def proves(self, token: str) -> bool:
        """True if ``token`` is this client's; compared in constant time."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode("ascii"))

    def rooms(self) -> list[Hashable]:
        """Return the rooms this client is in now, its own among them."""
        return [room for room, spells in list(self._rooms.items()) if spells[-1][1] is None]

    def in_room(self, room: Hashable, seq: int) -> bool:
        """True if the client was in ``room`` when event number ``seq`` was emitted."""
        spells = self._rooms.get(room, ())
        return any(joined < seq and (left is None or seq <= left) for joined, left in spells)

    def is_for(self, seq: int, target: Target) -> bool:
        """True if an event with this number and target is for this client."""
        if target.namespace != self.namespace or self.sid in target.skip:
            return False
        return target.rooms is None or any(self.in_room(room, seq) for room in target.rooms)

    def _join(self, room: Hashable, now: int) -> None:
        spells = self._rooms.get(room, ())
        if not spells or spells[-1][1] is not None:
            self._rooms[room] = (*spells, (now, None))

    def _leave(self, room: Hashable, now: int, known_from: int) -> None:
        spells = self._rooms.get(room, ())
        if spells and spells[-1][1] is None:
            self._rooms[room] = (*spells[:-1], (spells[-1][0], now))
        # Forget spells in which nothing was emitted, or nothing that the log could still ask about.
        kept = {name: tuple((joined, left) for joined, left in spells
                            if left is None or (left >= known_from and left > joined))
                for name, spells in self._rooms.items()}
        self._rooms = {name: spells for name, spells in kept.items() if spells}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went out on streams: events delivered, bytes, and streams by the way they ended."""

    delivered: int
    bytes: int
    ended: dict[str, int]


class Hub:
    """Clients, rooms and wake-ups around one log.

    :param announcer: sends the blinker signals.
    :param max_streams: clients in total; ``max_per_address``: of one peer address.
    """

    def __init__(self, log: EventLog, announcer: signals.Announcer, *, max_streams: int, max_per_address: int) -> None:
        self.log = log
        self.announcer = announcer
        self.changed = threading.Condition()
        self.refused = 0
        self._max_streams, self._max_per_address = max_streams, max_per_address
        self._clients: dict[str, Client] = {}
        self._per_address: Counter[str] = Counter()
        self._collected: dict[Hashable, list[Event]] = {}
        self._wakers: tuple[Callable[[], None], ...] = ()
        self._delivered = self._bytes = 0
        self._ended: Counter[str] = Counter()
        self._lock = threading.RLock()  # a stream's finalizer may run inside it

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(self, event: Event) -> Entry | None:
        """Append ``event`` to the log, wake the writers, then tell the blinker bus. Waits for nobody.

        (Append before signal: a receiver that emits cannot reorder ids.)

        :return: the entry, or ``None`` if the event was only for a caller that has no stream.
        """
        if self._collected and self._collect(event):
            return None
        entry = self.log.append(event)
        self.wake()
        self.announcer.announce(signals.event_emitted, event=event, event_id=self.log.id_of(entry.seq))
        return entry

    def wake(self) -> None:
        """Tell every writer and waiting stream to look at the log again."""
        for waker in self._wakers:
            waker()
        with self.changed:
            self.changed.notify_all()

    def add_waker(self, waker: Callable[[], None]) -> Callable[[], None]:
        """Have ``waker`` called, in the emitter's thread, after every event; return a function that ends that."""
        with self._lock:
            self._wakers = (*self._wakers, waker)

        def remove() -> None:
            with self._lock:
                self._wakers = tuple(item for item in self._wakers if item is not waker)

        return remove

    def collect(self, room: Hashable) -> list[Event]:
        """Gather events sent to ``room`` alone in the returned list, until :meth:`collected` is called for it."""
        return self._collected.setdefault(room, [])

    def collected(self, room: Hashable) -> None:
        """End what :meth:`collect` began."""
        self._collected.pop(room, None)

    def _collect(self, event: Event) -> bool:
        rooms = event.target.rooms
        if rooms is None or len(rooms) != 1:
            return False
        gathered = self._collected.get(next(iter(rooms)))
        if gathered is not None:
            gathered.append(event)
        return gathered is not None

    # -- clients ---------------------------------------------------------------------------------------------

    def admit(self, environ: dict[str, Any], namespace: str) -> Client:
        """Register a client that is about to get a stream.

        :raises Overloaded: if a limit on streams is reached; counted in ``refused``.
        """
        address = str(environ.get("REMOTE_ADDR", ""))
        with self._lock:
            if len(self._clients) >= self._max_streams:
                self.refused += 1
                raise Overloaded(f"all {self._max_streams} streams are taken (HYBRID_MAX_STREAMS)",
                                 code="too_many_streams", retry_after=5)
            if self._per_address[address] >= self._max_per_address:
                self.refused += 1
                raise Overloaded(f"{address} has all {self._max_per_address} streams one address may open "
                                 "(HYBRID_MAX_STREAMS_PER_ADDRESS)", code="too_many_streams", status=429, retry_after=5)
            client = Client(environ, namespace, self.log.newest)
            self._clients[client.sid] = client
            self._per_address[address] += 1
        return client

    def drop(self, client: Client) -> bool:
        """Forget a client; true the first time."""
        with self._lock:
            if self._clients.pop(client.sid, None) is None:
                return False
            self._per_address[client.address] -= 1
            if not self._per_address[client.address]:
                del self._per_address[client.address]  # or addresses would pile up
            return True

    def end(self, sid: str) -> None:
        """Have a client's stream closed by whoever writes it."""
        client = self._clients.get(sid)
        if client is not None:
            client.ended = True
            self.wake()

    def client(self, sid: object) -> Client | None:
        """Return the client with this ``sid``."""
        return self._clients.get(sid) if isinstance(sid, str) else None

    def clients(self, namespace: str | None = None) -> list[Client]:
        """Return the clients of a namespace, or all."""
        clients = list(self._clients.values())
        return clients if namespace is None else [item for item in clients if item.namespace == namespace]

    # -- rooms -----------------------------------------------------------------------------------------------

    def enter_room(self, sid: str, room: Hashable) -> None:
        """Put a client in a room; it gets what is emitted to the room from now on."""
        with self._lock:
            client = self._clients.get(sid)
            if client is not None:
                client._join(room, self.log.newest)

    def leave_room(self, sid: str, room: Hashable) -> None:
        """Take a client out of a room; it still gets what was emitted to the room before."""
        with self._lock:
            client = self._clients.get(sid)
            if client is not None:
                client._leave(room, self.log.newest, self.log.known_from)

    def close_room(self, room: Hashable, namespace: str = "/") -> None:
        """Take every client of a namespace out of a room."""
        for client in self.clients(namespace):
            self.leave_room(client.sid, room)

    # -- statistics ------------------------------------------------------------------------------------------

    def count_delivery(self, delivered: int, size: int) -> None:
        """Add what was written to streams."""
        with self._lock:
            self._delivered += delivered
            self._bytes += size

    def count_end(self, reason: str) -> None:
        """Count one ended stream."""
        with self._lock:
            self._ended[reason] += 1

    def traffic(self) -> Traffic:
        """Return a snapshot of what went out."""
        with self._lock:
            return Traffic(self._delivered, self._bytes, dict(self._ended))
