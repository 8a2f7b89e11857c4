"""The event stream format: one table drives the encoder and the decoder, a second one the decoder alone."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx
import httpx_sse
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakgal_hybrid.broker.sse import Decoder, Message, encode_event, encode_message

quick = settings(max_examples=150, deadline=None, database=None, derandomize=True)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
#: Sizes of the pieces a stream comes in.
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)

TAIL = b"data: tail\n\n"


class Block(NamedTuple):
    """What the encoder is asked for, the bytes it must give, and what a client makes of them."""

    arguments: dict[str, Any]
    stream: bytes
    message: Message | None
    last_event_id: str = ""
    retry: int | None = None


BLOCKS = {
    "data alone": Block({"data": "42"}, b"data: 42\n\n", Message("message", "42", "")),
    "all fields": Block({"data": "{}", "event": "kb_update", "event_id": "7-1", "retry": 10},
                        b"retry: 10\nid: 7-1\nevent: kb_update\ndata: {}\n\n", Message("kb_update", "{}", "7-1"),
                        "7-1", 10),
    "empty data": Block({"data": ""}, b"data: \n\n", Message("message", "", "")),
    "several lines": Block({"data": "a\nb\r\nc\rd"}, b"data: a\ndata: b\ndata: c\ndata: d\n\n",
                           Message("message", "a\nb\nc\nd", "")),
    "LF CR are two line ends": Block({"data": "a\n\rb"}, b"data: a\ndata: \ndata: b\n\n",
                                     Message("message", "a\n\nb", "")),
    "line end last": Block({"data": "a\n"}, b"data: a\ndata: \n\n", Message("message", "a\n", "")),
    "line end alone": Block({"data": "\n"}, b"data: \ndata: \n\n", Message("message", "\n", "")),
    "leading spaces": Block({"data": "  a", "event": " b"}, b"event:  b\ndata:   a\n\n", Message(" b", "  a", "")),
    "field in data": Block({"data": "id: 5"}, b"data: id: 5\n\n", Message("message", "id: 5", "")),
    "no line ends": Block({"data": "a\u2028b\x0bc\x0cd\x85e\0"}, "data: a\u2028b\x0bc\x0cd\x85e\0\n\n".encode(),
                          Message("message", "a\u2028b\x0bc\x0cd\x85e\0", "")),
    "unicode": Block({"data": "\u00fc\U0001f600\ufeff", "event": "\u00fc"},
                     b"event: \xc3\xbc\ndata: \xc3\xbc\xf0\x9f\x98\x80\xef\xbb\xbf\n\n",
                     Message("\u00fc", "\u00fc\U0001f600\ufeff", "")),
    "id alone": Block({"data": None, "event_id": "7-9"}, b"id: 7-9\n\n", None, "7-9"),
    "empty id": Block({"data": None, "event_id": ""}, b"id: \n\n", None),
    "empty event": Block({"data": "x", "event": ""}, b"event: \ndata: x\n\n", Message("message", "x", "")),
    "event without data": Block({"data": None, "event": "lost"}, b"event: lost\n\n", None),
    "retry alone": Block({"data": None, "retry": 3000}, b"retry: 3000\n\n", None, "", 3000),
    "retry zero": Block({"data": None, "retry": 0}, b"retry: 0\n\n", None, "", 0),
    "nothing": Block({"data": None}, b"\n", None),
}


class Stream(NamedTuple):
    """What a decoder is fed, and what it must make of that. ``open``: the stream ends inside a block."""

    stream: bytes
    messages: list[Message]
    last_event_id: str = ""
    retry: int | None = None
    open: bool = False


def message(data: str, event_id: str = "", event: str = "message") -> Message:
    return Message(event, data, event_id)


STREAMS = {
    # The four examples of section 9.2.6, retold.
    "standard: one event of three lines": Stream(
        b"data: ACME\ndata: +3\ndata: 12\n\n", [message("ACME\n+3\n12")]),
    "standard: comment, ids, id reset, leading space": Stream(
        b": a try\n\ndata: one\nid: 1\n\ndata:two\nid\n\ndata:  three\n",
        [message("one", "1"), message("two")], open=True),
    "standard: two empty events, the third unfinished": Stream(
        b"data\n\ndata\ndata\n\ndata:", [message(""), message("\n")], open=True),
    "standard: one space after the colon is nothing": Stream(
        b"data:same\n\ndata: same\n\n", [message("same"), message("same")]),

    "LF": Stream(b"event: a\ndata: 1\n\n", [message("1", event="a")]),
    "CR": Stream(b"event: a\rdata: 1\r\r", [message("1", event="a")]),
    "CRLF": Stream(b"event: a\r\ndata: 1\r\n\r\n", [message("1", event="a")]),
    "mixed line ends": Stream(b"event: a\rdata: 1\r\n\ndata: 2\n\r\n", [message("1", event="a"), message("2")]),
    "CR LF CR is two line ends": Stream(b"data: 1\r\n\rdata: 2\r\n\r", [message("1"), message("2")]),
    "only line ends": Stream(b"\r\n\n\r\r\n\n", []),
    "other separators end no line": Stream("data: a\u2028b\x0b\x0c\x85\n\n".encode(),
                                           [message("a\u2028b\x0b\x0c\x85")]),

    "BOM first": Stream(b"\xef\xbb\xbfdata: 1\n\n", [message("1")]),
    "two BOMs": Stream(b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [message("2")]),
    "BOM later": Stream(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\ndata: 3\n\n", [message("1"), message("3")]),
    "BOM alone": Stream(b"\xef\xbb\xbf", []),
    "broken UTF-8": Stream(b"data: \xff\xc3\n\n", [message("\ufffd\ufffd")]),

    "comments": Stream(b": hello\ndata: 1\n:\n: more\ndata: 2\n\n:\n", [message("1\n2")]),
    "comments alone": Stream(b":\n:\n:\ndata: 1\n\n:\n", [message("1")]),
    "comment after an id": Stream(b"id: 1\n\n:\n\n", [], "1"),
    "unknown fields": Stream(b"foo: bar\ndata: 1\n data: 2\nData: 3\ndata : 4\n\n", [message("1")]),
    "field without colon": Stream(b"event\ndata\n\n", [message("")]),
    "colon in value": Stream(b"data:a:b: c\n\n", [message("a:b: c")]),
    "only one space goes": Stream(b"data:  a \ndata:\tb\n\n", [message(" a \n\tb")]),

    "id persists": Stream(b"id: 1\ndata: a\n\ndata: b\n\n", [message("a", "1"), message("b", "1")], "1"),
    "empty id resets": Stream(b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [message("a", "1"), message("b")]),
    "id without colon resets": Stream(b"id: 1\ndata: a\n\nid\ndata: b\n\n", [message("a", "1"), message("b")]),
    "id with NUL is ignored": Stream(b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n",
                                     [message("a", "1"), message("b", "1")], "1"),
    "id without data counts": Stream(b"id: 1\n\n", [], "1"),
    "last id of a block wins": Stream(b"id: 1\nid: 2\ndata: a\n\n", [message("a", "2")], "2"),
    "id after data": Stream(b"data: a\nid: 1\n\n", [message("a", "1")], "1"),
    "unicode id": Stream("id: \u00fc\ndata: a\n\n".encode(), [message("a", "\u00fc")], "\u00fc"),
    "id of an unfinished block is not taken": Stream(b"id: 1\n\nid: 2\ndata: a\n", [], "1", open=True),

    "retry": Stream(b"retry: 2500\n\n", [], retry=2500),
    "retry takes effect without a blank line": Stream(b"retry: 2500\n", [], retry=2500, open=True),
    "retry with leading zeros": Stream(b"retry: 007\n\n", [], retry=7),
    "last good retry wins": Stream(b"retry: 1\nretry: 2\nretry: x\n\n", [], retry=2),
    "retry negative": Stream(b"retry: -5\n\n", []),
    "retry with sign": Stream(b"retry: +5\n\n", []),
    "retry fraction": Stream(b"retry: 1.5\n\n", []),
    "retry empty": Stream(b"retry\nretry:\n\n", []),
    "retry with space": Stream(b"retry: 5 \nretry:  5\n\n", []),
    "retry in Arabic digits": Stream("retry: \u0665\n\n".encode(), []),
    "retry in superscript": Stream("retry: \u00b2\n\n".encode(), []),
    "retry underscore": Stream(b"retry: 1_000\n\n", []),

    "empty data dispatches": Stream(b"data:\n\n", [message("")]),
    "no data, no dispatch": Stream(b"event: a\n\n", []),
    "event type is reset": Stream(b"event: a\n\ndata: 1\n\nevent: b\ndata: 2\n\ndata: 3\n\n",
                                  [message("1"), message("2", event="b"), message("3")]),
    "last event type of a block wins": Stream(b"event: a\nevent: b\ndata: 1\n\n", [message("1", event="b")]),
    "empty event type is message": Stream(b"event: a\nevent:\ndata: 1\n\n", [message("1")]),

    "end discards a block": Stream(b"data: 1\n\ndata: 2\n", [message("1")], open=True),
    "end discards a line": Stream(b"data: 1\n\ndata: 2", [message("1")], open=True),
    "end discards a comment": Stream(b"data: 1\n\n: 2", [message("1")], open=True),
    "nothing at all": Stream(b"", []),
}
STREAMS |= {f"encoded: {name}": Stream(block.stream, [block.message] if block.message else [], block.last_event_id,
                                       block.retry) for name, block in BLOCKS.items()}

every_stream = pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS)


def decode(pieces: Iterable[bytes]) -> tuple[list[Message], Decoder]:
    decoder = Decoder()
    return [found for piece in pieces for found in decoder.feed(piece)], decoder


def pieces_of(stream: bytes, lengths: list[int]) -> Iterator[bytes]:
    start = 0
    for length in itertools.cycle(lengths):
        if start >= len(stream):
            return
        yield stream[start:start + length]
        start += length


# -- the tables ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_encoder(block):
    """The encoder gives exactly these bytes."""
    assert encode_event(**block.arguments) == block.stream


@every_stream
def test_decoder_whole(case):
    """A stream that comes in one piece is understood as the standard says."""
    messages, decoder = decode([case.stream])
    assert messages == case.messages
    assert (decoder.last_event_id, decoder.retry) == (case.last_event_id, case.retry)


@every_stream
def test_decoder_byte_by_byte(case):
    """A stream that comes byte by byte, with empty pieces between, is understood alike."""
    messages, decoder = decode(piece for byte in case.stream for piece in (bytes([byte]), b""))
    assert messages == case.messages
    assert (decoder.last_event_id, decoder.retry) == (case.last_event_id, case.retry)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in STREAMS.items() if not case.open])
def test_decoder_with_trailing_data(case):
    """What follows in the same piece neither disturbs what came before nor is disturbed by it."""
    messages, decoder = decode([case.stream + TAIL])
    assert messages == [*case.messages, message("tail", case.last_event_id)]
    assert decoder.last_event_id == case.last_event_id


@pytest.mark.parametrize("cut", range(len(b"data: 1\r\n\r\ndata: 2\r\n\r\n") + 1))
def test_decoder_cut_anywhere_in_crlf(cut):
    """A CRLF that is cut in two is still one line end, and a CR ends its line without waiting for an LF."""
    stream = b"data: 1\r\n\r\ndata: 2\r\n\r\n"
    messages, _ = decode([stream[:cut], b"", stream[cut:]])
    assert messages == [message("1"), message("2")]


def test_message_is_dispatched_at_the_cr():
    """The CR of the blank line dispatches; a browser does not wait for the LF that may never come."""
    decoder = Decoder()
    assert decoder.feed(b"data: 1\r\n\r") == [message("1")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\n") == []


def test_decoder_goes_on_from_an_id():
    """A client that reconnects keeps its last event id until the stream sets another."""
    decoder = Decoder("5-5")
    assert decoder.feed(b"data: a\n\nid: 5-6\ndata: b\n\n") == [message("a", "5-5"), message("b", "5-6")]
    assert decoder.last_event_id == "5-6"


def test_very_long_retry_does_not_break_the_decoder():
    """A retry of more digits than int() takes must not end the stream: the events after it are dispatched."""
    decoder = Decoder()
    assert decoder.feed(b"retry: " + b"9" * 10_000 + b"\n\ndata: 1\n\n") == [message("1")]


# -- what the encoder refuses ----------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [
    {"event": "a\nb"}, {"event": "a\r"}, {"event": "a\0"}, {"event_id": "1\n"}, {"event_id": "\r1"},
    {"event_id": "1\x002"}, {"retry": -1}, {"event": "\ud800"}, {"event_id": "\udfff"},
])
def test_encoder_refuses_what_would_break_the_stream(arguments):
    """A field that holds what would end it, a negative time or a lone surrogate is refused."""
    with pytest.raises(ValueError):
        encode_event("x", **arguments)


def test_encoder_refuses_surrogates_in_data():
    """A lone surrogate cannot be sent as UTF-8."""
    with pytest.raises(ValueError):
        encode_event("\ud800")


def encoded(encode: Any, *args: Any, **fields: Any) -> Any:
    """Return the bytes, or the class and text of what the encoder raises."""
    try:
        return encode(*args, **fields)
    except ValueError as error:
        return type(error), str(error)


#: Texts of what ends lines and fields, more often than chance would have it.
broken_texts = st.text(st.sampled_from("\n\r\0a: \u2028\x85\ufeff\ud800") | st.characters(), max_size=12)


@settings(quick, max_examples=500)
@given(broken_texts, broken_texts, broken_texts)
def test_message_is_encoded_as_by_the_long_way(data, event, event_id):
    """The short way for what most events are gives the same bytes for every text, or refuses it with the same words."""
    assert encoded(encode_message, data, event, event_id) == encoded(encode_event, data, event=event, event_id=event_id)


# -- properties ------------------------------------------------------------------------------------------------

@quick
@given(st.lists(st.tuples(texts, fields, fields), max_size=6), sizes)
def test_text_survives(blocks, lengths):
    """Any text under any name and id survives any cutting of the stream; its line ends become LF."""
    stream = b"".join(encode_event(data, event=event, event_id=event_id) for data, event, event_id in blocks)
    messages, _ = decode(pieces_of(stream, lengths))
    assert messages == [Message(event or "message", re.sub("\r\n?", "\n", data), event_id)
                        for data, event, event_id in blocks]


@quick
@given(values, st.booleans(), sizes)
def test_json_survives(value, ascii_only, lengths):
    """Any JSON payload survives any cutting of the stream exactly."""
    stream = b':\n' + encode_event(json.dumps(value, ensure_ascii=ascii_only), event="e", event_id="1-1")
    (found,), _ = decode(pieces_of(stream, lengths))
    assert json.loads(found.data) == value


@quick
@given(st.binary(max_size=60), sizes)
def test_cutting_never_matters(stream, lengths):
    """Whatever bytes come, they mean the same in any pieces, and nothing makes the decoder raise."""
    whole, at_once = decode([stream])
    cut, in_pieces = decode(pieces_of(stream, lengths))
    assert cut == whole
    assert (at_once.last_event_id, at_once.retry) == (in_pieces.last_event_id, in_pieces.retry)


@quick
@given(st.lists(st.sampled_from([b"data", b"id", b"event", b"retry", b":", b" ", b"\r", b"\n", b"\r\n", b"5", b"x",
                                 b"\0", b"\xef\xbb\xbf"]), max_size=40), sizes)
def test_cutting_never_matters_in_stream_like_bytes(parts, lengths):
    """The same for bytes that look like a stream, in which line ends, fields and marks meet in every order."""
    stream = b"".join(parts)
    assert decode([stream])[0] == decode(pieces_of(stream, lengths))[0]


# -- others ----------------------------------------------------------------------------------------------------

ordinary = [block for block in BLOCKS.values() if block.message and "\u2028" not in block.message.data]


def test_httpx_sse_understands_us():
    """httpx-sse, a client nobody here wrote, gets the same events out of our bytes."""
    stream = b"".join(encode_event(json.dumps({"n": number}), event="kb_update", event_id=f"7-{number}") + b':\n'
                      for number in range(20)) + encode_event("two\nlines", event_id="7-20", retry=99)
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)
    theirs = [Message(sse.event, sse.data, sse.id) for sse in httpx_sse.EventSource(response).iter_sse()]
    assert theirs == decode([stream])[0]
    assert len(theirs) == 21


@pytest.mark.parametrize("block", ordinary, ids=lambda block: block.message.data[:12])
def test_httpx_sse_agrees_on_every_block(block):
    """Every block of the table that dispatches something means the same to httpx-sse."""
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=block.stream)
    (sse,) = httpx_sse.EventSource(response).iter_sse()
    assert Message(sse.event, sse.data, sse.id) == block.message
