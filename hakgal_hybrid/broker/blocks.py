"""Blocks: the bytes of one block of a stream, for events of the log and for what a stream says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .entry import Entry
from .envelope import envelope
from .event import Event, Target
from .sse import encode_event

#: Made once: ``json.dumps`` makes an encoder for each call with options.
_compact = json.JSONEncoder(separators=(",", ":")).encode


def entry_block(entry: Entry, event_id: str | None, *, in_envelope: bool, conflated: int = 0,
                to: list[str] | None = None) -> bytes:
    """Encode an event of the log.

    :param entry: the entry.
    :param event_id: its id; ``None`` for one that is shown out of its order, in a snapshot.
    :param in_envelope: true for an unnamed message that carries everything.
    :param conflated: for how many older events it stands.
    :param to: for which clients of the stream it is, if not for all of its namespace.
    :return: the block.
    """
    if in_envelope:
        return envelope(entry.event, event_id, entry.ts, conflated, to)
    return entry.frame if event_id else encode_event(entry.event.data, event=entry.event.name)


def control_block(name: str, data: dict[str, Any], event_id: str | None = None, *, in_envelope: bool,
                  retry: int | None = None, namespace: str = "/", to: Sequence[str] | None = None) -> bytes:
    """Encode one of our own events.

    :param name: its name.
    :param data: its data.
    :param event_id: its id, if it carries one.
    :param in_envelope: true for an unnamed message.
    :param retry: the reconnection time, in milliseconds, that the block sets as well.
    :param namespace: the namespace that an envelope names.
    :param to: for which clients of the stream it is, if not for all.
    :return: the block.
    """
    text = _compact(data)
    if in_envelope:
        return envelope(Event(name, text, 1, Target(namespace)), event_id, None, to=None if to is None else list(to),
                        retry=retry)
    return encode_event(text, event=name, event_id=event_id, retry=retry)
