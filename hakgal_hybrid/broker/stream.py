"""SubscriberStream: one stream as bytes. It knows nothing of the socket: that is its writer's.

The fan-out writer, a generator under another server and a TLS greenlet all do the same:
:meth:`SubscriberStream.opening` once, then :meth:`SubscriberStream.take` whenever the log has grown,
:meth:`SubscriberStream.heartbeat` when nothing was sent for a while, and :meth:`SubscriberStream.bye` at the end.
Streams at the same place in the log share one ``bytes``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .client import Client, Session, steady
from .cohort import LiveEdge, SubscriberGroup
from .content import StreamContent
from .cursor import Cursor
from .entry import Gap
from .event import Target
from .hub import Hub
from .log import resume_id
from .past import LookBack, resume
from .reading import Shared, read, read_shared
from .sse import LAST_CHUNK, RANDOM
from .states import SessionState, StreamEnd, StreamEvent, StreamState, after
from .subscription import StreamOptions, StreamRequest, shared_request


class SubscriberStream:
    """One stream of a session.

    :param session: whose stream it is.
    :param hub: where its clients and their rooms are.
    :param options: what all streams have in common.
    :param request: what the client asked for.
    :param on_gap: called with every gap, for each client that it concerns.
    :param look_back: reads what the log has dropped and several processes still have; ``None`` for nothing.
    :ivar content: what of the log is for its clients, as bytes.
    :ivar state: see :class:`~hakgal_hybrid.broker.states.StreamState`. Only the writer changes it.
    :ivar reader: a cursor of its own, or, while it is live, the group it is in. It is one attribute because other
        threads read its position.
    :ivar edge: set by a writer of many streams; it collects those whose clients have changed.
    :ivar writer: the object that writes it, while it is live.
    :ivar resumed: true if its session has had a stream before.
    :ivar replay_until: the number of the last event that it gets however old it is: a resume gets all the log has.
    :ivar own_delivered: its count of events, less that of its group, if it is in one.
    :ivar medium: ``sse``, ``websocket``, ``socketio-polling`` or ``socketio-websocket``, for the list of clients.
    """

    __slots__ = ("_opening", "_past", "content", "edge", "hub", "medium", "options", "own_delivered",
                 "reader", "replay_until", "resumed", "session", "state", "writer")

    def __init__(self, session: Session, hub: Hub, options: StreamOptions, request: StreamRequest,
                 on_gap: Callable[[Client, Gap], None] = lambda client, gap: None,
                 look_back: LookBack | None = None) -> None:
        self.session, self.hub, self.options = session, hub, options
        self.content = StreamContent(session, hub.log, request, on_gap)
        self.state = StreamState.OPENING
        self.medium, self.resumed = "sse", session.state is not SessionState.WAITING
        self.edge: LiveEdge | None = None
        self.writer: Any = None
        self._opening, self._past, self.own_delivered = b"", b"", 0
        position, gap = session.start, None
        if request.last_event_id is not None:
            position, gap, self._past = resume(hub.log, request, session, None if self.resumed else look_back)
        self.replay_until = hub.log.newest
        self.reader: Cursor | SubscriberGroup = self._new_cursor(position, gap)

    def _new_cursor(self, position: int, gap: Gap | None = None) -> Cursor:
        return Cursor(self.hub.log, position, self.wants, gap, self.content.covers)

    def wants(self, seq: int, name: str | None, target: Target) -> bool:
        """Say whether an event is for a client of this stream and passes its filter.

        :param seq: the event's number.
        :param name: its name; ``None`` for a dropped event, whose name is not kept.
        :param target: for whom it is.
        :return: true if it does.
        :raises LookupError: if that cannot be known without the name, or because clients came or went meanwhile.
        """
        if name is None and not steady(self.session.clients, self.position):
            raise LookupError("clients came or went meanwhile: how many of the events were for them is not known")
        return self.content.wants(seq, name, target)

    # -- where it is -----------------------------------------------------------------------------------------

    @property
    def request(self) -> StreamRequest:
        """What the client asked for."""
        return self.content.request

    @property
    def position(self) -> int:
        """The number of the last event that was written, or was not for it."""
        return self.reader.position

    @property
    def group(self) -> SubscriberGroup | None:
        """The group it is in while it is live."""
        reader = self.reader
        return reader if isinstance(reader, SubscriberGroup) else None

    @property
    def cursor(self) -> Cursor:
        """Its cursor. It has none while it is live."""
        reader = self.reader
        assert isinstance(reader, Cursor)
        return reader

    @property
    def delivered(self) -> int:
        """How many events were written, those included that its group got."""
        group = self.group
        return self.own_delivered + (0 if group is None else group.delivered)

    def enter(self, group: SubscriberGroup, writer: Any) -> None:
        """Become live.

        :param group: the group it is in from now on.
        :param writer: whatever writes it.
        """
        self.state = after(self.state, StreamEvent.CAUGHT_UP)
        self.writer = writer
        self.own_delivered -= group.delivered
        self.reader = group  # without a cursor, which saves memory: most streams are live most of the time

    def leave(self, position: int) -> None:
        """Leave the live group, and go on by a cursor of its own.

        :param position: number of the last event that it was given, or that was not for it.
        """
        self.state = after(self.state, StreamEvent.FELL_BACK)
        self.writer = None
        self.own_delivered = self.delivered
        self.reader = self._new_cursor(position)

    def happened(self, event: StreamEvent) -> None:
        """Move to the next state. Only its writer calls this.

        :param event: what has happened.
        """
        self.state = after(self.state, event)

    def clients_changed(self) -> None:
        """Tell the writer that the clients have changed, before its next step. Any thread may call it."""
        if self.edge is not None:
            self.edge.changed.add(self)

    # -- what is written -------------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """True if there is more to take: events that it has not looked at, a ``hybrid_disconnect`` or a gap."""
        reader = self.reader
        return not self.replaced and (
            reader.position < self.hub.log.newest or any_over(self.session.clients, self.hub.log.newest)
            or (isinstance(reader, Cursor) and reader.pending_gap is not None))

    @property
    def replaced(self) -> bool:
        """True once the session has another stream."""
        return self.session.carrier is not self

    @property
    def finished(self) -> StreamEnd | None:
        """The reason for which its writer must close it; ``None`` while it must not."""
        if self.replaced:
            return StreamEnd.REPLACED
        return None if self.session.clients or self.session.reserved else StreamEnd.DISCONNECTED

    def opening(self) -> bytes:
        """Return what every stream begins with: ``hybrid_open`` with the reconnection time, a gap, the snapshot."""
        self.prepare()
        opening, self._opening = self._opening, b""
        self.state = after(self.state, StreamEvent.OPENED)
        return self.content.framed(opening)

    def prepare(self) -> None:
        """Encode the opening ahead of time: a snapshot of a long log would hold up the writer."""
        if not self._opening:
            gap, self.cursor.pending_gap = self.cursor.pending_gap, None
            self._opening = self.content.opening(self.options, self.position, gap, resumed=self.resumed)
            self._opening, self._past = self._opening + self._past, b""
            self.content.request = shared_request(self.request)

    def take(self, shared: Shared | None = None, upto: int | None = None, most: int | None = None) -> bytes:
        """Return everything new, in order, with a gap first if something was lost.

        :param shared: what other streams took in the same pass; those at the same place get the very same bytes.
        :param upto: number of the last event that it may look at; the same for all that share.
        :param most: how many events it takes at most, if nothing is shared.
        :return: the bytes; ``b""`` if there is nothing new.
        """
        cursor = self.cursor
        # The age limit is for open streams: a resume gets whatever the log still has.
        replaying = cursor.position < self.replay_until
        min_at = float("-inf") if replaying else self.hub.log.clock() - self.options.max_backlog_s
        written = (read(self.content, cursor, min_at, upto, most) if shared is None else
                   read_shared(shared, self.content, cursor, min_at, upto, replaying=replaying))
        for client in written.released:
            self.hub.release(client)
        self.own_delivered += written.delivered
        if written.delivered:
            self.hub.deliveries.delivered(written.delivered, len(written.data))
        return written.data

    def heartbeat(self) -> bytes:
        """Return a heartbeat: an event with the newest id that the stream has come to.

        It has none before a replay has come to its end: the id that was asked for may be newer than what is left.
        """
        position = self.position
        event_id = None if position < self.replay_until else resume_id(self.hub.log, position)
        return self.content.framed(self.content.control("hybrid_heartbeat", {}, event_id))

    def bye(self) -> bytes:
        """Return ``hybrid_bye``, with a jittered reconnection time, so that clients do not all reconnect at once."""
        retry_ms = round(self.options.retry_ms * RANDOM.uniform(0.5, 1.5))
        return self.content.framed(self.content.control("hybrid_bye", {"retry_ms": retry_ms}, retry=retry_ms))

    def end(self, reason: StreamEnd) -> bytes:
        """Return what ends the body.

        :param reason: why the stream ends.
        :return: the last chunk, if it has chunks and its clients are ended for good. Else nothing, as for a cut: those
            that stop at a clean end, such as clients that use ``fetch``, have to come back.
        """
        return LAST_CHUNK if self.content.chunked and reason is StreamEnd.DISCONNECTED else b""


def any_over(clients: tuple[Client, ...], newest: int) -> bool:
    """Say whether a client has ended, and whatever was emitted before that is in the log.

    :param clients: the clients.
    :param newest: the number of the newest event.
    :return: true if one has.
    """
    return any(client.ended_at is not None and client.ended_at <= newest for client in clients)
