"""What the entries of a shared log carry: a letter for the kind, then JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any, NamedTuple

from ...errors import EventError
from ..event import EVERYBODY, Event, Target

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_loads = json.JSONDecoder().decode
_EVENT, _CONTROL = b"e", b"c"
#: What a room may be, so that every process has the same.
_ROOM_TYPES = (str, int, float, bool, type(None))


class SharedEvent(NamedTuple):
    """An event that some process has emitted.

    :ivar event: the event.
    :ivar ts: when it was emitted, in milliseconds since 1970, by the clock of its process.
    """

    event: Event
    ts: int


class Control(NamedTuple):
    """Something that is no event, and that one process or each has to do.

    :ivar action: what.
    :ivar data: with what; JSON values.
    """

    action: str
    data: dict[str, Any]


def event_payload(event: Event, ts: int) -> bytes:
    """Return what the log carries of an event.

    :param event: the event.
    :param ts: when it was emitted, in milliseconds since 1970.
    :return: the payload.
    :raises EventError: for a room that other processes could not know.
    """
    target = event.target
    if target is EVERYBODY:
        fields = [event.name, event.data, event.arg_count, ts, event.ack, event.html]
    else:
        fields = [event.name, event.data, event.arg_count, ts, event.ack, event.html, target.namespace,
                  None if target.rooms is None else _names(target.rooms), _names(target.skip)]
    return _EVENT + _dumps(fields).encode()


def _names(rooms: frozenset[Hashable]) -> list[Hashable]:
    for room in rooms:
        if type(room) not in _ROOM_TYPES:
            raise EventError(f"{room!r:.80} is no room that several processes can share; use a text or a number",
                             code="bad_room")
    return list(rooms)


def control_payload(control: Control) -> bytes:
    """Return what the log carries of something to be done.

    :param control: what is to be done.
    :return: the payload.
    :raises EventError: for a room that other processes could not know.
    """
    try:
        return _CONTROL + _dumps(control).encode()
    except (TypeError, ValueError) as error:
        raise EventError(f"{control.action} cannot be sent to other processes: {error}", code="bad_room") from error


def read_payload(payload: bytes) -> SharedEvent | Control:
    """Return what an entry carries.

    :param payload: the payload.
    :return: an event, or something to be done.
    :raises ValueError: for what no version of this package has written.
    """
    try:
        fields = _loads(payload[1:].decode())
        if payload[:1] == _CONTROL:
            return Control(str(fields[0]), dict(fields[1]))
        if payload[:1] != _EVENT:
            raise ValueError(f"kind {payload[:1]!r} is not known")
        name, data, count, ts, ack, html, *more = fields
        target = EVERYBODY
        if more:
            namespace, rooms, skip = more
            target = Target(namespace, None if rooms is None else frozenset(rooms), frozenset(skip))
        return SharedEvent(Event(name, data, count, target, ack, html), ts)
    except (TypeError, IndexError, KeyError) as error:
        raise ValueError(str(error)) from error
