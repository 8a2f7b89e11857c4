"""Engine.IO 4: packets, as the body of a request carries them and as WebSocket frames do.

What is sent is made of *blocks*: a block is one packet in one of the two framings, complete, so that blocks are joined
as they are and shared by all sessions that use the same framing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

#: How many packets a poll is answered with, at most. python-engineio refuses more and closes.
MAX_PACKETS = 16

_SEPARATOR = b"\x1e"
_TEXT, _BINARY = 0x81, 0x82


class PacketType(str, Enum):
    """What a packet is, by the digit that it begins with."""

    OPEN = "0"
    CLOSE = "1"
    PING = "2"
    PONG = "3"
    MESSAGE = "4"
    UPGRADE = "5"
    NOOP = "6"


class Packet(NamedTuple):
    """One packet.

    :ivar type: what it is.
    :ivar data: what follows the digit; ``bytes`` for a binary message.
    """

    type: PacketType
    data: str | bytes = ""


class ProtocolError(ValueError):
    """A client sent what the protocol does not allow. Its session is closed."""


class Framing(Enum):
    """How packets are carried.

    :cvar POLLING: in the body of an answer, each with a separator behind it; :func:`body_of` takes off the last one.
    :cvar WEBSOCKET: each in a frame of its own.
    """

    POLLING = "polling"
    WEBSOCKET = "websocket"

    def packet(self, text: str) -> bytes:
        """Return the block of a packet.

        :param text: the packet: its digit and its data, which holds no control character U+001E.
        :return: the block.
        """
        data = text.encode("utf-8")
        return data + _SEPARATOR if self is Framing.POLLING else _frame(_TEXT, data)

    def binary(self, data: bytes) -> bytes:
        """Return the block of a binary message.

        :param data: the message.
        :return: the block.
        """
        if self is Framing.POLLING:
            return b"b" + base64.b64encode(data) + _SEPARATOR
        return _frame(_BINARY, data)

    def message(self, message: str | bytes) -> bytes:
        """Return the block of a message.

        :param message: the message, text or bytes.
        :return: the block.
        """
        return self.packet(PacketType.MESSAGE.value + message) if isinstance(message, str) else self.binary(message)


def _frame(opcode: int, data: bytes) -> bytes:
    """Return a frame of a server: complete, without a mask (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((opcode, size)) + data
    if size < 65536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + data
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + data


def body_of(blocks: bytes) -> bytes:
    """Return the body of an answer.

    :param blocks: some blocks of :attr:`Framing.POLLING`.
    :return: the same packets, with separators between them only.
    """
    return blocks[:-1]


def split_blocks(blocks: bytes, packets: int) -> tuple[bytes, bytes]:
    """Split blocks for polling behind a number of packets.

    :param blocks: the blocks.
    :param packets: how many packets the first part has, at most.
    :return: the two parts.
    """
    end = 0
    for _ in range(packets):
        found = blocks.find(_SEPARATOR, end)
        if found < 0:
            return blocks, b""
        end = found + 1
    return blocks[:end], blocks[end:]


def as_frames(blocks: bytes) -> bytes:
    """Return blocks for polling as blocks for a WebSocket.

    :param blocks: the blocks, complete.
    """
    return b"".join(_frame(_BINARY, base64.b64decode(part[1:])) if part.startswith(b"b") else _frame(_TEXT, part)
                    for part in blocks.split(_SEPARATOR)[:-1])


def count_packets(blocks: bytes) -> int:
    """Return how many packets blocks for polling have.

    :param blocks: the blocks.
    """
    return blocks.count(_SEPARATOR)


def decode_packet(text: str) -> Packet:
    """Return the packet that a text is.

    :param text: a text frame, or a part of a body that is no binary message.
    :return: the packet.
    :raises ProtocolError: if it is none.
    """
    try:
        return Packet(PacketType(text[:1]), text[1:])
    except ValueError:
        raise ProtocolError(f"{text[:20]!r} is no packet of Engine.IO") from None


def decode_payload(body: bytes) -> Iterator[Packet]:
    """Yield the packets of a request's body.

    :param body: the body.
    :return: the packets, each decoded when it is asked for.
    :raises ProtocolError: for a body that is not UTF-8, and at a part that is no packet.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("the body is not UTF-8") from None
    begins = 0
    while begins <= len(text):
        ends = text.find("\x1e", begins)
        part = text[begins:ends] if ends >= 0 else text[begins:]
        yield _binary(part[1:]) if part.startswith("b") else decode_packet(part)
        begins = (ends if ends >= 0 else len(text)) + 1


def _binary(text: str) -> Packet:
    try:
        return Packet(PacketType.MESSAGE, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ProtocolError("a binary message is not base64") from None
