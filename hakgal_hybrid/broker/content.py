"""StreamContent: which events of the log are for the clients of one stream, and their bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .blocks import control_block, entry_block
from .client import Client, Session
from .cursor import Batch
from .entry import Entry, Gap
from .epochs import LOSS_MARKER
from .event import Target, is_marker
from .log import EventLog, resume_id
from .sse import as_chunk
from .subscription import StreamOptions, StreamRequest, name_filter


class StreamContent:
    """Chooses and encodes events for one stream. It has no position in the log: the entries are passed in.

    :param session: the session of the stream.
    :param log: the log.
    :param request: what the client asked for.
    :param on_gap: called with every gap, for each client that it concerns.
    :ivar accepts: true for the names that were asked for.
    :ivar chunked: whether the stream is written as chunks of an HTTP/1.1 body; set before the opening is written.
    """

    __slots__ = ("accepts", "chunked", "log", "on_gap", "request", "session")

    def __init__(self, session: Session, log: EventLog, request: StreamRequest,
                 on_gap: Callable[[Client, Gap], None]) -> None:
        self.session, self.log, self.request, self.on_gap = session, log, request, on_gap
        self.accepts = name_filter(request.events)
        self.chunked = False

    def wants(self, seq: int, name: str | None, target: Target) -> bool:
        """Say whether an event is for a client of this stream and passes its filter.

        :param seq: the event's number.
        :param name: its name; ``None`` for a dropped event, whose name is not kept.
        :param target: for whom it is.
        :return: true if both hold.
        :raises LookupError: if that cannot be known without the name.
        """
        if not any(_gets(client, seq, target) for client in self.session.clients):
            return False
        if name is None and self.request.events:
            raise LookupError("the name of a dropped event is forgotten")
        return name is None or self.accepts(name)

    def covers(self, older: Entry, later: Entry) -> bool:
        """Say whether every client that gets an event gets a later one of its kind too.

        :param older: the event.
        :param later: the later one.
        :return: true if the older one can be left out.
        """
        return all(_gets(client, later.seq, later.event.target) for client in self.session.clients
                   if _gets(client, older.seq, older.event.target))

    # -- as bytes --------------------------------------------------------------------------------------------

    def control(self, name: str, data: dict[str, Any], event_id: str | None = None, **more: Any) -> bytes:
        """Encode one of our own events; see :func:`~hakgal_hybrid.broker.blocks.control_block`.

        :param name: its name.
        :param data: its data.
        :param event_id: its id, if it carries one.
        :param more: what else :func:`~hakgal_hybrid.broker.blocks.control_block` takes.
        :return: the block.
        """
        return control_block(name, data, event_id, form=self.request.format, **more)

    def framed(self, data: bytes) -> bytes:
        """Return blocks as they are written to the stream.

        :param data: some blocks.
        :return: the same bytes; as one chunk, if the stream is chunked.
        """
        return as_chunk(data) if self.chunked else data

    def opening(self, options: StreamOptions, position: int, gap: Gap | None, *, resumed: bool) -> bytes:
        """Encode what every stream begins with: ``hybrid_open``, a gap, the snapshot.

        :param options: what all streams have in common.
        :param position: number of the last event before the stream.
        :param gap: the gap of a failed resume, or ``None``.
        :param resumed: true if the session has had a stream before.
        :return: the blocks.
        """
        log, asked = self.log, self.request.last_event_id
        # A resume that failed keeps the id that was asked for until the gap was sent.
        event_id = asked or resume_id(log, position)
        if gap is not None:
            event_id = None if gap.reason == "malformed" else asked
        parts = [self.control("hybrid_open", {
            **self._identity(), "profile": options.profile, "heartbeat_s": options.heartbeat_s,
            "oldest": log.id_of(log.oldest), "newest": log.id_of(log.newest), "resumed": resumed,
            **({} if log.segments is None else {"live": log.segments.live}),
        }, event_id, retry=options.retry_ms)]
        if gap is not None:
            log.note(gaps=1)
            parts.append(self.gap(gap))
        if self.request.snapshot and (gap is not None or (self.request.snapshot == "1" and asked is None)):
            parts += self._snapshot(0, position)
        return b"".join(parts)

    def _identity(self) -> dict[str, Any]:
        """Return what ``hybrid_open`` says of the clients; a token only if this stream's request made the client."""
        living = self.session.living
        first = living[0] if living else None
        if self.request.ticket is None:
            return {"sid": first and first.sid, "token": first and first.token}
        more = {"ticket": self.session.ticket} if self.session.reserved else {}
        return {"sid": first and first.sid, "token": None, "sids": [client.sid for client in living], **more}

    def gap(self, gap: Gap) -> bytes:
        """Encode a gap, and have it announced.

        :param gap: the gap.
        :return: the block.
        """
        for client in self.session.clients:
            self.on_gap(client, gap)
        # Where the log begins is not known: its client keeps the id that it has.
        upto = resume_id(self.log, gap.upto) or self.request.last_event_id
        return self.control("hybrid_gap", {"missed": gap.missed, "reason": gap.reason, "resume_from": upto}, upto)

    def _snapshot(self, position: int, upto: int) -> list[bytes]:
        """Encode of each name the newest event after number ``position`` up to ``upto``."""
        entries = self.log.newest_of_names(upto, lambda seq, name, target: seq > position and self.wants(
            seq, name, target))
        return [entry_block(entry, None, form=self.request.format, to=self._recipients(entry, replayed=True))
                for entry in entries]

    def encode(self, batch: Batch, before: int, released: list[Client]) -> bytes:
        """Encode what was read.

        :param batch: what was read.
        :param before: number of the last event before.
        :param released: the clients that have ended and got everything, in the order in which they ended.
        :return: the blocks.
        """
        parts = [] if batch.gap is None else [self.gap(batch.gap)]
        if batch.gap is not None and self.request.snapshot:
            parts += self._snapshot(before, batch.gap.upto)
        waiting, left = list(released), len(self.session.clients)
        for entry in batch.entries:
            while waiting and (waiting[0].ended_at or 0) < entry.seq:
                parts.append(self._disconnected(waiting.pop(0), left))
                left -= 1
            parts.append(self._entry(entry, batch.conflated.get(entry.seq, 0)))
        for client in waiting:
            parts.append(self._disconnected(client, left))
            left -= 1
        return self.framed(b"".join(parts))

    def _entry(self, entry: Entry, conflated: int) -> bytes:
        event = entry.event
        if is_marker(event):
            return self._marker(entry)
        form = self.request.format
        to = self._recipients(entry) if form.enveloped else None
        return self.log.blocks.block(entry, form, conflated, to)

    def _marker(self, entry: Entry) -> bytes:
        data = json.loads(entry.event.data)
        if entry.event.name == LOSS_MARKER.name:  # something was lost here
            self.log.note(gaps=1)
            return self.gap(Gap(entry.seq, None, data or "restarted"))
        return self.control(entry.event.name, data, resume_id(self.log, entry.seq))

    def _disconnected(self, client: Client, left: int) -> bytes:
        """Return ``hybrid_disconnect`` for a client.

        :param left: how many clients the stream still carries, with this one.
        """
        return self.control("hybrid_disconnect", {"sid": client.sid, "reason": client.end_reason},
                            namespace=client.namespace, to=[client.sid] if left > 1 else None)

    def _recipients(self, entry: Entry, *, replayed: bool = False) -> list[str] | None:
        """Return for which clients of this stream an event is; ``None`` if for all of its namespace.

        :param replayed: true for an event without an id, as in a snapshot. By the id a client that connected later
            knows that an event is not for it; without one, it is listed or left out like the others.
        """
        event, clients = entry.event, self.session.clients
        if len(clients) == 1:
            return None
        there = [client for client in clients
                 if client.namespace == event.target.namespace and (replayed or client.was_connected_at(entry.seq))]
        meant = [client.sid for client in there if client.is_for(entry.seq, event.target)]
        return None if len(meant) == len(there) else meant


def _gets(client: Client, seq: int, target: Target) -> bool:
    """Return true for an event that is for a client, and that no replay of its own gives it."""
    return client.replayed_upto < seq and client.is_for(seq, target)
