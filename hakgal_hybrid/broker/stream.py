"""Feed: one client's stream as bytes, whoever writes them.

The fan-out writer, a generator under another server and a TLS greenlet all do the same:
:meth:`SubscriberStream.opening` once, then :meth:`SubscriberStream.take` whenever the log has grown,
:meth:`SubscriberStream.beat` when nothing was sent for a while, and
:meth:`SubscriberStream.bye` at the end. Readers at the same place share one ``bytes``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..settings import Settings
from .client import NEVER, Client, Session
from .cursor import Cursor
from .entry import Entry, Gap
from .envelope import envelope
from .epochs import LOSS_MARKER
from .event import RESERVED_PREFIX, Event, Target, glob_matcher
from .hub import Hub
from .sse import LAST_CHUNK, as_chunk, encode_event
from .subscription import StreamRequest, interned_request

if TYPE_CHECKING:
    from .cohort import SubscriberGroup

#: How much one take gives at most, in bytes (and a last event more): bounds what is copied for a slow client.
MAX_TAKE = 256 * 1024
#: How often one take asks, at most, whether an event is for a client: bounds its time, for streams with many clients.
MAX_LOOK = 20_000


#: Made once: ``json.dumps`` makes an encoder for each call that wishes anything.
_compact = json.JSONEncoder(separators=(",", ":")).encode


class Written(NamedTuple):
    """Bytes that any reader at the same place may share: up to which number, and how many events are in them."""

    data: bytes
    position: int
    delivered: int
    conflated: int
    gap: bool


Shared = dict[tuple[Any, ...], Written]


@dataclass(slots=True, eq=False)
class SubscriberStream:
    """One stream of a link.

    :ivar cursor: its own place in the log; not there while it keeps up with others.
    :ivar cohort: with whom it keeps up; ``None`` while it goes by its own cursor.
    :ivar on_gap: called with every gap, for each client that is told of it.
    :ivar writer: whatever writes it, while it keeps up.
    :ivar chunked: whether all that is written comes as chunks of an HTTP/1.1 body; set before the opening is written.
    :ivar resumed: true if its link has had a stream before. :ivar left: true once it was reported that it has ended.
    """

    session: Session
    hub: Hub
    settings: Settings
    wish: StreamRequest
    on_gap: Callable[[Client, Gap], None] = lambda client, gap: None
    cursor: Cursor = field(init=False)
    writer: Any = field(init=False, default=None)
    cohort: SubscriberGroup | None = field(init=False, default=None)
    _accepts: Callable[[str], bool] | None = field(init=False)
    _replay_until: int = field(init=False, default=0)
    _opening: bytes = field(init=False, default=b"")
    resumed: bool = field(init=False, default=False)
    left: bool = field(init=False, default=False)
    #: How it is written, and how many events were: for the list of clients.
    medium: str = field(init=False, default="sse")
    own_delivered: int = field(init=False, default=0)
    chunked: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        log = self.hub.log
        self._accepts = glob_matcher(self.wish.events) if self.wish.events else None
        self.resumed = self.session.opened
        position, gap = self.session.start, None
        if self.wish.last_event_id is not None:
            position, gap = log.resume(self.wish.last_event_id)
        self._replay_until = log.newest
        self.cursor = self._new_cursor(position, gap)

    def _new_cursor(self, position: int, gap: Gap | None = None) -> Cursor:
        return Cursor(self.hub.log, position, self._wants, gap, self._covers)

    def _covers(self, older: Entry, later: Entry) -> bool:
        """True if every client that an event is for gets a later one of its kind too."""
        return all(client.is_for(later.seq, later.event.target) for client in self.session.clients
                   if client.is_for(older.seq, older.event.target))

    def _wants(self, seq: int, name: str | None, target: Target) -> bool:
        if name is None and self.session.riders.settled > self.position:
            raise LookupError("clients came or went meanwhile: how many of the events were for them is not known")
        if not any(client.is_for(seq, target) for client in self.session.clients):
            return False
        if name is None and self._accepts is not None:
            raise LookupError("the name of a dropped event is forgotten")
        return name is None or self.accepts(name)

    def accepts(self, name: str) -> bool:
        """True if the client asked for events of this name."""
        return self._accepts is None or name.startswith(RESERVED_PREFIX) or self._accepts(name)

    # -- where it is -----------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Number of the last event that was written, or was not for it."""
        cohort = self.cohort
        return self.cursor.position if cohort is None else cohort.pack.position

    @property
    def delivered(self) -> int:
        """How many events were written, those included that its cohort got."""
        cohort = self.cohort
        return self.own_delivered + (0 if cohort is None else cohort.delivered)

    def level_with(self, position: int) -> bool:
        """True if it has got everything up to ``position``, and what comes next is like what others get."""
        cursor = self.cursor
        return (cursor.position == position >= self._replay_until and cursor.plain and not self.finished
                and self.session.riders.settled <= position)

    def keep_up(self, cohort: SubscriberGroup) -> bool:
        """Join a cohort; false if it is not to be: its clients have changed just now, maybe too early to stir it."""
        self.cohort = cohort
        if self.level_with(cohort.pack.position):
            self.own_delivered -= cohort.delivered
            del self.cursor  # most streams keep up most of the time, and there are many
            return True
        self.cohort = None
        return False

    def go_alone(self, position: int) -> None:
        """Leave the cohort, having been given everything up to ``position``."""
        self.own_delivered = self.delivered
        self.cursor = self._new_cursor(position)
        self.cohort = None

    def stir(self) -> None:
        """Have the writer look at it before the next step. May be called from any thread."""
        cohort = self.cohort
        if cohort is not None:
            cohort.pack.stir(self)

    # -- what is written -------------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """True if the log holds something this feed has not looked at."""
        return not self.replaced and (self.position < self.hub.log.newest or self.session.riders.settled == NEVER
                                      or (self.cohort is None and self.cursor.pending_gap is not None))

    @property
    def replaced(self) -> bool:
        """True once the link has another stream."""
        return self.session.carrier is not self

    @property
    def finished(self) -> str:
        """Why the stream is to be closed by whoever writes it; empty while it is not."""
        return "replaced" if self.replaced else "" if self.session.clients else "disconnected"

    def opening(self) -> bytes:
        """Return what every stream begins with: reconnection time, ``hybrid_open``, a gap, the snapshot."""
        self.prepare()
        opening, self._opening = self._opening, b""
        return self._framed(opening)

    def prepare(self) -> None:
        """Make the opening ahead of time: a snapshot of a long log takes a while, which must not be the writer's."""
        if not self._opening:
            self._opening = self._make_opening()
            # What is left of the wish is what many wish alike: kept once.
            wish = self.wish
            if wish.last_event_id is not None or wish.ticket is not None:
                wish = replace(wish, last_event_id=None, ticket=None)
            self.wish = interned_request(wish)

    def _make_opening(self) -> bytes:
        log, gap = self.hub.log, self.cursor.pending_gap
        self.cursor.pending_gap = None
        asked = self.wish.last_event_id
        # A resume that failed keeps the id that was asked for until the gap has been told.
        event_id: str | None = asked or log.id_of(self.cursor.position)
        if gap is not None:
            event_id = None if gap.reason == "malformed" else asked
        parts = [self._control("hybrid_open", {
            **self._who(), "profile": self.settings.profile.value, "heartbeat_s": self.settings.heartbeat_s,
            "oldest": log.id_of(log.oldest), "newest": log.id_of(log.newest), "resumed": self.resumed,
        }, event_id, retry=self.settings.retry_ms)]
        if gap is not None:
            log.note(gaps=1)
            parts.append(self._gap(gap))
        if self.wish.snapshot and (gap is not None or (self.wish.snapshot == "1" and asked is None)):
            parts += self._snapshot(0, self.cursor.position)
        return b"".join(parts)

    def _who(self) -> dict[str, Any]:
        """Tell who is on this stream; tokens only where the stream made them, because a ticket is no token."""
        living = self.session.living
        first = living[0] if living else None
        if self.wish.ticket is None:
            return {"sid": first and first.sid, "token": first and first.token}
        return {"sid": first and first.sid, "token": None, "sids": [client.sid for client in living]}

    def take(self, shared: Shared | None = None, upto: int | None = None) -> bytes:
        """Return everything new, in order, with a gap first if something was lost; ``b""`` if there is nothing.

        :param shared: what other feeds took in the same pass; those at the same place get the very same bytes.
        :param upto: number of the last event that it may look at; the same for all that share.
        """
        written = self._shared(shared, upto) if shared is not None else self._read(upto)
        self.own_delivered += written.delivered
        if written.delivered:
            self.hub.count_delivery(written.delivered, len(written.data))
        return written.data

    def heartbeat(self) -> bytes:
        """Return a heartbeat: an event with the newest id, so that the client's grows stale never.

        (The newest that the stream has come to: everything up to there was given, or was not for it.)
        """
        return self._framed(self._control("hybrid_heartbeat", {}, self.hub.log.id_of(self.position)))

    def bye(self) -> bytes:
        """Return the farewell: a jittered reconnection time and ``hybrid_bye``, so that not all come back at once."""
        retry_ms = round(self.settings.retry_ms * random.uniform(0.5, 1.5))
        return self._framed(self._control("hybrid_bye", {"retry_ms": retry_ms}, retry=retry_ms))

    def end(self, reason: str) -> bytes:
        """Return what ends the body.

        :param reason: why the stream ends.
        :return: the last chunk, if it has chunks and the client was given everything; else nothing, as for a cut.
        """
        return LAST_CHUNK if self.chunked and reason != "replaced" else b""

    def _framed(self, data: bytes) -> bytes:
        return as_chunk(data) if self.chunked else data

    # -- how -------------------------------------------------------------------------------------------------

    def _shared(self, shared: Shared, upto: int | None) -> Written:
        """Read by way of ``shared``, if all that is new is for everybody, so that only the filter can matter."""
        cursor, log = self.cursor, self.hub.log
        _, namespaces, settled = self.session.riders
        if max(log.last_partial, settled) > cursor.position or not cursor.plain:
            return self._read(upto)
        key = (cursor.position, "/" in namespaces, self.wish.events, self.wish.envelope, self.chunked,
               cursor.position < self._replay_until)
        written = shared.get(key)
        if written is None:
            shared[key] = written = self._read(upto)
            if written.gap or not cursor.plain or log.last_partial > key[0] or self.session.riders.settled > key[0]:
                del shared[key]  # it turned out to be this reader's own
        else:
            cursor.position = written.position
            if written.conflated:
                log.note(conflated=written.conflated)
        return written

    def _read(self, upto: int | None) -> Written:
        log, cursor = self.hub.log, self.cursor
        # The age limit is for open streams: a resume gets whatever the log still has.
        replaying = cursor.position < self._replay_until
        min_at = float("-inf") if replaying else log.clock() - self.settings.max_backlog_s
        before = cursor.position
        look_at = max(64, MAX_LOOK // max(1, len(self.session.clients)))
        gap, entries, conflated = cursor.read(max_bytes=MAX_TAKE, min_at=min_at, max_entries=look_at, upto=upto)
        parts = [] if gap is None else [self._gap(gap)]
        if gap is not None and self.wish.snapshot:
            parts += self._snapshot(before, gap.upto)
        gone = self._gone()
        for entry in entries:
            while gone and (gone[0].ended_at or 0) < entry.seq:
                parts.append(self._dismiss(gone.pop(0)))
            if entry.event is LOSS_MARKER:
                parts.append(self._torn(entry))
                continue
            parts.append(self._encode(entry, conflated=conflated.get(entry.seq, 0)) if self.wish.envelope
                         else entry.frame)
        parts += map(self._dismiss, gone)
        return Written(self._framed(b"".join(parts)), cursor.position, len(entries), sum(conflated.values()),
                       gap is not None)

    def _gone(self) -> list[Client]:
        """Return the clients that are over and have got everything that was for them, in the order of their ends."""
        if self.session.riders.settled != NEVER:
            return []
        return sorted((client for client in self.session.clients
                       if client.ended_at is not None and client.ended_at <= self.cursor.position),
                      key=lambda client: client.ended_at or 0)

    def _dismiss(self, client: Client) -> bytes:
        """Tell a client that it is over, and let it go."""
        shared = len(self.session.clients) > 1
        self.hub.prune(self.session, [client])
        return self._control("hybrid_disconnect", {"sid": client.sid, "reason": client.end_reason},
                             namespace=client.namespace, to=[client.sid] if shared else None)

    def _snapshot(self, after: int, upto: int) -> list[bytes]:
        """Encode of each name the newest event after number ``after`` up to ``upto``."""
        entries = self.hub.log.newest_of_names(upto, lambda seq, name, target: seq > after and self._wants(
            seq, name, target))
        return [self._encode(entry, with_id=False) for entry in entries]

    def _torn(self, entry: Entry) -> bytes:
        """Encode the place where an earlier life has lost something."""
        self.hub.log.note(gaps=1)
        return self._gap(Gap(entry.seq, None, "restarted"))

    def _gap(self, gap: Gap) -> bytes:
        """Encode a gap, and have it announced."""
        for client in self.session.living:
            self.on_gap(client, gap)
        upto = self.hub.log.id_of(gap.upto)
        return self._control("hybrid_gap", {"missed": gap.missed, "reason": gap.reason, "resume_from": upto}, upto)

    def _control(self, name: str, data: dict[str, Any], event_id: str | None = None, *, namespace: str = "/",
                 to: list[str] | None = None, retry: int | None = None) -> bytes:
        text = _compact(data)
        if not self.wish.envelope:
            return encode_event(text, event=name, event_id=event_id, retry=retry)
        return envelope(Event(name, text, 1, Target(namespace)), event_id, None, to=to, retry=retry)

    def _encode(self, entry: Entry, *, with_id: bool = True, conflated: int = 0) -> bytes:
        event_id = self.hub.log.id_of(entry.seq) if with_id else None
        if not self.wish.envelope:
            return encode_event(entry.event.data, event=entry.event.name, event_id=event_id)
        return envelope(entry.event, event_id, entry.ts, conflated, self._recipients(entry, replayed=not with_id))

    def _recipients(self, entry: Entry, *, replayed: bool) -> list[str] | None:
        """Return for which clients of this stream an event is; nothing if for all of its namespace.

        :param replayed: true if it carries no id, by which a client that came later would know that it is not for it.
        """
        event, clients = entry.event, self.session.clients
        if len(clients) == 1:
            return None
        there = [client for client in clients
                 if client.namespace == event.target.namespace and (replayed or client.lives_at(entry.seq))]
        meant = [client.sid for client in there if client.is_for(entry.seq, event.target)]
        return None if len(meant) == len(there) else meant
