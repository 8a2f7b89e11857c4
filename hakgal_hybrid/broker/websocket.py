"""WebSocket: one WebSocket after its handshake, as bytes that come and go. Pure: it has no socket.

wsproto reads what the client sends, with its masks and fragments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from .engineio.packets import Framing, ProtocolError
from .states import StreamEnd
from .stream import SubscriberStream

#: What writes the few frames that are written one by one. It keeps nothing.
_FRAMES = FrameProtocol(client=False, extensions=[])
#: The first byte of a message in one frame: text, bytes.
_TEXT, _BYTES = 0x81, 0x82
#: How many bytes of pongs wait for a client that does not read, about. Then older ones give way to the last one, which
#: is enough (RFC 6455, section 5.5.3).
_MAX_PONGS = 4096


class Source(Protocol):
    """What is sent to one client, as those know it that share events.

    :ivar lock: held while it is asked.
    """

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while it is asked."""

    def shareable(self, framing: Framing) -> SubscriberStream | None:
        """Return what its events are read by, if these are all that it sends next.

        :param framing: how packets are carried.
        """

    def left(self) -> None:
        """Note that its stream shares events with no other any more."""


class WebSocket(ABC):
    """One WebSocket. One thread uses it.

    :param wake: called, from any thread, when :meth:`take` is to be called.
    :param max_bytes: the largest message that is taken.
    :ivar over: true once nothing more is read, and nothing sent but what :meth:`take` returns once more.
    :ivar paused: true while nothing is to be read, because too much of the client waits to be carried out.
    """

    __slots__ = ("_frames", "_max_bytes", "_message", "_out", "_pongs", "_receiving", "_wake", "over", "paused")

    def __init__(self, wake: Callable[[], object], max_bytes: int) -> None:
        self.over = self.paused = self._receiving = False
        self._wake, self._max_bytes = wake, max_bytes
        self._frames: FrameProtocol | None = None
        self._out = self._pongs = b""
        self._message: bytearray | None = None  # what has come of one that is sent in parts

    @property
    @abstractmethod
    def source(self) -> Source:
        """What is sent."""

    @property
    @abstractmethod
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""

    @abstractmethod
    def take(self) -> bytes:
        """Return what is to be sent next; nothing if there is nothing."""

    @abstractmethod
    def stop(self) -> None:
        """Close, because the server stops. May be called repeatedly."""

    @abstractmethod
    def lost(self, end: StreamEnd = StreamEnd.GONE) -> None:
        """Note that the connection is gone, or must not be used any more. May be called repeatedly.

        :param end: why.
        """

    @abstractmethod
    def _take_message(self, message: str | bytes) -> None:
        """Take a message of the client."""

    @abstractmethod
    def _when_room(self, call: Callable[[], object]) -> None:
        """Call a function as soon as the client may send more."""

    def _holds(self, size: int) -> bool:
        """Note how much of an incomplete message is here; return false if that is too much."""
        return True

    def _refuse_size(self, size: int) -> None:
        """Close, because of a message that is too large."""
        self._fail(CloseReason.MESSAGE_TOO_BIG)

    @property
    def idle(self) -> bool:
        """True if there is nothing to be sent because of what was read, and reading goes on."""
        return not self._out and not self._pongs and not self.over and not self.paused

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
        if not self.over:
            self.paused = self._receiving = True
            self._when_room(self._resume)
            self._receiving = False

    def _resume(self) -> None:
        self.paused = False
        if not self._receiving:  # else the caller of ``receive`` looks
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
                self._refuse_size(len(message))
            elif frame.message_finished:
                self._message = None
                self._take_message(bytes(message) if frame.opcode is Opcode.BINARY else message.decode())

    def _fail(self, code: CloseReason) -> None:
        self._close(code)
        self.lost(StreamEnd.CHATTER)

    def _close(self, code: CloseReason, reason: str | None = None) -> None:
        if not self.over:
            self.over = True
            self._out += _FRAMES.close(code, reason)

    def _give_out(self) -> bytes:
        """Return what waits to be sent."""
        out, self._out, self._pongs = self._pongs + self._out, b"", b""
        return out


class Handshake(ABC):
    """A WebSocket whose handshake is being answered.

    :ivar early: what the client has sent behind its handshake, without waiting for the answer.
    """

    early = b""

    def begin(self, wake: Callable[[], object]) -> WebSocket:
        """Return the WebSocket.

        :param wake: called, from any thread, when :meth:`WebSocket.take` is to be called.
        """
        end = self._begin(wake)
        if self.early and not end.over:
            end.receive(self.early)
        return end

    @abstractmethod
    def _begin(self, wake: Callable[[], object]) -> WebSocket:
        """Return the WebSocket."""

    @abstractmethod
    def refused(self, end: StreamEnd = StreamEnd.GONE) -> None:
        """Note that there will be no WebSocket.

        :param end: why.
        """


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
