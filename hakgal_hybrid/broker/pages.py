"""Pages: events as blocks for the libraries of HTML pages: htmx, Turbo and Datastar.

None of them takes our own events, whose names begin with ``hybrid_``, for content: htmx 2 and Datastar look at names,
and Turbo and htmx 4 put only unnamed messages into the page.
"""

from __future__ import annotations

import html
import json

from .event import Event
from .sse import as_field, encode_event

#: In JSON text these are in strings only, and so may be escaped: the JSON stays the same, and is no markup.
_IN_HTML = [(character, f"\\u{ord(character):04x}") for character in "<>&'"]


def html_block(event: Event, event_id: str | None, *, named: bool) -> bytes:
    """Encode an event whose data is HTML.

    HTML is sent as it is; any other text is escaped, as templates do it. Whatever else there is comes as JSON in which
    there is no markup.

    :param event: the event.
    :param event_id: its id; ``None`` in a snapshot.
    :param named: false for HTML in unnamed messages. What is no HTML has a name all the same, so that a page that puts
        unnamed messages into itself does not show it.
    :return: the block.
    """
    name = event.name if named or event.html is None else None
    return encode_event(_html_text(event), event=name, event_id=event_id)


def datastar_block(event: Event, event_id: str | None) -> bytes:
    """Encode an event for Datastar: HTML patches elements, JSON patches the signal that has the name of the event.

    :param event: the event.
    :param event_id: its id; ``None`` in a snapshot.
    :return: the block.
    """
    if event.html is None:
        return _signals(event.name, event.data, event_id)
    placement = "".join(f"data: {line}\n" for line in event.html.split("\n") if line)
    return _patch("elements", placement + as_field("data: elements", _html_text(event)), event_id)


def datastar_control(name: str, text: str, event_id: str | None, retry: int | None) -> bytes:
    """Encode one of our own events for Datastar, which shows a page nothing but patches: a gap patches a signal.

    :param name: its name.
    :param text: its data, as JSON text.
    :param event_id: its id, if it carries one.
    :param retry: the reconnection time, in milliseconds, that the block sets as well.
    :return: the block.
    """
    if name == "hybrid_gap":
        return _signals(name, text, event_id)
    return encode_event(text, event=name, event_id=event_id, retry=retry)


def _signals(name: str, data: str, event_id: str | None) -> bytes:
    signals = f"{{{json.dumps(name, ensure_ascii=False)}:{data}}}"
    return _patch("signals", as_field("data: signals", signals), event_id)


def _patch(what: str, data: str, event_id: str | None) -> bytes:
    """Return a block with its id at the end.

    Datastar remembers an id as soon as it has read that line. If the connection breaks within a block that begins with
    its id, Datastar resumes after an event that it has not seen.
    """
    end = "" if event_id is None else f"id: {event_id}\n"
    return f"event: datastar-patch-{what}\n{data}\n{end}\n".encode()


def _html_text(event: Event) -> str:
    if event.html is None and not (event.arg_count == 1 and event.data.startswith('"')):
        text = event.data
        for character, escape in _IN_HTML:  # str.translate takes ten times as long
            text = text.replace(character, escape)
        return text
    text = str(json.loads(event.data))
    # HTML has no NUL: where a parser meets one, it puts this character.
    return (html.escape(text) if event.html is None else text).replace("\0", "\ufffd")
