"""Frames: what an event looks like on a stream, plain or in an envelope."""

from __future__ import annotations

import json

from .event import Event
from .sse import encode_event, encode_message


def encode_entry(event: Event, event_id: str) -> bytes:
    """Encode an event as plain streams carry it: the encoder that the log is given."""
    return encode_message(event.data, event.name, event_id)


def envelope(event: Event, event_id: str | None, ts: int | None, conflated: int = 0,
             to: list[str] | None = None, retry: int | None = None) -> bytes:
    """Encode an event as an unnamed message that carries everything about it.

    The data is ``{"event", "args", "data", "id", "ts", "namespace"}``, ``ts`` in milliseconds since 1970;
    ``"conflated"`` where it stands for older ones, ``"ack"`` where it may be acknowledged, ``"to"`` where it is for
    some of the stream's clients only. Its arguments are spliced in as the text they already are.

    :param retry: the reconnection time in milliseconds that the block sets as well.
    """
    head = json.dumps(event.name, ensure_ascii=False)
    more = {"conflated": conflated or None, "ack": event.ack, "to": to}
    tail = json.dumps({"id": event_id, "ts": ts, "namespace": event.target.namespace,
                       **{name: value for name, value in more.items() if value is not None}},
                      ensure_ascii=False, separators=(",", ":"))
    text = f'{{"event":{head},"args":{event.args_text},"data":{event.data},{tail[1:]}'
    return encode_event(text, event_id=event_id, retry=retry)
