"""WebSocketEnd: the WebSocket of a session of Engine.IO. What is sent are frames that all sessions share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from wsproto.frame_protocol import CloseReason

from ..states import StreamEnd
from ..websocket import Handshake, WebSocket
from .packets import Framing, Packet, PacketType, ProtocolError, decode_packet
from .session import EngineSession
from .upgrade import UPGRADE_S


class _Stage(Enum):
    """Where a WebSocket is.

    :cvar REFUSED: it is not used, or not any more.
    :cvar NEW: nothing has come; the session is polling.
    :cvar PROBED: the client may change over to it.
    :cvar CARRYING: it is the session's transport.
    """

    REFUSED = 0
    NEW = 1
    PROBED = 2
    CARRYING = 3


class WebSocketEnd(WebSocket):
    """The WebSocket of one session, after the handshake.

    :param session: whose WebSocket it is.
    :param wake: called, from any thread, when :meth:`take` is to be called.
    :param max_bytes: the largest message that is taken.
    :param probing: true if the session is polling, and may change over.
    :param clock: monotonic seconds.
    :ivar session: whose WebSocket it is.
    """

    __slots__ = ("_clock", "_stage", "_until", "session")

    def __init__(self, session: EngineSession, wake: Callable[[], object], max_bytes: int, *, probing: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(wake, max_bytes)
        self.session, self._clock = session, clock
        self._stage = _Stage.NEW if probing else _Stage.CARRYING
        self._until = clock() + UPGRADE_S if probing else 0
        if not probing:
            session.wake = wake
            self._out = Framing.WEBSOCKET.packet(session.handshake(upgrades=False))
        elif not session.upgrade.open():
            self._stage = _Stage.REFUSED
            self._close(CloseReason.NORMAL_CLOSURE)

    @property
    def source(self) -> EngineSession:
        """What is sent."""
        return self.session

    def take(self) -> bytes:
        """Return what is to be sent next; nothing if there is nothing."""
        if self._stage is _Stage.CARRYING and not self.over:
            if not self.session.over:
                self._out += self.session.frames()
            if self.session.over:  # perhaps just now, because events were lost
                self._close(CloseReason.NORMAL_CLOSURE)
        elif not self.over and self._clock() >= self._until:
            self._fail(CloseReason.PROTOCOL_ERROR)
        return self._give_out()

    @property
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""
        return None if self._stage is _Stage.CARRYING else max(0.0, self._until - self._clock())

    def lost(self, end: StreamEnd = StreamEnd.GONE) -> None:
        """Note that the connection is gone, or must not be used any more.

        :param end: why.
        """
        self.over = True
        if self._message is not None:
            self._message = None
            self._holds(0)
        if self._stage is _Stage.CARRYING:  # the reason is in the words that ``disconnect`` handlers know
            self.session.close("transport close" if end is StreamEnd.GONE else "transport error")
        elif self._stage is not _Stage.REFUSED:
            self._stage = _Stage.REFUSED
            self.session.upgrade.fail()

    def stop(self) -> None:
        """Close, because the server stops."""
        if self.over:
            return
        if self._stage is _Stage.CARRYING:
            self._out += self.session.frames()
        self._close(CloseReason.GOING_AWAY)
        self.lost()

    def _when_room(self, call: Callable[[], object]) -> None:
        if self._stage is _Stage.CARRYING:
            self.session.upper.when_room(call)
        else:
            call()

    def _holds(self, size: int) -> bool:
        with self.session.lock:  # nothing of it is used any more once the session is over
            return (self.session.over and size > 0) or self.session.upper.holds(size)

    def _refuse_size(self, size: int) -> None:
        self.session.upper.oversized(size)
        super()._refuse_size(size)

    def _take_message(self, message: str | bytes) -> None:
        self._packet(decode_packet(message) if isinstance(message, str) else Packet(PacketType.MESSAGE, message))

    def _packet(self, packet: Packet) -> None:
        if self._stage is _Stage.CARRYING:
            self.session.receive(packet)
        elif self._stage is _Stage.NEW and packet == (PacketType.PING, "probe") and self.session.upgrade.probe():
            self._stage = _Stage.PROBED
            self._out += Framing.WEBSOCKET.packet("3probe")
        elif self._stage is _Stage.PROBED and packet.type is PacketType.UPGRADE and (
                self.session.upgrade.complete(self._wake)):
            self._stage = _Stage.CARRYING
        else:
            raise ProtocolError("a WebSocket that changes nothing over")


@dataclass
class OpenedWebSocket(Handshake):
    """A WebSocket whose handshake is being answered.

    :ivar session: whose WebSocket it is.
    :ivar max_bytes: the largest message that is taken.
    :ivar probing: true if the session is polling, and may change over.
    """

    session: EngineSession
    max_bytes: int
    probing: bool

    def _begin(self, wake: Callable[[], object]) -> WebSocketEnd:
        return WebSocketEnd(self.session, wake, self.max_bytes, probing=self.probing)

    def refused(self, end: StreamEnd = StreamEnd.GONE) -> None:
        """Note that there will be no WebSocket.

        :param end: why.
        """
        if not self.probing:
            self.session.close("transport close")
