"""SubscriberStream: one client's stream as bytes, whoever writes them.

The fan-out writer, a generator under another server and a TLS greenlet all do the same:
:meth:`SubscriberStream.opening` once, then :meth:`SubscriberStream.take` whenever the log has grown,
:meth:`SubscriberStream.heartbeat` when nothing was sent for a while, and :meth:`SubscriberStream.bye` at the end.
Streams at the same place in the log share one ``bytes``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from .blocks import control_block, entry_block
from .client import Client, Session, namespaces_of, steady
from .cohort import LiveEdge, SubscriberGroup
from .cursor import Cursor
from .entry import Entry, Gap
from .epochs import LOSS_MARKER
from .event import Target
from .hub import Hub
from .sse import LAST_CHUNK, as_chunk
from .states import SessionState, StreamEnd, StreamEvent, StreamState, after
from .subscription import StreamRequest, interned_request, name_filter

#: How much one take gives at most, in bytes (and a last event more): bounds what is copied for a slow client.
MAX_TAKE = 256 * 1024
#: How often one take asks, at most, whether an event is for a client: bounds its time, for streams with many clients.
MAX_LOOK = 20_000


class StreamOptions(NamedTuple):
    """What all streams have in common.

    :ivar profile: the profile that ``hybrid_open`` names.
    :ivar retry_ms: how long a client waits before it reconnects, in milliseconds.
    :ivar heartbeat_s: after how much silence a heartbeat is due, in seconds.
    :ivar max_backlog_s: how old an event may be that an open stream still gets, in seconds.
    """

    profile: str = "HYBRID"
    retry_ms: int = 3000
    heartbeat_s: float = 15
    max_backlog_s: float = 60


class Written(NamedTuple):
    """What one read gave; any stream at the same place may have the same bytes.

    :ivar data: the bytes.
    :ivar position: the number up to which they go.
    :ivar delivered: how many events are in them.
    :ivar conflated: for how many others these stand.
    :ivar gap: true if a gap is in them.
    :ivar released: the clients that have been told that they are over.
    """

    data: bytes
    position: int
    delivered: int
    conflated: int
    gap: bool
    released: tuple[Client, ...] = ()


class SharedKey(NamedTuple):
    """What two streams must have in common to have the same bytes: their place, and what they asked for.

    :ivar position: number of the last event before.
    :ivar namespaces: the namespaces of their clients.
    :ivar events: globs of the names that they asked for.
    :ivar envelope: whether they get envelopes.
    :ivar chunked: whether what is written comes as chunks of an HTTP/1.1 body.
    :ivar replaying: whether they resume, and may have what is older than an open stream may.
    """

    position: int
    namespaces: frozenset[str]
    events: tuple[str, ...]
    envelope: bool
    chunked: bool
    replaying: bool


Shared = dict[SharedKey, Written]


class SubscriberStream:
    """One stream of a session.

    :param session: whose stream it is.
    :param hub: where its clients and their rooms are.
    :param options: what all streams have in common.
    :param request: what the client asked for.
    :param on_gap: called with every gap, for each client that is told of it.
    :ivar state: see :class:`~hakgal_hybrid.broker.states.StreamState`. Only the writer changes it.
    :ivar reader: where it reads: a cursor of its own, or, while it is live, the group it is in. One value, because
        other threads ask for its position.
    :ivar edge: where live streams say that their clients have changed; set by whoever writes several.
    :ivar writer: whatever writes it, while it is live.
    :ivar resumed: true if its session has had a stream before.
    :ivar replay_until: number of the last event that it gets however old it is: a resume gets what the log has.
    :ivar medium: how it is written, for the list of clients.
    :ivar chunked: whether all that is written comes as chunks of an HTTP/1.1 body; set before the opening is written.
    """

    __slots__ = ("_delivered", "_opening", "accepts", "chunked", "edge", "hub", "medium", "on_gap", "options", "reader",
                 "replay_until", "request", "resumed", "session", "state", "writer")

    def __init__(self, session: Session, hub: Hub, options: StreamOptions, request: StreamRequest,
                 on_gap: Callable[[Client, Gap], None] = lambda client, gap: None) -> None:
        self.session, self.hub, self.options, self.request, self.on_gap = session, hub, options, request, on_gap
        self.accepts = name_filter(request.events)
        self.state = StreamState.OPENING
        self.resumed = session.state is not SessionState.WAITING
        self.edge: LiveEdge | None = None
        self.writer: Any = None
        self.medium = "sse"
        self.chunked = False
        self._opening = b""
        self._delivered = 0
        position, gap = session.start, None
        if request.last_event_id is not None:
            position, gap = hub.log.resume(request.last_event_id)
        self.replay_until = hub.log.newest
        self.reader: Cursor | SubscriberGroup = self._new_cursor(position, gap)

    def _new_cursor(self, position: int, gap: Gap | None = None) -> Cursor:
        return Cursor(self.hub.log, position, self.wants, gap, self._covers)

    def _covers(self, older: Entry, later: Entry) -> bool:
        """True if every client that an event is for gets a later one of its kind too."""
        return all(client.is_for(later.seq, later.event.target) for client in self.session.clients
                   if client.is_for(older.seq, older.event.target))

    def wants(self, seq: int, name: str | None, target: Target) -> bool:
        """Say whether an event is for a client of this stream and passes its filter.

        :param seq: the event's number.
        :param name: its name; ``None`` if that is forgotten.
        :param target: for whom it is.
        :return: true if it does.
        :raises LookupError: if that cannot be known without the name, or because clients came or went meanwhile.
        """
        clients = self.session.clients
        if name is None and not steady(clients, self.position):
            raise LookupError("clients came or went meanwhile: how many of the events were for them is not known")
        if not any(client.is_for(seq, target) for client in clients):
            return False
        if name is None and self.request.events:
            raise LookupError("the name of a dropped event is forgotten")
        return name is None or self.accepts(name)

    # -- where it is -----------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Number of the last event that was written, or was not for it."""
        return self.reader.position

    @property
    def group(self) -> SubscriberGroup | None:
        """The group it is in while it is live."""
        reader = self.reader
        return reader if isinstance(reader, SubscriberGroup) else None

    @property
    def cursor(self) -> Cursor:
        """Its own place in the log; not to be asked for while it is live."""
        reader = self.reader
        assert isinstance(reader, Cursor)
        return reader

    @property
    def delivered(self) -> int:
        """How many events were written, those included that its group got."""
        group = self.group
        return self._delivered + (0 if group is None else group.delivered)

    def count(self, events: int) -> None:
        """Count events that it was given and its group was not; or, below 0, the other way round.

        :param events: how many.
        """
        self._delivered += events

    def is_level_with(self, position: int) -> bool:
        """Say whether what comes next is for it as it is for others that asked for the same.

        :param position: number of the last event that these have been given.
        :return: true if it has got everything up to there, and nothing of its own is left to be said.
        """
        reader = self.reader
        return (isinstance(reader, Cursor) and reader.position == position >= self.replay_until and reader.plain
                and self.finished is None and steady(self.session.clients, position))

    def enter(self, group: SubscriberGroup, writer: Any) -> None:
        """Become live.

        :param group: the group it is in from now on.
        :param writer: whatever writes it.
        """
        self.state = after(self.state, StreamEvent.CAUGHT_UP)
        self.writer = writer
        self._delivered -= group.delivered
        self.reader = group  # most streams are live most of the time, and there are many: none of them has a cursor

    def leave(self, position: int) -> None:
        """Be live no more.

        :param position: number of the last event that it was given, or that was not for it.
        """
        self.state = after(self.state, StreamEvent.FELL_BACK)
        self.writer = None
        self._delivered = self.delivered
        self.reader = self._new_cursor(position)

    def happened(self, event: StreamEvent) -> None:
        """Go on to the next state. For its writer.

        :param event: what has happened.
        """
        self.state = after(self.state, event)

    def clients_changed(self) -> None:
        """Have the writer look at it before the next step. Any thread may call it."""
        if self.edge is not None:
            self.edge.changed.add(self)

    # -- what is written -------------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """True if the log has something that this stream has not looked at, or it has something of its own to say."""
        reader = self.reader
        return not self.replaced and (
            reader.position < self.hub.log.newest or any(client.ended for client in self.session.clients)
            or (isinstance(reader, Cursor) and reader.pending_gap is not None))

    @property
    def replaced(self) -> bool:
        """True once the session has another stream."""
        return self.session.carrier is not self

    @property
    def finished(self) -> StreamEnd | None:
        """Why the stream is to be closed by its writer; ``None`` while it is not."""
        if self.replaced:
            return StreamEnd.REPLACED
        return None if self.session.clients else StreamEnd.DISCONNECTED

    def opening(self) -> bytes:
        """Return what every stream begins with: ``hybrid_open`` with the reconnection time, a gap, the snapshot."""
        self.prepare()
        opening, self._opening = self._opening, b""
        self.state = after(self.state, StreamEvent.OPENED)
        return self._framed(opening)

    def prepare(self) -> None:
        """Make the opening ahead of time: a snapshot of a long log takes a while, which must not be the writer's."""
        if not self._opening:
            self._opening = self._make_opening()
            # What is left of the request is the same for many streams: kept once.
            request = self.request
            if request.last_event_id is not None or request.ticket is not None:
                request = replace(request, last_event_id=None, ticket=None)
            self.request = interned_request(request)

    def _make_opening(self) -> bytes:
        log, gap = self.hub.log, self.cursor.pending_gap
        self.cursor.pending_gap = None
        asked = self.request.last_event_id
        # A resume that failed keeps the id that was asked for until the gap has been told.
        event_id: str | None = asked or log.id_of(self.position)
        if gap is not None:
            event_id = None if gap.reason == "malformed" else asked
        parts = [self._control("hybrid_open", {
            **self._identity(), "profile": self.options.profile, "heartbeat_s": self.options.heartbeat_s,
            "oldest": log.id_of(log.oldest), "newest": log.id_of(log.newest), "resumed": self.resumed,
        }, event_id, retry=self.options.retry_ms)]
        if gap is not None:
            log.note(gaps=1)
            parts.append(self._gap(gap))
        if self.request.snapshot and (gap is not None or (self.request.snapshot == "1" and asked is None)):
            parts += self._snapshot(0, self.position)
        return b"".join(parts)

    def _identity(self) -> dict[str, Any]:
        """Say which clients are on this stream; tokens only where the stream made them: a ticket is no token."""
        living = self.session.living
        first = living[0] if living else None
        if self.request.ticket is None:
            return {"sid": first and first.sid, "token": first and first.token}
        return {"sid": first and first.sid, "token": None, "sids": [client.sid for client in living]}

    def take(self, shared: Shared | None = None, upto: int | None = None) -> bytes:
        """Return everything new, in order, with a gap first if something was lost.

        :param shared: what other streams took in the same pass; those at the same place get the very same bytes.
        :param upto: number of the last event that it may look at; the same for all that share.
        :return: the bytes; ``b""`` if there is nothing new.
        """
        written = self._shared(shared, upto) if shared is not None else self._read(upto)
        for client in written.released:
            self.hub.release(client)
        self._delivered += written.delivered
        if written.delivered:
            self.hub.deliveries.delivered(written.delivered, len(written.data))
        return written.data

    def heartbeat(self) -> bytes:
        """Return a heartbeat: an event with the newest id that the stream has come to."""
        return self._framed(self._control("hybrid_heartbeat", {}, self.hub.log.id_of(self.position)))

    def bye(self) -> bytes:
        """Return the farewell, with a jittered reconnection time: not all clients shall come back at once."""
        retry_ms = round(self.options.retry_ms * random.uniform(0.5, 1.5))
        return self._framed(self._control("hybrid_bye", {"retry_ms": retry_ms}, retry=retry_ms))

    def end(self, reason: StreamEnd) -> bytes:
        """Return what ends the body.

        :param reason: why the stream ends.
        :return: the last chunk, if it has chunks and the client was given everything; else nothing, as for a cut.
        """
        return LAST_CHUNK if self.chunked and reason is not StreamEnd.REPLACED else b""

    def _framed(self, data: bytes) -> bytes:
        return as_chunk(data) if self.chunked else data

    # -- how -------------------------------------------------------------------------------------------------

    def _shared(self, shared: Shared, upto: int | None) -> Written:
        """Read by way of ``shared``, if all that is new is for everybody, so that only the filter can matter."""
        cursor, log, clients = self.cursor, self.hub.log, self.session.clients

        def is_common() -> bool:
            return log.last_partial <= key.position and cursor.plain and steady(clients, key.position)

        key = SharedKey(cursor.position, namespaces_of(clients), self.request.events, self.request.envelope,
                        self.chunked, cursor.position < self.replay_until)
        if not is_common():
            return self._read(upto)
        written = shared.get(key)
        if written is None:
            written = self._read(upto)
            if is_common() and not written.gap and self.session.clients is clients:
                shared[key] = written  # or it turned out to be this reader's own
        else:
            cursor.position = written.position
            if written.conflated:
                log.note(conflated=written.conflated)
        return written

    def _read(self, upto: int | None) -> Written:
        log, cursor = self.hub.log, self.cursor
        # The age limit is for open streams: a resume gets whatever the log still has.
        replaying = cursor.position < self.replay_until
        min_at = float("-inf") if replaying else log.clock() - self.options.max_backlog_s
        before = cursor.position
        look_at = max(64, MAX_LOOK // max(1, len(self.session.clients)))
        gap, entries, conflated = cursor.read(max_bytes=MAX_TAKE, min_at=min_at, max_entries=look_at, upto=upto)
        parts = [] if gap is None else [self._gap(gap)]
        if gap is not None and self.request.snapshot:
            parts += self._snapshot(before, gap.upto)
        # After the log was read: of every end before an event that was read it is known now.
        released = sorted((client for client in self.session.clients
                           if client.ended_at is not None and client.ended_at <= cursor.position),
                          key=lambda client: client.ended_at or 0)
        waiting, left = list(released), len(self.session.clients)
        for entry in entries:
            while waiting and (waiting[0].ended_at or 0) < entry.seq:
                parts.append(self._disconnected(waiting.pop(0), left))
                left -= 1
            if entry.event is LOSS_MARKER:
                parts.append(self._loss(entry))
                continue
            stands_for = conflated.get(entry.seq, 0)
            parts.append(entry_block(entry, log.id_of(entry.seq), in_envelope=True, conflated=stands_for,
                                     to=self._recipients(entry)) if self.request.envelope else entry.frame)
        for client in waiting:
            parts.append(self._disconnected(client, left))
            left -= 1
        return Written(self._framed(b"".join(parts)), cursor.position, len(entries), sum(conflated.values()),
                       gap is not None, tuple(released))

    def _disconnected(self, client: Client, left: int) -> bytes:
        """Tell a client that it is over, which is one of so many that are left."""
        return self._control("hybrid_disconnect", {"sid": client.sid, "reason": client.end_reason},
                             namespace=client.namespace, to=[client.sid] if left > 1 else None)

    def _snapshot(self, behind: int, upto: int) -> list[bytes]:
        """Encode of each name the newest event after number ``behind`` up to ``upto``."""
        entries = self.hub.log.newest_of_names(upto, lambda seq, name, target: seq > behind and self.wants(
            seq, name, target))
        return [entry_block(entry, None, in_envelope=self.request.envelope, to=self._recipients(entry, replayed=True))
                for entry in entries]

    def _loss(self, entry: Entry) -> bytes:
        """Encode the place where an earlier life of the process has lost something."""
        self.hub.log.note(gaps=1)
        return self._gap(Gap(entry.seq, None, "restarted"))

    def _gap(self, gap: Gap) -> bytes:
        """Encode a gap, and have it announced."""
        for client in self.session.living:
            self.on_gap(client, gap)
        upto = self.hub.log.id_of(gap.upto)
        return self._control("hybrid_gap", {"missed": gap.missed, "reason": gap.reason, "resume_from": upto}, upto)

    def _control(self, name: str, data: dict[str, Any], event_id: str | None = None, **more: Any) -> bytes:
        return control_block(name, data, event_id, in_envelope=self.request.envelope, **more)

    def _recipients(self, entry: Entry, *, replayed: bool = False) -> list[str] | None:
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
