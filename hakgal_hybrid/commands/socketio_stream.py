"""SocketIOStream: what goes down a session of Socket.IO: events of the log, and other packets in their places."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..broker.client import Client, Session
from ..broker.engineio.packets import Framing, as_frames, count_packets, split_blocks
from ..broker.entry import Gap
from ..broker.formats import Format
from ..broker.hub import Hub
from ..broker.reading import MAX_TAKE
from ..broker.stream import SubscriberStream
from ..broker.subscription import StreamOptions, StreamRequest
from .outbox import Outbox

#: How many events one reading for a WebSocket takes, at most.
_MANY = 256


class SocketIOStream:
    """Reads the log for one session. It is not thread-safe.

    :param session: the session.
    :param hub: where its clients and their rooms are.
    :param options: what all streams have in common.
    :param on_gap: called with every gap, for each client that it concerns.
    :ivar stream: the stream, which has begun.
    :ivar outbox: what is sent besides events.
    :ivar barrier: the number of the last event that may be sent for now; ``None`` for any.
    :ivar pause: the same, for a moment after the answer to a connect; see :meth:`SocketIOCalls._connect`.
    :ivar lost: true once events are lost. There is no packet to say so, so nothing more may be sent.
    """

    def __init__(self, session: Session, hub: Hub, options: StreamOptions,
                 on_gap: Callable[[Client, Gap], None]) -> None:
        self._on_gap = on_gap
        self.stream = SubscriberStream(session, hub, options, StreamRequest(format=Format.SOCKETIO_POLLING), self._gap)
        self.stream.medium = "socketio-polling"
        self.outbox = Outbox()
        self.barrier: int | None = None
        self.pause: int | None = None
        self.lost = False
        self._rest = b""

    def take(self, framing: Framing, packets: int) -> bytes:
        """Return what is to be sent next.

        :param framing: how packets are carried.
        :param packets: how many there may be at most, in polling.
        :return: blocks; nothing if there is nothing, or if events are lost.
        """
        rest, self._rest = self._rest, b""
        request = self.stream.content.request
        form = Format.framed(framing)
        if request.format is not form:
            self.stream.content.request = dataclasses.replace(request, format=form)
            self.stream.medium = f"socketio-{framing.value}"
        if framing is Framing.WEBSOCKET:
            blocks = as_frames(rest) + self._read(framing, _MANY)
        else:
            blocks, self._rest = split_blocks(rest or self._read(framing, packets), packets)
        return b"" if self.lost else blocks

    @property
    def shareable(self) -> bool:
        """True if all that is sent next are events, in frames."""
        return (not self.outbox and not self._rest and self.barrier is None and self.pause is None and not self.lost
                and self.stream.request.format is Format.SOCKETIO_WEBSOCKET)

    def _read(self, framing: Framing, packets: int) -> bytes:
        stream, outbox, newest = self.stream, self.outbox, self.stream.hub.log.newest
        parts: list[bytes] = []
        size = 0
        while packets > 0 and size < MAX_TAKE and not self.lost:
            before = stream.position
            after = outbox.after
            if after is not None and after <= before:
                block = outbox.take(framing)
            else:
                upto = min(limit for limit in (after, self.barrier, self.pause, newest) if limit is not None)
                if before >= upto and not any(client.ended for client in stream.session.clients):
                    break
                block = stream.take(upto=max(before, upto), most=packets)
                if not block and stream.position == before:
                    break
            parts.append(block)
            size += len(block)
            packets -= count_packets(block) if framing is Framing.POLLING else bool(block)
        return b"".join(parts)

    def _gap(self, client: Client, gap: Gap) -> None:
        self.lost = True
        self._on_gap(client, gap)
