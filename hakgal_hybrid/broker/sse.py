"""SSE: an encoder and a decoder of the event stream format.

Both follow the HTML Living Standard, section 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event
stream". Pure: no socket, no clock; only the delay in :func:`busy_body` is random.
"""

from __future__ import annotations

import codecs
import json
import random
import re
from dataclasses import dataclass
from typing import Any

from ..errors import Headers, Overloaded

#: For delays. Not that of the module, which belongs to the host: it may have seeded it.
RANDOM = random.SystemRandom()
#: A reconnection time of more than 18 digits is taken for this one.
_FOREVER = 10**18

_LINE_END = re.compile(r"\r\n|\r|\n")


def encode_message(data: str, event: str, event_id: str) -> bytes:
    """Encode a block that dispatches an event, as :func:`encode_event` does, but faster for one line of data.

    :param data: the text.
    :param event: the event type; one line.
    :param event_id: the client's last event id from then on; one line.
    :return: the block.
    :raises ValueError: as :func:`encode_event`.
    """
    text = f"id: {event_id}\nevent: {event}\ndata: {data}\n\n"
    if text.count("\n") != 4 or "\r" in text or "\0" in text:  # more lines of data, or what it refuses
        return encode_event(data, event=event, event_id=event_id)
    return text.encode("utf-8")


def encode_event(data: str | None, *, event: str | None = None, event_id: str | None = None,
                 retry: int | None = None) -> bytes:
    """Encode one block of an event stream, its final blank line included.

    :param data: the text; ``None`` for a block that dispatches nothing (an id or a retry time alone). Line ends
        (CRLF, CR, LF) come out as LF, as the standard has it.
    :param event: the event type; one line.
    :param event_id: the client's last event id from then on; one line.
    :param retry: reconnection time in milliseconds, not negative.
    :return: the block.
    :raises ValueError: if a field holds what would end it (CR, LF, NUL), ``retry`` is negative, or a text holds a
        lone surrogate.
    """
    lines = []
    if retry is not None:
        if retry < 0:
            raise ValueError(f"retry {retry!r} is negative")
        lines.append(f"retry: {retry:d}\n")
    for field, value in (("id", event_id), ("event", event)):
        if value is not None:
            if "\n" in value or "\r" in value or "\0" in value:
                raise ValueError(f"{field} {value!r} holds CR, LF or NUL")
            lines.append(f"{field}: {value}\n")
    if data is not None:
        lines.append(f"{as_field('data:', data)}\n")
    lines.append("\n")
    return "".join(lines).encode("utf-8")


def as_field(name: str, text: str) -> str:
    """Return a text as lines of a field. Whatever it holds, this takes little time: it is done in the writer's thread.

    :param name: what each line begins with, before a space.
    :param text: the text. Its line ends (CRLF, CR, LF) come out as LF.
    :return: the lines, without the end of the last one.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"{name} " + (text.replace("\n", f"\n{name} ") if "\n" in text else text)


@dataclass(frozen=True, slots=True)
class Message:
    """What a client dispatches.

    :ivar event: the event type; ``message`` if the block named none.
    :ivar data: the text.
    :ivar id: the last event id at that moment.
    """

    event: str
    data: str
    id: str


class Decoder:
    """Incremental decoder of one event stream: returns what an ``EventSource`` would dispatch.

    At the end of a stream an unfinished block is discarded, so there is nothing to flush.

    :param last_event_id: the id with which the stream was opened.
    :ivar last_event_id: what the client would send as ``Last-Event-ID`` on reconnecting.
    :ivar retry: the reconnection time in milliseconds, once the stream has set it.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._started = False
        self._after_cr = False
        self._id = last_event_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes of the stream.

        :param chunk: the bytes; they may end anywhere.
        :return: the messages that they complete.
        """
        messages = map(self._take_line, self._lines(self._text.decode(chunk)))
        return [message for message in messages if message is not None]

    def _lines(self, text: str) -> list[str]:
        if text and not self._started:
            self._started = True
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            # A CR ended the last line when it came; an LF right after it belongs to the same line end.
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, self._rest = _LINE_END.split(self._rest + text)
        return lines

    def _take_line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) if len(value) < 19 else _FOREVER
        return None

    def _dispatch(self) -> Message | None:
        self.last_event_id = self._id
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return Message(event, "\n".join(data), self._id) if data else None


#: Ends a body that comes in chunks (RFC 9112, section 7.1).
LAST_CHUNK = b"0\r\n\r\n"
#: How long a connection is left open after the last event, if it is then cut (seconds): Chromium drops what its page
#: has not read when the cut comes.
READING_S = 0.1


def as_chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk of an HTTP/1.1 body.

    :param data: some bytes of the body.
    :return: the chunk; nothing for nothing, because an empty chunk would end the body.
    """
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def wants_stream(environ: dict[str, Any]) -> bool:
    """True if a request accepts an event stream, as those of an ``EventSource`` do.

    :param environ: the WSGI environ of the request.
    """
    return "text/event-stream" in environ.get("HTTP_ACCEPT", "")


def busy_body(busy: Overloaded) -> bytes:
    """Return a stream that says no: an ``EventSource`` comes back after it, but never after a 503.

    :param busy: why, and when to come back. Up to as much again is added at random, so that clients spread.
    :return: the whole body.
    """
    retry_ms = round(busy.retry_after * 1000 * RANDOM.uniform(1.0, 2.0))
    data = json.dumps({"retry_ms": retry_ms, "code": busy.code, "detail": busy.detail})
    return encode_event(data, event="hybrid_busy", retry=retry_ms)


STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: Headers that describe the empty body which the application has returned, and would garble a stream.
_NOT_OF_A_STREAM = ("content-length", "content-encoding", "content-range", "transfer-encoding", "connection", "etag",
                    "last-modified", "accept-ranges", *(name.lower() for name in STREAM_HEADERS))


def stream_headers(headers: Headers) -> Headers:
    """Return the headers of a stream's response.

    :param headers: the headers that the application has returned.
    :return: those that fit a stream, and the stream's own.
    """
    return [item for item in headers if item[0].lower() not in _NOT_OF_A_STREAM] + list(STREAM_HEADERS.items())
