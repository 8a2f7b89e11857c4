"""Blocks: one block of a stream as bytes, for events of the log and for the protocol's own, plain or in envelopes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from .engineio.packets import Framing
from .engineio.socketio_packets import Kind, control_packet, event_block
from .entry import Entry
from .event import Event, Target
from .formats import Format
from .pages import datastar_block, datastar_control, html_block
from .sse import encode_event, encode_message

#: The reason of a client that the host has ended.
SERVER_DISCONNECT = "server disconnect"
#: Made once: ``json.dumps`` makes an encoder for each call with options.
_compact = json.JSONEncoder(separators=(",", ":")).encode


def encode_entry(event: Event, event_id: str) -> bytes:
    """Encode an event as plain streams carry it.

    :param event: the event.
    :param event_id: its id.
    :return: a block of an event stream.
    """
    return encode_message(event.data, event.name, event_id)


def envelope(event: Event, event_id: str | None, ts: int | None, conflated: int = 0,
             to: list[str] | None = None, retry: int | None = None, *, form: Format = Format.ENVELOPE) -> bytes:
    """Encode an event as an unnamed message, or a frame of a WebSocket, that carries everything about it.

    The data is ``{"event", "args", "data", "id", "ts", "namespace"}``, with ``"conflated"``, ``"ack"`` and ``"to"``
    where they say something. The arguments are spliced in as the text that they are already.

    :param event: the event.
    :param event_id: its id; ``None`` for a block that is not an event of the log.
    :param ts: when it was emitted, in milliseconds since 1970.
    :param conflated: how many older events it stands for.
    :param to: the ``sid`` of each client of the stream that it is for; ``None`` means all.
    :param retry: the reconnection time that the block sets as well, in milliseconds; a frame does not.
    :param form: one of the two forms of envelopes.
    :return: a block of an event stream, or a frame.
    """
    head = json.dumps(event.name, ensure_ascii=False)
    more = {"conflated": conflated or None, "ack": event.ack, "to": to}
    tail = json.dumps({"id": event_id, "ts": ts, "namespace": event.target.namespace,
                       **{name: value for name, value in more.items() if value is not None}},
                      ensure_ascii=False, separators=(",", ":"))
    text = f'{{"event":{head},"args":{event.args_text},"data":{event.data},{tail[1:]}'
    if form is Format.ENVELOPE_FRAMES:
        return Framing.WEBSOCKET.packet(text)
    return encode_event(text, event_id=event_id, retry=retry)


def entry_block(entry: Entry, event_id: str | None, *, form: Format, conflated: int = 0,
                to: list[str] | None = None) -> bytes:
    """Encode an event of the log.

    :param entry: the entry.
    :param event_id: its id; ``None`` in a snapshot, which is out of order.
    :param form: how it is carried.
    :param conflated: for how many older events it stands; only envelopes say it.
    :param to: for which clients of the stream it is, if not for all of its namespace; only envelopes say it.
    :return: the block.
    """
    framing = form.framing
    if framing is not None:
        return event_block(entry.event, entry.seq, framing, event_id if form.offsets else None)
    if form.enveloped:
        return envelope(entry.event, event_id, entry.ts, conflated, to, form=form)
    if form is Format.DATASTAR:
        return datastar_block(entry.event, event_id)
    if form is not Format.JSON:
        return html_block(entry.event, event_id, named=form is Format.HTML)
    return entry.frame if event_id else encode_event(entry.event.data, event=entry.event.name)


def control_block(name: str, data: dict[str, Any], event_id: str | None = None, *, form: Format,
                  retry: int | None = None, namespace: str = "/", to: Sequence[str] | None = None) -> bytes:
    """Encode one of the protocol's own events.

    :param name: its name.
    :param data: its data.
    :param event_id: its id, if it carries one.
    :param form: how the stream carries events.
    :param retry: the reconnection time, in milliseconds, that the block sets as well.
    :param namespace: the namespace that an envelope names.
    :param to: for which clients of the stream it is, if not for all.
    :return: the block.
    """
    framing = form.framing
    if framing is not None:  # a client that has left itself knows it; of the rest it knows nothing
        ended = name == "hybrid_disconnect" and data["reason"] == SERVER_DISCONNECT
        return framing.packet(control_packet(Kind.DISCONNECT, namespace)) if ended else b""
    text = _compact(data)
    if form.enveloped:
        return envelope(Event(name, text, 1, Target(namespace)), event_id, None, to=None if to is None else list(to),
                        retry=retry, form=form)
    if form is Format.DATASTAR:
        return datastar_control(name, text, event_id, retry)
    return encode_event(text, event=name, event_id=event_id, retry=retry)


class BlockCache:
    """The blocks of events in other formats than JSON, which are made when a stream reads them.

    Streams read an event at about the same time, so a block that was made for one is kept for the others. Any thread
    may use it, without a lock: at worst a block is made twice.

    :param id_of: returns the id of an event by its number.
    :param max_bytes: how many bytes of blocks are kept, about, at most.
    :ivar bytes: how many are kept now.
    """

    def __init__(self, id_of: Callable[[int], str], max_bytes: int = 4 << 20) -> None:
        self._id_of, self._max_bytes = id_of, max_bytes
        self._kept: dict[tuple[int, Format], bytes] = {}
        self.bytes = 0

    def block(self, entry: Entry, form: Format, conflated: int = 0, to: list[str] | None = None) -> bytes:
        """Return an event of the log as bytes: for all streams the same ones, but for what :func:`entry_block` adds.

        :param entry: the entry.
        :param form: how it is carried.
        :param conflated: for how many older events it stands.
        :param to: for which clients of the stream it is, if not for all of its namespace.
        :return: the block.
        """
        if form is Format.JSON:
            return entry.frame
        if form.enveloped and (conflated or to is not None):
            return entry_block(entry, self._id_of(entry.seq), form=form, conflated=conflated, to=to)
        block = self._kept.get((entry.seq, form))
        if block is None:
            block = entry_block(entry, self._id_of(entry.seq), form=form)
            self._keep(entry.seq, form, block)
        return block

    def _keep(self, seq: int, form: Format, block: bytes) -> None:
        if len(block) > self._max_bytes:
            return
        if self.bytes + len(block) > self._max_bytes:
            self._kept, self.bytes = {}, 0
        self._kept[seq, form] = block
        self.bytes += len(block)
