"""Socket.IO 5: packets as messages of Engine.IO, made of events. :mod:`.socketio_reader` reads them.

An event is written as the text that :class:`~hakgal_hybrid.broker.event.Event` holds already. ``bytes`` in it become
attachments: binary messages right behind the packet, with nothing in between.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, NamedTuple

from ..event import RESERVED_PREFIX, Event
from ..payload import restore_binary
from .packets import Framing

#: Acknowledgements are numbered below this: some clients read the number as a signed integer of 32 bits.
ACK_IDS = 2**31 - 1
#: Names that clients refuse, and for which they close the connection.
RESERVED_NAMES = frozenset(("connect", "connect_error", "disconnect", "disconnecting", "newListener",
                            "removeListener"))


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


def event_block(event: Event, number: int, framing: Framing, offset: str | None = None) -> bytes:
    """Return an event as bytes, the same ones for every session.

    :param event: the event.
    :param number: its number in the log; it is acknowledged under that.
    :param framing: how packets are carried.
    :param offset: the event's id, which becomes its last argument; ``None`` for no such argument. An event that is to
        be acknowledged never has one.
    :return: the block of its packet, with those of its attachments; nothing for one that no client may be sent.
    """
    if event.name in RESERVED_NAMES or event.name.startswith(RESERVED_PREFIX):
        return b""
    name = json.dumps(event.name, ensure_ascii=False)
    args = f"[{name},{event.args_text[1:]}" if event.arg_count else f"[{name}]"
    if offset is not None and not event.ack:
        args = f'{args[:-1]},"{offset}"]'
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
