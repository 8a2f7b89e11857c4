"""EngineSession: one session of Engine.IO, over whatever carries it. Pure: it has a clock, and no connection.

It keeps no packets. What is above it, its *upper* part, is asked for bytes when they can be sent, so that what a client
has not fetched is in the log and nowhere else. :mod:`.polling` has what belongs to requests.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable

from ..states import EngineEvent, EngineState, after
from ..stream import SubscriberStream
from .heartbeat import Heartbeat
from .packets import MAX_PACKETS, Framing, Packet, PacketType, ProtocolError
from .polling import Polling
from .upgrade import UPGRADE_S, Upgrade
from .upper import EngineOptions, Upper

#: How long the last packet of a session waits to be fetched (seconds).
FAREWELL_S = 30.0
#: How long a poll may have been on its way when its client closed the session in another request (seconds).
PASSING_S = 0.5
#: The states in which events are sent.
_CARRYING = {Framing.POLLING: EngineState.POLLING, Framing.WEBSOCKET: EngineState.WEBSOCKET}


class EngineSession:
    """One session of Engine.IO. Any thread may call its methods; none of them waits.

    :param upper: what it carries.
    :param options: what all sessions have in common.
    :param clock: monotonic seconds.
    :param websocket: true if it begins on a WebSocket.
    :param process: what its id begins with: the name of this process, if there are others.
    :ivar sid: its id, a secret.
    :ivar state: see :class:`~hakgal_hybrid.broker.states.EngineState`.
    :ivar wake: called, from any thread, when :meth:`frames` is to be called, or the session is over.
    :ivar lock: held while something changes.
    """

    __slots__ = ("_polling", "_upgrade", "heartbeat", "lock", "sid", "state", "upper", "wake")

    def __init__(self, upper: Upper, options: EngineOptions, clock: Callable[[], float] = time.monotonic, *,
                 websocket: bool = False, process: str = "") -> None:
        self.sid = process + secrets.token_urlsafe(15)
        self.state = EngineState.WEBSOCKET if websocket else EngineState.POLLING
        self.lock = threading.RLock()
        self.wake: Callable[[], object] = _nothing
        self.heartbeat = Heartbeat(options, clock)
        self._polling = None if websocket else Polling(self, clock)
        self._upgrade = None if websocket else Upgrade(self)
        self.upper = upper
        upper.opened(self)

    @property
    def polling(self) -> Polling:
        """What belongs to requests. A session that began on a WebSocket only refuses them, and keeps none."""
        return self._polling or Polling(self, self.heartbeat.clock)

    @property
    def upgrade(self) -> Upgrade:
        """The WebSocket that its client changes over to; another one is refused."""
        return self._upgrade or Upgrade(self)

    @property
    def over(self) -> bool:
        """True once nothing more is taken from the client."""
        return self.state in (EngineState.CLOSING, EngineState.ENDED)

    @property
    def transport(self) -> str:
        """``polling`` or ``websocket``."""
        return "websocket" if self.state is EngineState.WEBSOCKET else "polling"

    def handshake(self, *, upgrades: bool) -> str:
        """Return the first packet.

        :param upgrades: true if the client may change over to a WebSocket.
        :return: the packet as text.
        """
        options, self.polling.offered = self.heartbeat.options, upgrades
        return PacketType.OPEN.value + json.dumps({
            "sid": self.sid, "upgrades": ["websocket"] if upgrades else [],
            "pingInterval": round(options.ping_interval_s * 1000), "pingTimeout": round(options.ping_timeout_s * 1000),
            "maxPayload": options.max_payload}, separators=(",", ":"))

    # -- down and up -----------------------------------------------------------------------------------------

    def frames(self) -> bytes:
        """Return what is to be written to the WebSocket next; nothing if there is nothing."""
        with self.lock:
            return self.blocks(Framing.WEBSOCKET) if self.state is EngineState.WEBSOCKET else b""

    def blocks(self, framing: Framing) -> bytes:
        """Return what is to be sent next: a ping that is due, then what the upper part has.

        A ping waits while the client changes over: the time of its pong would run out meanwhile.

        :param framing: how packets are carried.
        :return: the blocks; nothing if there is nothing.
        """
        ping = b""
        if self.heartbeat.ping and self.state is not EngineState.UPGRADING:
            ping = framing.packet(PacketType.PING.value)
            self.heartbeat.sent()
        return ping + self.upper.take(framing, MAX_PACKETS - bool(ping))

    def shareable(self, framing: Framing) -> SubscriberStream | None:
        """Return what its events are read by, if these are all that it sends next; see :meth:`.Upper.shareable`.

        :param framing: how packets are carried.
        """
        carrying = self.state is _CARRYING[framing] and not self.heartbeat.ping
        return self.upper.shareable(framing) if carrying else None

    def left(self) -> None:
        """Note that the writer has made the stream leave those that share events."""
        with self.lock:
            self.upper.left()

    def receive(self, packet: Packet) -> None:
        """Take one packet of the client.

        :param packet: the packet.
        :raises ProtocolError: for one that a client must not send; the session is over then.
        """
        with self.lock:
            if self.over:
                return
            try:
                self._receive(packet)
            except ProtocolError:
                self.fail("transport error")
                raise

    def _receive(self, packet: Packet) -> None:
        if packet.type is PacketType.MESSAGE:
            self.upper.message(packet.data)
        elif packet.type is PacketType.PONG:
            self.heartbeat.ponged()
            if self.state is EngineState.UPGRADING:
                self.heartbeat.pause(UPGRADE_S)
        elif packet.type is PacketType.CLOSE:
            self.polling.farewell = PacketType.NOOP
            self.close("client disconnect", keep_s=PASSING_S)
        elif packet.type is not PacketType.NOOP:  # socket.io-client-swift sends one when it changes over
            raise ProtocolError(f"a client does not send a packet of type {packet.type.value} here")

    # -- time and end ----------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due: send a ping, or end the session for want of a pong.

        :return: after how many seconds to call this again, at most; ``None`` if the session has ended.
        """
        with self.lock:
            if self.state is not EngineState.ENDED and self.heartbeat.clock() >= self.heartbeat.due:
                self._act()
            if self.state is EngineState.WEBSOCKET and not self.polling.waiting:
                self._polling = self._upgrade = None  # of no use any more
            return None if self.state is EngineState.ENDED else max(0.0, self.heartbeat.due - self.heartbeat.clock())

    def _act(self) -> None:
        if self.state is EngineState.CLOSING:
            self.end()
        elif self.state is EngineState.UPGRADING:
            self.upgrade.expire()
        elif self.heartbeat.ask():
            self.notify()
        elif self.polling.posting or self._unheard:  # the client waits for us, and sends nothing else meanwhile
            self.heartbeat.alive()
        else:
            self.fail("ping timeout")

    @property
    def _unheard(self) -> bool:
        """True if a WebSocket has not taken the ping yet, or its pong is not read because too much of it waits."""
        return self.state is EngineState.WEBSOCKET and (self.heartbeat.ping or self.upper.busy)

    def fail(self, reason: str) -> None:
        """End the session for the client's fault. A poll that waits is answered; then nobody knows the session.

        :param reason: why, in the words that ``disconnect`` handlers know.
        """
        with self.lock:
            self.close(reason, keep_s=FAREWELL_S if self.polling.waiting else 0)

    def too_large(self, size: int) -> None:
        """End the session because a body of the client was too large, and is lost. It may connect again.

        :param size: how large the body is, at least, in bytes.
        """
        with self.lock:
            if not self.over:
                self.upper.oversized(size)
                self.polling.farewell = PacketType.NOOP
                self.fail("transport error")

    def close(self, reason: str, *, keep_s: float = FAREWELL_S) -> None:
        """End the session. Nothing happens if it is over.

        :param reason: why, in the words that ``disconnect`` handlers know.
        :param keep_s: for how long its last packet is kept for a poll, in seconds.
        """
        with self.lock:
            if self.over:
                return
            polling = self.state is not EngineState.WEBSOCKET
            self.state = after(self.state, EngineEvent.CLOSED)
            if reason == "transport close":
                self.polling.farewell = PacketType.NOOP
            self.heartbeat.pause(keep_s)
            if not (keep_s and polling):
                self.end()
            self.upper.closed(reason)
            self.notify()

    def end(self) -> None:
        """Note that the last packet was fetched, or never will be."""
        self.state = after(self.state, EngineEvent.ENDED)

    def notify(self) -> None:
        """Have whatever carries the session look: there may be something to send, or it is over."""
        if self._polling is not None:
            self._polling.wake()
        self.wake()


def _nothing() -> None:
    pass
