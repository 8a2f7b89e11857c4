"""Socket.IO 5: packets as messages of Engine.IO, read with all that has to be refused, and made of events.

An event is written as the text that :class:`~hakgal_hybrid.broker.event.Event` holds already. ``bytes`` in it become
attachments: binary messages right behind the packet, with nothing in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from ..event import MAX_NAME, RESERVED_PREFIX, Event
from ..payload import restore_binary
from .packets import Framing, ProtocolError

#: How many attachments one packet may have. The reference takes 10.
MAX_ATTACHMENTS = 64
#: Acknowledgements are numbered below this: some clients read the number as a signed integer of 32 bits.
ACK_IDS = 2**31 - 1
#: Names that clients refuse, and for which they close the connection.
RESERVED_NAMES = frozenset(("connect", "connect_error", "disconnect", "disconnecting", "newListener",
                            "removeListener"))

_HEAD = re.compile(r"(?:([0-9]{1,4})-)?(?:(/[^,\x00-\x1f]*)(?:,|\Z))?([0-9]{1,16}(?![0-9]))?", re.ASCII)


class Kind(str, Enum):
    """What a packet is, by the digit that it begins with."""

    CONNECT = "0"
    DISCONNECT = "1"
    EVENT = "2"
    ACK = "3"
    CONNECT_ERROR = "4"
    BINARY_EVENT = "5"
    BINARY_ACK = "6"


class SocketPacket(NamedTuple):
    """One packet, its attachments put in their places.

    :ivar kind: what it is; never ``BINARY_EVENT`` or ``BINARY_ACK``.
    :ivar namespace: the namespace that it is for.
    :ivar id: under which an event is to be acknowledged, or which event this acknowledges.
    :ivar data: ``None`` or an object for ``CONNECT``; name and arguments of an event; the arguments of an
        acknowledgement.
    """

    kind: Kind
    namespace: str
    id: int | None
    data: Any


class PacketReader:
    """Reads the messages of one session. A packet with attachments is complete when the last of them has come.

    :param max_bytes: how large a packet may be together with its attachments.
    :param loads: parses JSON text.
    """

    def __init__(self, max_bytes: int, loads: Callable[[str], Any] | None = None) -> None:
        self._max_bytes, self._loads = max_bytes, loads or _loads
        self._waiting: SocketPacket | None = None
        self._expected = self._size = 0
        self._attachments: list[bytes] = []

    @property
    def incomplete(self) -> bool:
        """True while attachments are awaited."""
        return self._waiting is not None

    def read(self, message: str | bytes) -> SocketPacket | None:
        """Read one message.

        :param message: the message.
        :return: the packet that is complete with it; ``None`` if attachments are still to come.
        :raises ProtocolError: for all that a client must not send.
        """
        if isinstance(message, bytes):
            return self._attach(message)
        if self._waiting is not None:
            raise ProtocolError("a packet came before the attachments of the one before it")
        packet, count = self._parsed(message)
        if packet.kind is Kind.BINARY_EVENT or packet.kind is Kind.BINARY_ACK:
            if count:
                self._waiting, self._expected, self._size = packet, count, len(message)
                return None
            return _complete(packet, [])
        return packet

    def _attach(self, data: bytes) -> SocketPacket | None:
        if self._waiting is None:
            raise ProtocolError("an attachment that belongs to no packet")
        self._size += len(data)
        if self._size > self._max_bytes:
            raise ProtocolError(f"a packet and its attachments are larger than {self._max_bytes} bytes")
        self._attachments.append(data)
        if len(self._attachments) < self._expected:
            return None
        packet, attachments = self._waiting, self._attachments
        self._waiting, self._attachments = None, []
        return _complete(packet, attachments)

    def _parsed(self, text: str) -> tuple[SocketPacket, int]:
        """Return a packet as it stands there, and how many attachments it has."""
        try:
            kind = Kind(text[:1])
        except ValueError:
            raise ProtocolError(f"{text[:20]!r} is no packet of Socket.IO") from None
        found = _HEAD.match(text, 1)
        assert found is not None  # every part of it may be absent
        count, namespace, number = found.groups()
        binary = kind in (Kind.BINARY_EVENT, Kind.BINARY_ACK)
        if (count is not None) is not binary:
            raise ProtocolError("only a binary packet has a number of attachments, and each of them has")
        if binary and int(count) > MAX_ATTACHMENTS:
            raise ProtocolError(f"{count} attachments, of {MAX_ATTACHMENTS} at most")
        rest = text[found.end():]
        packet = SocketPacket(kind, (namespace or "/").partition("?")[0], None if number is None else int(number),
                              self._json(rest) if rest else None)
        _check_shape(packet, bool(rest))
        return packet, int(count or 0)

    def _json(self, text: str) -> Any:
        try:
            return self._loads(text)
        except Exception:  # whatever a host's own module raises; or it is nested too deeply
            raise ProtocolError("a packet's data is not JSON") from None


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_shape(packet: SocketPacket, has_data: bool) -> None:
    """Refuse a packet whose data or id do not go with what it is.

    :raises ProtocolError: if they do not.
    """
    kind, data = packet.kind, packet.data
    if kind in (Kind.EVENT, Kind.BINARY_EVENT):
        fits = isinstance(data, list) and bool(data) and _is_name(data[0])
    elif kind in (Kind.ACK, Kind.BINARY_ACK):
        fits = isinstance(data, list) and packet.id is not None
    elif kind is Kind.CONNECT:
        fits = packet.id is None and (isinstance(data, dict) or not has_data)
    else:  # no client sends CONNECT_ERROR
        fits = kind is Kind.DISCONNECT and packet.id is None and not has_data
    if not fits:
        raise ProtocolError(f"the data of a packet of type {kind.value} is none")


def _is_name(name: Any) -> bool:
    if isinstance(name, str):
        return len(name) <= MAX_NAME and name not in RESERVED_NAMES
    return isinstance(name, (int, float)) and not isinstance(name, bool)


def _complete(packet: SocketPacket, attachments: list[bytes]) -> SocketPacket:
    kind = Kind.EVENT if packet.kind is Kind.BINARY_EVENT else Kind.ACK
    try:
        return packet._replace(kind=kind, data=_put_in(packet.data, attachments))
    except RecursionError:
        raise ProtocolError("a packet's data is nested too deeply") from None


def _put_in(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_put_in(item, attachments) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder") is True:
        number = value.get("num")
        if type(number) is int and 0 <= number < len(attachments):
            return attachments[number]
        raise ProtocolError("a placeholder for an attachment that there is not")
    return {key: _put_in(item, attachments) for key, item in value.items()}


# -- writing -------------------------------------------------------------------------------------------------


def event_block(event: Event, number: int, framing: Framing) -> bytes:
    """Return an event as bytes, the same ones for every session.

    :param event: the event.
    :param number: its number in the log; it is acknowledged under that.
    :param framing: how packets are carried.
    :return: the block of its packet, with those of its attachments; nothing for one that no client may be sent.
    """
    if event.name in RESERVED_NAMES or event.name.startswith(RESERVED_PREFIX):
        return b""
    name = json.dumps(event.name, ensure_ascii=False)
    args = f"[{name},{event.args_text[1:]}" if event.arg_count else f"[{name}]"
    return _block(Kind.EVENT, event.target.namespace, ack_id(number) if event.ack else None, args, framing)


def ack_block(namespace: str, number: int, args_text: str, framing: Framing) -> bytes:
    """Return an acknowledgement as bytes.

    :param namespace: the namespace of the client's event.
    :param number: the id under which the client wants it.
    :param args_text: the arguments, the JSON text of an array.
    :param framing: how packets are carried.
    :return: the block of the packet, with those of its attachments.
    """
    return _block(Kind.ACK, namespace, number, args_text, framing)


def control_packet(kind: Kind, namespace: str, data: dict[str, Any] | None = None) -> str:
    """Return a packet that is no event, as the text of an Engine.IO packet.

    :param kind: ``CONNECT``, ``CONNECT_ERROR`` or ``DISCONNECT``.
    :param namespace: the namespace.
    :param data: what it says; ``None`` for nothing.
    :return: the text.
    """
    head = f"4{kind.value}" if namespace == "/" else f"4{kind.value}{namespace},"
    return head if data is None else head + json.dumps(data, separators=(",", ":"))


def ack_id(number: int) -> int:
    """Return the id under which clients acknowledge an event.

    :param number: the event's number in the log.
    """
    return number % ACK_IDS


def _block(kind: Kind, namespace: str, number: int | None, args: str, framing: Framing) -> bytes:
    attachments: list[bytes] = []
    if 'binary":' in args:
        value = _take_out(restore_binary(json.loads(args)), attachments)
        args = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    digit = kind.value if not attachments else f"{int(kind.value) + 3}{len(attachments)}-"
    space = "" if namespace == "/" else f"{namespace},"
    head = framing.packet(f"4{digit}{space}{'' if number is None else number}{args}")
    return head + b"".join(map(framing.binary, attachments)) if attachments else head


def _take_out(value: Any, attachments: list[bytes]) -> Any:
    """Copy a value with a placeholder for each ``bytes`` in it, in the order of the document."""
    if isinstance(value, bytes):
        attachments.append(value)
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, dict):
        return {key: _take_out(item, attachments) for key, item in value.items()}
    if isinstance(value, list):
        return [_take_out(item, attachments) for item in value]
    return value
