"""Envelope: what an event looks like on a stream, plain or in an envelope."""

from __future__ import annotations

import json

from .event import Event
from .sse import encode_event, encode_message


def encode_entry(event: Event, event_id: str) -> bytes:
    """Encode an event as plain streams carry it.

    :param event: the event.
    :param event_id: its id.
    :return: a block of an event stream.
    """
    return encode_message(event.data, event.name, event_id)


def envelope(event: Event, event_id: str | None, ts: int | None, conflated: int = 0,
             to: list[str] | None = None, retry: int | None = None) -> bytes:
    """Encode an event as an unnamed message that carries everything about it.

    The data is ``{"event", "args", "data", "id", "ts", "namespace"}``, with ``"conflated"``, ``"ack"`` and ``"to"``
    where they say something. The arguments are spliced in as the text that they are already.

    :param event: the event.
    :param event_id: its id; ``None`` for a block that is not an event of the log.
    :param ts: when it was emitted, in milliseconds since 1970.
    :param conflated: how many older events it stands for.
    :param to: the ``sid`` of each client of the stream that it is for; ``None`` means all.
    :param retry: the reconnection time that the block sets as well, in milliseconds.
    :return: a block of an event stream.
    """
    head = json.dumps(event.name, ensure_ascii=False)
    more = {"conflated": conflated or None, "ack": event.ack, "to": to}
    tail = json.dumps({"id": event_id, "ts": ts, "namespace": event.target.namespace,
                       **{name: value for name, value in more.items() if value is not None}},
                      ensure_ascii=False, separators=(",", ":"))
    text = f'{{"event":{head},"args":{event.args_text},"data":{event.data},{tail[1:]}'
    return encode_event(text, event_id=event_id, retry=retry)
