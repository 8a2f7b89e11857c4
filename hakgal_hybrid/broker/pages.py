"""Pages: events as blocks for the libraries of HTML pages: htmx, Turbo and Datastar.

None of them takes our own events, whose names begin with ``hybrid_``, for content: htmx 2 and Datastar look at names,
and Turbo and htmx 4 put only unnamed messages into the page.
"""

from __future__ import annotations

import html
import json

from .event import Event
from .sse import LINE_END, encode_event

#: In JSON text these are in strings only, and so may be escaped: the JSON stays the same, and is no markup.
_IN_HTML = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&'"})


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
        name, text = "datastar-patch-signals", _field("signals", _signal(event.name, event.data))
    else:
        name, text = "datastar-patch-elements", event.html + _field("elements", _html_text(event))
    return _id_last(encode_event(text, event=name), event_id)


def datastar_control(name: str, text: str, event_id: str | None, retry: int | None) -> bytes:
    """Encode one of our own events for Datastar, which shows a page nothing but patches: a gap patches a signal.

    :param name: its name.
    :param text: its data, as JSON text.
    :param event_id: its id, if it carries one.
    :param retry: the reconnection time, in milliseconds, that the block sets as well.
    :return: the block.
    """
    if name == "hybrid_gap":
        name, text = "datastar-patch-signals", _field("signals", _signal(name, text))
    return _id_last(encode_event(text, event=name, retry=retry), event_id)


def _id_last(block: bytes, event_id: str | None) -> bytes:
    """Add an id at the end of a block.

    Datastar remembers an id as soon as it has read that line. If the connection breaks within a block that begins with
    its id, Datastar resumes after an event that it has not seen.
    """
    return block if event_id is None else b"%bid: %b\n\n" % (block[:-1], event_id.encode("ascii"))


def _html_text(event: Event) -> str:
    if event.html is None and not (event.arg_count == 1 and event.data.startswith('"')):
        return event.data.translate(_IN_HTML)
    text = str(json.loads(event.data))
    # HTML has no NUL: where a parser meets one, it puts this character.
    return (html.escape(text) if event.html is None else text).replace("\0", "\ufffd")


def _signal(name: str, data: str) -> str:
    return f"{{{json.dumps(name, ensure_ascii=False)}:{data}}}"


def _field(name: str, text: str) -> str:
    return f"{name} " + LINE_END.sub(f"\n{name} ", text)
