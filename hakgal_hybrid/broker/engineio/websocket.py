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

#: What writes the few frames that are written one by one. It keeps nothing.
_FRAMES = FrameProtocol(client=False, extensions=[])
#: The first byte of a message in one frame: text, bytes.
_TEXT, _BYTES = 0x81, 0x82
#: How many bytes of pongs wait for a client that does not read, about. Then older ones give way to the last one, which
#: is enough (RFC 6455, section 5.5.3).
_MAX_PONGS = 4096


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

    __slots__ = ("_clock", "_frames", "_max_bytes", "_message", "_out", "_pongs", "_receiving", "_stage", "_until",
                 "_wake", "over", "paused", "session")

    def __init__(self, session: EngineSession, wake: Callable[[], object], max_bytes: int, *, probing: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.over = self.paused = self._receiving = False
        self.session, self._wake, self._max_bytes, self._clock = session, wake, max_bytes, clock
        self._stage = _Stage.NEW if probing else _Stage.CARRYING
        self._frames: FrameProtocol | None = None
        self._out = self._pongs = b""
        self._message: bytearray | None = None  # what has come of one that is sent in parts
        self._until = clock() + UPGRADE_S if probing else 0
        if not probing:
            session.wake = wake
            self._out = Framing.WEBSOCKET.packet(session.handshake(upgrades=False))
        elif not session.upgrade.open():
            self._stage = _Stage.REFUSED
            self._close(CloseReason.NORMAL_CLOSURE)

    def receive(self, data: bytes) -> None:
        """Read what has come.

        :param data: some bytes.
        """
        try:
            if self._frames is None:
                data = self._read_whole(data)
            if data:
                self._read(data)
        except ParseFailed as error:
            self._fail(error.code)
        except ProtocolError:
            self._fail(CloseReason.PROTOCOL_ERROR)
        if not self.over and self._frames is not None and not self._holds(len(self._message or b"")):
            self._fail(CloseReason.INTERNAL_ERROR)
        if not self.over and self._stage is _Stage.CARRYING:
            self.paused = self._receiving = True
            self.session.upper.when_room(self._resume)
            self._receiving = False

    def take(self) -> bytes:
        """Return what is to be sent next; nothing if there is nothing."""
        if self._stage is _Stage.CARRYING and not self.over:
            if not self.session.over:
                self._out += self.session.frames()
            if self.session.over:  # perhaps just now, because events were lost
                self._close(CloseReason.NORMAL_CLOSURE)
        elif not self.over and self._clock() >= self._until:
            self._fail(CloseReason.PROTOCOL_ERROR)
        out, self._out, self._pongs = self._pongs + self._out, b"", b""
        return out

    @property
    def idle(self) -> bool:
        """True if there is nothing to be sent because of what was read, and reading goes on."""
        return not self._out and not self._pongs and not self.over and not self.paused

    @property
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""
        return None if self._stage is _Stage.CARRYING else max(0.0, self._until - self._clock())

    def lost(self, reason: str = "transport close") -> None:
        """Note that the connection is gone, or must not be used any more.

        :param reason: why, in the words that ``disconnect`` handlers know.
        """
        self.over = True
        if self._message is not None:
            self._message = None
            self._holds(0)
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
            self._out += self.session.frames()
        self._close(CloseReason.GOING_AWAY)
        self.lost()

    def _resume(self) -> None:
        self.paused = False
        if not self._receiving:  # else whoever has called ``receive`` looks
            self._wake()

    def _read_whole(self, data: bytes) -> bytes:
        """Read the messages that are here as a whole, each in one frame; return the rest.

        That is all that most clients send: so most have no :class:`FrameProtocol`, which takes more memory than all
        else of a client, and more time.
        """
        while not self.over and (found := _whole_message(data)) is not None and found.size <= self._max_bytes:
            self._take_message(found.message)
            data = data[found.ends:]
        return data

    def _read(self, data: bytes) -> None:
        if self._frames is None:
            self._frames = FrameProtocol(client=False, extensions=[])
        self._frames.receive_bytes(data)
        for frame in self._frames.received_frames():
            if not self.over:
                self._receive(frame)

    def _holds(self, size: int) -> bool:
        with self.session.lock:  # nothing of it is used any more once the session is over
            return (self.session.over and size > 0) or self.session.upper.holds(size)

    def _receive(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            pong = bytes(_FRAMES.pong(_bytes(frame)))
            self._pongs = pong if len(self._pongs) > _MAX_PONGS else self._pongs + pong
        elif frame.opcode is Opcode.CLOSE:
            self._close(CloseReason.NORMAL_CLOSURE)
            self.lost()
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            message = self._message = bytearray() if self._message is None else self._message
            message += _bytes(frame)
            if len(message) > self._max_bytes:
                self.session.upper.oversized(len(message))
                self._fail(CloseReason.MESSAGE_TOO_BIG)
            elif frame.message_finished:
                self._message = None
                self._take_message(bytes(message) if frame.opcode is Opcode.BINARY else message.decode())

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

    def _fail(self, code: CloseReason) -> None:
        self._close(code)
        self.lost("transport error")

    def _close(self, code: CloseReason) -> None:
        if not self.over:
            self.over = True
            self._out += _FRAMES.close(code)


class OpenedWebSocket(NamedTuple):
    """A WebSocket whose handshake is being answered, for a server that serves it without a thread.

    :ivar session: whose WebSocket it is.
    :ivar max_bytes: the largest message that is taken.
    :ivar probing: true if the session is polling, and may change over.
    :ivar early: what the client has sent behind its handshake, without waiting for the answer.
    """

    session: EngineSession
    max_bytes: int
    probing: bool
    early: bytes = b""

    def begin(self, wake: Callable[[], object]) -> WebSocketEnd:
        """Return the WebSocket.

        :param wake: called, from any thread, when :meth:`WebSocketEnd.take` is to be called.
        """
        end = WebSocketEnd(self.session, wake, self.max_bytes, probing=self.probing)
        if self.early and not end.over:
            end.receive(self.early)
        return end

    def refused(self) -> None:
        """Note that there will be no WebSocket."""
        if not self.probing:
            self.session.close("transport close")


class _Whole(NamedTuple):
    """A message that is here as a whole, in one frame.

    :ivar message: the message.
    :ivar size: its size in bytes.
    :ivar ends: where the frame ends.
    """

    message: str | bytes
    size: int
    ends: int


def _whole_message(data: bytes) -> _Whole | None:
    """Return the message that data begins with, if it is one in one frame, without anything that is seldom (RFC 6455,
    section 5.2).
    """
    if len(data) < 6 or data[0] not in (_TEXT, _BYTES) or data[1] < 128 or data[1] == 255:
        return None
    size, begins = data[1] & 127, 6
    if size == 126:
        size, begins = int.from_bytes(data[2:4], "big"), 8
    ends = begins + size
    if len(data) < ends or (begins == 8 and size < 126):
        return None
    mask = data[begins - 4:begins] * (size // 4 + 1)
    payload = (int.from_bytes(data[begins:ends], "little") ^ int.from_bytes(mask[:size], "little")).to_bytes(
        size, "little")
    try:
        return _Whole(payload.decode() if data[0] == _TEXT else payload, size, ends)
    except UnicodeDecodeError:
        return None  # FrameProtocol refuses it


def _bytes(frame: Frame) -> bytes:
    payload = frame.payload
    return payload.encode() if isinstance(payload, str) else bytes(payload) if isinstance(payload, bytearray | bytes) \
        else b""
