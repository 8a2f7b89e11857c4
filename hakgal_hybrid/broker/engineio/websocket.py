"""WebSocketEnd: the WebSocket of a session of Engine.IO, as bytes that come and go. Pure: it has no socket.

What is sent are frames that all sessions share. wsproto reads what the client sends, with its masks and fragments.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

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


class WebSocketEnd:
    """One WebSocket, after the handshake. One thread uses it.

    :param session: whose WebSocket it is.
    :param wake: called, from any thread, when :meth:`take` is to be called.
    :param max_bytes: the largest message that is taken.
    :param probing: true if the session is polling, and may change over.
    :param clock: monotonic seconds.
    :ivar session: whose WebSocket it is.
    :ivar over: true once nothing more is read, and nothing sent but what :meth:`take` returns once more.
    :ivar paused: true while nothing is to be read, because too much of the client waits to be carried out.
    """

    def __init__(self, session: EngineSession, wake: Callable[[], object], max_bytes: int, *, probing: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.over = self.paused = False
        self.session, self._wake, self._max_bytes, self._clock = session, wake, max_bytes, clock
        self._stage = _Stage.NEW if probing else _Stage.CARRYING
        self._frames = FrameProtocol(client=False, extensions=[])
        self._out: list[bytes] = []
        self._message: list[bytes] = []
        self._size = 0
        self._until = clock() + UPGRADE_S
        if not probing:
            session.wake = wake
            self._out.append(Framing.WEBSOCKET.packet(session.handshake(upgrades=False)))
        elif not session.upgrade.open():
            self._stage = _Stage.REFUSED
            self._close(CloseReason.NORMAL_CLOSURE)

    def receive(self, data: bytes) -> None:
        """Read what has come.

        :param data: some bytes.
        """
        self._frames.receive_bytes(data)
        try:
            for frame in self._frames.received_frames():
                if not self.over:
                    self._receive(frame)
        except ParseFailed as error:
            self._fail(error.code)
        except ProtocolError:
            self._fail(CloseReason.PROTOCOL_ERROR)
        if not self.over:
            self.paused = True
            self.session.when_room(self._resume)

    def take(self) -> bytes:
        """Return what is to be sent next; nothing if there is nothing."""
        if self._stage is _Stage.CARRYING and not self.over:
            if not self.session.over:
                self._out.append(self.session.frames())
            if self.session.over:  # perhaps just now, because events were lost
                self._close(CloseReason.NORMAL_CLOSURE)
        elif not self.over and self._clock() >= self._until:
            self._fail(CloseReason.PROTOCOL_ERROR)
        out, self._out = b"".join(self._out), []
        return out

    @property
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""
        return None if self._stage is _Stage.CARRYING else max(0.0, self._until - self._clock())

    def lost(self, reason: str = "transport close") -> None:
        """Note that the connection is gone, or must not be used any more.

        :param reason: why, in the words that ``disconnect`` handlers know.
        """
        self.over = True
        if self._stage is _Stage.CARRYING:
            self.session.close(reason)
        elif self._stage is not _Stage.REFUSED:
            self._stage = _Stage.REFUSED
            self.session.upgrade.fail()

    def stop(self) -> None:
        """Close, because the server stops."""
        if self.over:
            return
        if self._stage is _Stage.CARRYING:
            self._out.append(self.session.frames())
        self._close(CloseReason.GOING_AWAY)
        self.lost()

    def _resume(self) -> None:
        self.paused = False
        self._wake()

    def _receive(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self._out.append(bytes(self._frames.pong(_bytes(frame))))
        elif frame.opcode is Opcode.CLOSE:
            self._close(CloseReason.NORMAL_CLOSURE)
            self.lost()
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            data = _bytes(frame)
            self._message.append(data)
            self._size += len(data)
            if self._size > self._max_bytes:
                self.session.oversized(self._size)
                self._fail(CloseReason.MESSAGE_TOO_BIG)
            elif frame.message_finished:
                message, self._message, self._size = b"".join(self._message), [], 0
                binary = frame.opcode is Opcode.BINARY
                self._packet(Packet(PacketType.MESSAGE, message) if binary else decode_packet(message.decode()))

    def _packet(self, packet: Packet) -> None:
        if self._stage is _Stage.CARRYING:
            self.session.receive(packet)
        elif self._stage is _Stage.NEW and packet == (PacketType.PING, "probe") and self.session.upgrade.probe():
            self._stage = _Stage.PROBED
            self._out.append(Framing.WEBSOCKET.packet("3probe"))
        elif self._stage is _Stage.PROBED and packet.type is PacketType.UPGRADE and (
                self.session.upgrade.complete(self._wake)):
            self._stage = _Stage.CARRYING
        else:
            raise ProtocolError("a WebSocket that changes nothing over")

    def _fail(self, code: CloseReason) -> None:
        self._close(code)
        self.lost("transport error")

    def _close(self, code: CloseReason) -> None:
        if not self.over:
            self.over = True
            self._out.append(bytes(self._frames.close(code)))


class OpenedWebSocket(NamedTuple):
    """A WebSocket whose handshake is being answered, for a server that serves it without a thread.

    :ivar session: whose WebSocket it is.
    :ivar max_bytes: the largest message that is taken.
    :ivar probing: true if the session is polling, and may change over.
    """

    session: EngineSession
    max_bytes: int
    probing: bool

    def begin(self, wake: Callable[[], object]) -> WebSocketEnd:
        """Return the WebSocket.

        :param wake: called, from any thread, when :meth:`WebSocketEnd.take` is to be called.
        """
        return WebSocketEnd(self.session, wake, self.max_bytes, probing=self.probing)

    def refused(self) -> None:
        """Note that there will be no WebSocket."""
        if not self.probing:
            self.session.close("transport close")


def _bytes(frame: Frame) -> bytes:
    payload = frame.payload
    return payload.encode() if isinstance(payload, str) else bytes(payload) if isinstance(payload, bytearray | bytes) \
        else b""
