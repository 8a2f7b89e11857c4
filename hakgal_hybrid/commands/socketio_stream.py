"""SocketIOStream: what goes down a session of Socket.IO: events of the log, and other packets in their places."""

from __future__ import annotations

from functools import partial

from ..broker.budget import Budget
from ..broker.client import Client, Session
from ..broker.engineio.packets import Framing, as_frames, count_packets, split_blocks
from ..broker.entry import Gap
from ..broker.formats import Format
from ..broker.hub import Hub
from ..broker.reading import MAX_TAKE
from ..broker.replay import Replay
from ..broker.stream import SubscriberStream, any_over
from ..broker.subscription import StreamOptions, StreamRequest
from .lifecycle import ClientLifecycle
from .outbox import Item, Outbox

#: What sessions ask for, as other streams say it.
_REQUESTS = {(framing, offsets): StreamRequest(format=Format.framed(framing, offsets=offsets))
             for framing in Framing for offsets in (False, True)}
#: How they are listed.
_MEDIA = {framing: f"socketio-{framing.value}" for framing in Framing}
#: How many events one reading for a WebSocket takes, at most.
_MANY = 256


class SocketIOStream:
    """Reads the log for one session. It is not thread-safe.

    :param session: the session.
    :param hub: where its clients and their rooms are.
    :param options: what all streams have in common.
    :param lifecycle: is told of every gap, for each client that it concerns.
    :param offsets: whether the id of each event is its last argument.
    :param budget: has room for the acknowledgements that wait.
    :ivar stream: the stream, which has begun.
    :ivar barrier: the number of the last event that may be sent for now; ``None`` for any.
    :ivar pause: the same, for a moment after the answer to a connect; see :meth:`SocketIOCalls._connect`.
    :ivar missed: true if it was asked for more while its events are read with those of others.
    :ivar lost: true once events are lost. There is no packet to say so, so nothing more may be sent.
    """

    __slots__ = ("_budget", "_lifecycle", "_outbox", "_rest", "barrier", "lost", "missed", "pause", "stream")

    def __init__(self, session: Session, hub: Hub, options: StreamOptions, lifecycle: ClientLifecycle, *,
                 offsets: bool = False, budget: Budget) -> None:
        self._lifecycle, self._budget = lifecycle, budget
        self.stream = SubscriberStream(session, hub, options, _REQUESTS[Framing.POLLING, offsets], self)
        self.stream.medium = _MEDIA[Framing.POLLING]
        self._outbox: Outbox | None = None
        self.barrier: int | None = None
        self.pause: int | None = None
        self.lost = self.missed = False
        self._rest = b""

    @property
    def outbox(self) -> Outbox:
        """What is sent besides events. Most of the time there is nothing, and it is not kept."""
        if self._outbox is None:
            self._outbox = Outbox(self._budget.give_back)
        return self._outbox

    @property
    def full(self) -> bool:
        """True while the client fetches nothing of much that waits besides events."""
        return self._outbox is not None and self._outbox.full

    def take(self, framing: Framing, packets: int) -> bytes:
        """Return what is to be sent next.

        :param framing: how packets are carried.
        :param packets: how many there may be at most, in polling.
        :return: blocks; nothing if there is nothing, or if events are lost.
        """
        if self.stream.group is not None:  # of polls: its WebSocket has come before its poll was answered
            self.missed = True
            return b""
        rest, self._rest = self._rest, b""
        self.stream.content.request, self.stream.medium = _REQUESTS[framing, self.offsets], _MEDIA[framing]
        if framing is Framing.WEBSOCKET:
            blocks = as_frames(rest) + self._read(framing, _MANY)
        else:
            blocks, self._rest = split_blocks(rest or self._read(framing, packets), packets)
        return b"" if self.lost else blocks

    def shareable(self, framing: Framing) -> bool:
        """Say whether all that is sent next are events.

        :param framing: how packets are carried.
        """
        return (self._outbox is None and not self._rest and self.barrier is self.pause is None and not self.lost
                and self.stream.request.format.framing is framing)

    @property
    def offsets(self) -> bool:
        """True if the id of each event is its last argument: its clients may come back."""
        return self.stream.request.format.offsets

    def clear(self) -> None:
        """Send nothing more besides events."""
        if self._outbox is not None:
            self._outbox.clear()

    def put_replay(self, after: int, replay: Replay) -> None:
        """Have a client get what it has missed.

        :param after: the number of the event that it comes after.
        :param replay: what it has missed.
        """
        self.outbox.put(Item(after, partial(self._replayed, replay), 0, lambda: replay.done))

    def _replayed(self, replay: Replay, framing: Framing, packets: int) -> bytes:
        block, delivered = replay.take(Format.framed(framing, offsets=self.offsets), packets)
        if replay.gap is not None:
            self(replay.client, replay.gap)
        self.stream.own_delivered += delivered
        self.stream.hub.deliveries.delivered(delivered, len(block))
        return block

    def _read(self, framing: Framing, packets: int) -> bytes:
        stream, newest = self.stream, self.stream.hub.log.newest
        parts: list[bytes] = []
        size = 0
        while packets > 0 and size < MAX_TAKE and not self.lost:
            before = stream.position
            outbox = self._outbox
            after = None if outbox is None else outbox.after
            if outbox is not None and after is not None and after <= before:
                block = outbox.take(framing, packets)
                self._outbox = outbox or None
            else:
                upto = min(limit for limit in (after, self.barrier, self.pause, newest) if limit is not None)
                if before >= upto and not any_over(stream.session.clients, newest):
                    break
                block = stream.take(upto=max(before, upto), most=packets)
                if not block and stream.position == before:
                    break
            parts.append(block)
            size += len(block)
            packets -= count_packets(block) if framing is Framing.POLLING else bool(block)
        return b"".join(parts)

    def __call__(self, client: Client, gap: Gap) -> None:
        """Note that events are lost; its stream calls this.

        :param client: a client that they were for.
        :param gap: what is lost.
        """
        self.lost = True
        self._lifecycle.on_gap(client, gap)
