"""PacketReader: the packets of Socket.IO's clients, read with all that has to be refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ..event import MAX_NAME
from .packets import ProtocolError
from .socketio_packets import RESERVED_NAMES, Kind, SocketPacket

#: How many attachments one packet may have. The reference takes 10.
MAX_ATTACHMENTS = 64
#: How long a packet's text (in characters) is parsed by the thread that brings it: in about a tenth of a millisecond.
PARSE_AT_ONCE = 16 * 1024
_HEAD = re.compile(r"(?:([0-9]{1,4})-)?(?:(/[^,\x00-\x1f]*)(?:,|\Z))?([0-9]{1,16}(?![0-9]))?", re.ASCII)
#: The kinds that have attachments, and what they are with those in their places.
_WITHOUT_ATTACHMENTS = {Kind.BINARY_EVENT: Kind.EVENT, Kind.BINARY_ACK: Kind.ACK}


class IncomingPacket:
    """One packet of a client. What is too large to be parsed by the thread that brings it waits to be asked for.

    :param kind: what it is, as its digit says.
    :param namespace: the namespace that it is for.
    :param number: the id that it has.
    :param text: its data, as JSON text; an empty text for none.
    :param size: how many bytes it has, its attachments included.
    :ivar kind: what it is, as its digit says.
    :ivar namespace: the namespace that it is for.
    :ivar size: how many bytes it has, its attachments included.
    :ivar attachments: those that have come.
    """

    __slots__ = ("_data", "_text", "attachments", "id", "kind", "namespace", "size")

    def __init__(self, kind: Kind, namespace: str, number: int | None, text: str, size: int) -> None:
        self.kind, self.namespace, self.id, self.size = kind, namespace, number, size
        self.attachments: list[bytes] = []
        self._text: str | None = text
        self._data: Any = None

    def parse(self, loads: Callable[[str], Any]) -> None:
        """Parse its data, unless that was done.

        :param loads: parses JSON text.
        :raises ProtocolError: if a packet of its kind has no such data.
        """
        text, self._text = self._text, None
        if text:
            try:
                self._data = loads(text)
            except Exception:  # whatever a host's own module raises; or it is nested too deeply
                raise ProtocolError("a packet's data is not JSON") from None
        if text is not None:
            _check_shape(self.kind, self.id, self._data, bool(text))

    def complete(self, loads: Callable[[str], Any]) -> SocketPacket:
        """Return the packet with its attachments in their places.

        :param loads: parses JSON text.
        :raises ProtocolError: if a packet of its kind has no such data, or other attachments.
        """
        self.parse(loads)
        kind = _WITHOUT_ATTACHMENTS.get(self.kind)
        if kind is None:
            return SocketPacket(self.kind, self.namespace, self.id, self._data)
        try:
            return SocketPacket(kind, self.namespace, self.id, _put_in(self._data, dict(enumerate(self.attachments))))
        except RecursionError:
            raise ProtocolError("a packet's data is nested too deeply") from None


class PacketReader:
    """Reads the messages of one session. A packet with attachments is complete when the last of them has come.

    :param max_bytes: how large a packet may be together with its attachments.
    :param loads: parses JSON text.
    :param parse_at_once: how long a text (in characters) is parsed when it comes.
    :ivar loads: parses JSON text.
    """

    def __init__(self, max_bytes: int, loads: Callable[[str], Any] | None = None, *,
                 parse_at_once: int = PARSE_AT_ONCE) -> None:
        self.loads = loads or _loads
        self._max_bytes, self._parse_at_once = max_bytes, parse_at_once
        self._waiting: IncomingPacket | None = None
        self._expected = 0

    @property
    def incomplete(self) -> bool:
        """True while attachments are awaited."""
        return self._waiting is not None

    def read(self, message: str | bytes) -> IncomingPacket | None:
        """Read one message.

        :param message: the message.
        :return: the packet that is complete with it; ``None`` if attachments are still to come.
        :raises ProtocolError: for all that a client must not send, as far as it is parsed.
        """
        if isinstance(message, bytes):
            return self._attach(message)
        if self._waiting is not None:
            raise ProtocolError("a packet came before the attachments of the one before it")
        packet, self._expected = _read_head(message)
        if len(message) <= self._parse_at_once:
            packet.parse(self.loads)
        if self._expected:
            self._waiting = packet
            return None
        return packet

    def _attach(self, data: bytes) -> IncomingPacket | None:
        packet = self._waiting
        if packet is None:
            raise ProtocolError("an attachment that belongs to no packet")
        packet.size += len(data)
        if packet.size > self._max_bytes:
            raise ProtocolError(f"a packet and its attachments are larger than {self._max_bytes} bytes")
        packet.attachments.append(data)
        if len(packet.attachments) < self._expected:
            return None
        self._waiting = None
        return packet


def _read_head(text: str) -> tuple[IncomingPacket, int]:
    """Return a packet as it stands there, and how many attachments it has."""
    try:
        kind = Kind(text[:1])
    except ValueError:
        raise ProtocolError(f"{text[:20]!r} is no packet of Socket.IO") from None
    found = _HEAD.match(text, 1)
    assert found is not None  # every part of it may be absent
    count, namespace, number = found.groups()
    if (count is not None) is not (kind in _WITHOUT_ATTACHMENTS):
        raise ProtocolError("only a binary packet has a number of attachments, and each of them has")
    if count is not None and int(count) > MAX_ATTACHMENTS:
        raise ProtocolError(f"{count} attachments, of {MAX_ATTACHMENTS} at most")
    namespace = (namespace or "/").partition("?")[0]
    if len(namespace) > MAX_NAME:
        raise ProtocolError(f"a namespace of {len(namespace)} characters, of {MAX_NAME} at most")
    return IncomingPacket(kind, namespace, None if number is None else int(number),
                          text[found.end():], len(text)), int(count or 0)


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_shape(kind: Kind, number: int | None, data: Any, has_data: bool) -> None:
    """Refuse a packet whose data or id do not go with what it is.

    :raises ProtocolError: if they do not.
    """
    if kind in (Kind.EVENT, Kind.BINARY_EVENT):
        fits = isinstance(data, list) and bool(data) and _is_name(data[0])
    elif kind in (Kind.ACK, Kind.BINARY_ACK):
        fits = isinstance(data, list) and number is not None
    elif kind is Kind.CONNECT:
        fits = number is None and (isinstance(data, dict) or not has_data)
    else:  # no client sends CONNECT_ERROR
        fits = kind is Kind.DISCONNECT and number is None and not has_data
    if not fits:
        raise ProtocolError(f"the data of a packet of type {kind.value} is none")


def _is_name(name: Any) -> bool:
    if isinstance(name, str):
        return len(name) <= MAX_NAME and name not in RESERVED_NAMES
    return isinstance(name, (int, float)) and not isinstance(name, bool)


def _put_in(value: Any, attachments: dict[int, bytes]) -> Any:
    """Copy a value with attachments in their places. Each has one: with many, a packet would become huge."""
    if isinstance(value, list):
        return [_put_in(item, attachments) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder") is True:
        number = value.get("num")
        if type(number) is int and number in attachments:
            return attachments.pop(number)
        raise ProtocolError("a placeholder for an attachment that there is not")
    return {key: _put_in(item, attachments) for key, item in value.items()}
