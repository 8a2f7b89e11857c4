"""HTML as a payload, and the formats in which pages read events: what htmx, Turbo and Datastar make of each block."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from support.accounting import blocks
from support.log_and_hub import EPOCH, LogAndHub

from hakgal_hybrid import EventError, Html, HybridTransport
from hakgal_hybrid.broker.blocks import BlockCache, encode_entry, entry_block
from hakgal_hybrid.broker.entry import Entry
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.broker.formats import EVENT_STREAMS, Format
from hakgal_hybrid.broker.markup import MODES
from hakgal_hybrid.broker.sse import Decoder, Message
from hakgal_hybrid.socketio import SocketIO, emit

ID = f"{EPOCH}-1"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\0<>&'\" "))
JSON_VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS,
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


def block(form: Format, *args: Any, name: str = "row", event_id: str | None = ID) -> str:
    """Return an event in a format."""
    event = Event.create(name, args)
    return entry_block(Entry(1, 0, 0, event, encode_entry(event, ID)), event_id, form=form).decode()


def message(form: Format, *args: Any, name: str = "row") -> Message:
    """Return what a client dispatches of an event."""
    (found,) = Decoder().feed(block(form, *args, name=name).encode())
    assert found.id == ID
    return found


def fields(data: str) -> dict[str, str]:
    """Return the fields of a message as Datastar 1.0 makes them of its lines."""
    found: dict[str, list[str]] = {}
    for line in data.split("\n"):
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return {name: "\n".join(values) for name, values in found.items()}


def lines_of(text: str) -> str:
    """Return a text with the line ends and the NUL that an HTML parser would make of it."""
    return re.sub("\r\n|\r", "\n", text).replace("\0", "\ufffd")


class Field:
    """Something that says of itself that it is HTML, as the fields of forms do."""

    def __init__(self, text: Any) -> None:
        self.text = text

    def __html__(self) -> Any:
        return self.text


# -- the payload -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [Markup("<b>&</b>"), Html("<b>&</b>"), Html(Markup("<b>&</b>")), Field("<b>&</b>"),
                                     Html(Field("<b>&</b>"))], ids=["Markup", "Html", "both", "object", "of an object"])
def test_html_is_a_string_for_readers_of_json(payload: Any) -> None:
    """Whatever has ``__html__`` is its text in JSON and in envelopes, and HTML in the formats of pages."""
    assert message(Format.JSON, payload) == Message("row", '"<b>&</b>"', ID)
    assert json.loads(message(Format.ENVELOPE, payload).data)["args"] == ["<b>&</b>"]
    assert message(Format.HTML, payload) == Message("row", "<b>&</b>", ID)


def test_html_within_a_payload_is_text() -> None:
    """In a list, a dict or one of several arguments it is a string like any other."""
    for args in ([Html("<b>")],), ({"a": Markup("<b>")},), (Html("<b>"), 1):
        assert Event.create("row", args).html is None
    assert message(Format.JSON, [Html("<b>")]).data == '["<b>"]'


def test_html_that_is_none() -> None:
    """An ``__html__`` that returns no text, a placement that is none and a lone surrogate are refused where made."""
    for make in (lambda: Event.create("row", (Field(5),)), lambda: Event.create("row", (Html("\ud800"),)),
                 lambda: Html("", mode="morph"), lambda: Html("", selector=""),
                 lambda: Html("", selector="a\nmode inner")):
        with pytest.raises(EventError) as caught:
            make()
        assert caught.value.code == "bad_payload"


@pytest.mark.parametrize("codec", [{}, {"json": json}], ids=["default", "of the host"])
def test_html_by_flask_socketio(codec: dict[str, Any]) -> None:
    """``emit``, ``send`` and a handler's ``emit`` send HTML, whatever writes the JSON; readers of JSON get a string."""
    app = Flask(__name__)
    socketio = SocketIO(app, **codec)
    socketio.on("ask")(lambda: emit("row", Html("<i>"), broadcast=True))
    client = socketio.test_client(app)
    socketio.emit("row", Markup("<b>"))
    socketio.send(Markup("<u>"))
    client.emit("ask")
    log = HybridTransport.of(app).log
    found = [Decoder().feed(log.blocks.block(entry, Format.HTML))[0] for entry in log.since(0)[1]]
    assert [(one.event, one.data) for one in found] == [("row", "<b>"), ("message", "<u>"), ("row", "<i>")]
    assert [one["args"] for one in client.get_received()] == [["<b>"], "<u>", ["<i>"]]


def test_html_is_safe_in_templates() -> None:
    """What is Html already is not escaped again."""
    assert Markup("<p>{}</p>").format(Html("<b>")) == "<p><b></p>"
    assert type(Event.create("row", (Html("<b>"),), encode=lambda name, args: args[0]).data) is str


# -- html --------------------------------------------------------------------------------------------------------


@given(text=TEXTS, named=st.booleans())
def test_html_comes_as_it_is(text: str, named: bool) -> None:
    """The text of an event is its HTML, line by line, whatever is in it; unnamed, it is a message."""
    form = Format.HTML if named else Format.UNNAMED_HTML
    assert message(form, Html(text)) == Message("row" if named else "message", lines_of(text), ID)


def test_html_byte_for_byte() -> None:
    """The blocks of HTML, exactly; in a snapshot they have no id."""
    assert block(Format.HTML, Html("<tr>\r\n<td>1")) == f"id: {ID}\nevent: row\ndata: <tr>\ndata: <td>1\n\n"
    assert block(Format.UNNAMED_HTML, Html("<tr>")) == f"id: {ID}\ndata: <tr>\n\n"
    assert block(Format.HTML, Html("<tr>"), event_id=None) == "event: row\ndata: <tr>\n\n"


@given(value=JSON_VALUES, form=st.sampled_from([Format.HTML, Format.UNNAMED_HTML]))
def test_what_is_no_html_is_no_markup(value: Any, form: Format) -> None:
    """Text is escaped, all else is JSON without a character of markup; both keep their name, and come back whole."""
    found = message(form, value)
    assert found.event == "row"
    assert not set(found.data) & set("<>'")
    if isinstance(value, str):
        assert Markup(found.data).unescape() == Markup(lines_of(value).replace("&", "&amp;")).unescape()
    else:
        assert "&" not in found.data
        assert json.loads(found.data) == value


# -- datastar ----------------------------------------------------------------------------------------------------


@given(text=TEXTS)
def test_datastar_patches_elements(text: str) -> None:
    """HTML is put together from its lines as it was, spaces and empty lines included."""
    found = message(Format.DATASTAR, Html(text))
    assert (found.event, fields(found.data)) == ("datastar-patch-elements", {"elements": lines_of(text)})


@given(value=JSON_VALUES)
def test_datastar_patches_signals(value: Any) -> None:
    """JSON is the signal with the event's name, whatever it is."""
    found = message(Format.DATASTAR, value, name='fact "1"')
    assert (found.event, found.data[:8]) == ("datastar-patch-signals", "signals ")
    assert json.loads(fields(found.data)["signals"]) == {'fact "1"': value}


@pytest.mark.parametrize("mode", [None, *MODES])
@pytest.mark.parametrize("selector", [None, "#rows > tr:first-child"])
def test_datastar_is_told_where(mode: str | None, selector: str | None) -> None:
    """Selector and mode are fields beside the elements, and nowhere else."""
    payload = Html("<tr>", selector=selector, mode=mode)
    wanted = {"elements": "<tr>", "mode": mode, "selector": selector}
    assert fields(message(Format.DATASTAR, payload).data) == {name: text for name, text in wanted.items() if text}
    assert message(Format.HTML, payload).data == "<tr>"


def test_datastar_byte_for_byte() -> None:
    """The id ends a block: Datastar remembers it before it has the event, if it comes first."""
    assert block(Format.DATASTAR, Html("<i>\n1", mode="append", selector="#a")) == (
        "event: datastar-patch-elements\ndata: selector #a\ndata: mode append\ndata: elements <i>\n"
        f"data: elements 1\nid: {ID}\n\n")
    assert block(Format.DATASTAR, 5) == f'event: datastar-patch-signals\ndata: signals {{"row":5}}\nid: {ID}\n\n'
    assert block(Format.DATASTAR, 5, event_id=None) == 'event: datastar-patch-signals\ndata: signals {"row":5}\n\n'


# -- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Format.HTML, Format.UNNAMED_HTML, Format.DATASTAR])
def test_our_own_events_are_no_content(form: Format) -> None:
    """Opening, gap, heartbeat and farewell come in each format, with the ids that they always have, and as no HTML."""
    found = {}
    for wanted in (Format.JSON, form):
        house = LogAndHub(max_events=2)
        stream = house.open(opened=False, format=wanted, last_event_id="5-5")
        found[wanted] = stream.opening()
        for number in range(5):
            house.emit("row", Html(f"<tr>{number}"))
        found[wanted] += stream.take() + stream.heartbeat() + stream.bye()
    plain, ours = ([(got.event, got.id) for got in blocks(data, wanted) if got.event.startswith("hybrid_")]
                   for wanted, data in found.items())
    assert [name for name, _ in plain] == ["hybrid_open", "hybrid_gap", "hybrid_gap", "hybrid_heartbeat", "hybrid_bye"]
    assert ours == plain
    rows = [message for message in Decoder().feed(found[form]) if "<tr>" in message.data]
    assert [row.id for row in rows] == [f"{EPOCH}-4", f"{EPOCH}-5"]
    assert not {"message", "row", "datastar-patch-elements"} & {
        message.event for message in Decoder().feed(found[form]) if message not in rows}


def test_datastar_gets_a_gap_as_a_signal() -> None:
    """Datastar shows a page nothing but patches, so a gap is one: the signal ``hybrid_gap``, its id at the end."""
    house = LogAndHub()
    opening = house.open(opened=False, format=Format.DATASTAR, last_event_id="5-5").opening().decode()
    assert opening.split("\n\n")[1] == ('event: datastar-patch-signals\ndata: signals {"hybrid_gap":{"missed":null,'
                                        f'"reason":"restarted","resume_from":"{EPOCH}-0"}}}}\nid: {EPOCH}-0')


@pytest.mark.parametrize("form", EVENT_STREAMS)
def test_snapshot_and_conflation(form: Format) -> None:
    """A snapshot has the newest of each name without an id, a reader behind the newest state with its id."""
    house = LogAndHub()
    for number in range(3):
        house.emit("load", Html(f"<b>{number}"))
    snapshot = house.open(opened=False, format=form, snapshot="1").opening().decode().split("\n\n")[1:-1]
    assert len(snapshot) == 1
    assert "id: " not in snapshot[0]
    assert "<b>2" in snapshot[0]
    behind = house.open(format=form, last_event_id=f"{EPOCH}-0").take()
    (only,) = Decoder().feed(behind)
    assert only.id == f"{EPOCH}-3"
    assert "<b>2" in only.data


# -- made once ---------------------------------------------------------------------------------------------------


def entry(number: int, text: str = "<b>") -> Entry:
    event = Event.create("row", (Html(text),))
    return Entry(number, 0, 0, event, encode_entry(event, f"1-{number}"))


@pytest.mark.parametrize("form", Format)
def test_a_block_is_made_once(form: Format) -> None:
    """All streams of a format are given the very same bytes of an event, however they read it."""
    house = LogAndHub()
    streams = [house.open(format=form) for _ in range(2)]
    house.emit("row", Html("<b>"))
    found = house.log.entry(1)
    assert found is not None
    made = house.log.blocks.block(found, form)
    assert house.log.blocks.block(found, form) is made
    assert [stream.take() for stream in streams] == [made, made]


def test_kept_blocks_are_bounded() -> None:
    """However many events there are, their blocks take no more bytes than they may; a larger one is not kept."""
    kept = BlockCache("1-{}".format, max_bytes=1000)
    for number in range(1, 200):
        found = entry(number, "x" * (number * 37 % 300))
        assert kept.block(found, Format.HTML) is kept.block(found, Format.HTML)
        assert kept.bytes <= 1000
    large = entry(200, "x" * 1000)
    assert kept.block(large, Format.HTML) is not kept.block(large, Format.HTML)
    assert kept.bytes <= 1000
