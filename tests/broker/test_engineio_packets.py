"""Engine.IO's packets in both framings, and Socket.IO's packets both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hakgal_hybrid.broker.engineio.packets import (
    Framing,
    Packet,
    PacketType,
    ProtocolError,
    as_frames,
    body_of,
    count_packets,
    decode_packet,
    decode_payload,
    split_blocks,
)
from hakgal_hybrid.broker.engineio.socketio_packets import (
    ACK_IDS,
    RESERVED_NAMES,
    Kind,
    SocketPacket,
    ack_block,
    control_packet,
    event_block,
)
from hakgal_hybrid.broker.engineio.socketio_reader import MAX_ATTACHMENTS, PacketReader
from hakgal_hybrid.broker.event import MAX_NAME, Event, Target

POLLING, WEBSOCKET = Framing.POLLING, Framing.WEBSOCKET


def read(*messages: str | bytes, max_bytes: int = 1000) -> SocketPacket | None:
    """Return what the last of some messages completes."""
    reader, packet = PacketReader(max_bytes), None
    for message in messages:
        packet = reader.read(message)
    return None if packet is None else packet.complete(reader.loads)


# -- Engine.IO ---------------------------------------------------------------------------------------------------


def test_a_payload_is_read_packet_by_packet() -> None:
    """Packets stand between separators; a binary message has a letter in place of its digit."""
    assert list(decode_payload("4hällo\x1e2\x1ebAQI=\x1e1".encode())) == [
        Packet(PacketType.MESSAGE, "hällo"), Packet(PacketType.PING), Packet(PacketType.MESSAGE, b"\x01\x02"),
        Packet(PacketType.CLOSE)]


@pytest.mark.parametrize("body", [b"", b"abc", b"4a\x1e", b"\x1e4a", b"7", b"b?", b"bAQ", b"4\xff", b"4a\x1e\x1e4b"])
def test_a_payload_that_is_none_is_refused(body: bytes) -> None:
    """Whatever is no packet is an error, wherever in the payload it stands."""
    with pytest.raises(ProtocolError):
        list(decode_payload(body))


def test_blocks_for_polling_are_joined_split_and_counted() -> None:
    """Blocks are joined as they are; they are split behind a packet, and the body has separators between them only."""
    blocks = POLLING.message("a") + POLLING.message(b"\x01\x02") + POLLING.packet("2")
    assert body_of(blocks) == b"4a\x1ebAQI=\x1e2"
    assert count_packets(blocks) == 3
    assert split_blocks(blocks, 2) == (b"4a\x1ebAQI=\x1e", b"2\x1e")
    assert as_frames(blocks) == WEBSOCKET.message("a") + WEBSOCKET.message(b"\x01\x02") + WEBSOCKET.packet("2")
    assert as_frames(b"") == b""
    assert split_blocks(blocks, 3) == split_blocks(blocks, 99) == (blocks, b"")


@pytest.mark.parametrize(("size", "head"), [(1, "8102"), (124, "817d"), (125, "817e007e"), (65534, "817effff"),
                                            (65535, "817f0000000000010000")])
def test_a_frame_says_how_long_it_is(size: int, head: str) -> None:
    """A text frame is complete and unmasked; its length takes 1, 3 or 9 bytes."""
    frame = WEBSOCKET.message("x" * size)
    assert frame == bytes.fromhex(head) + b"4" + b"x" * size


def test_a_binary_frame_has_no_digit() -> None:
    """A binary message is a binary frame as it is."""
    assert WEBSOCKET.message(b"\x04\x01") == b"\x82\x02\x04\x01"


def test_a_packet_is_a_digit_and_data() -> None:
    """A text frame is one packet."""
    assert decode_packet("2probe") == Packet(PacketType.PING, "probe")
    for text in ("", "x", "9"):
        with pytest.raises(ProtocolError):
            decode_packet(text)


# -- Socket.IO, read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "packet"), [
    ("0", (Kind.CONNECT, "/", None, None)),
    ('0{"token":"1"}', (Kind.CONNECT, "/", None, {"token": "1"})),
    ("0/custom,", (Kind.CONNECT, "/custom", None, None)),
    ("0/custom", (Kind.CONNECT, "/custom", None, None)),
    ('0/custom?a=b,{"c":1}', (Kind.CONNECT, "/custom", None, {"c": 1})),
    ("1", (Kind.DISCONNECT, "/", None, None)),
    ("1/custom,", (Kind.DISCONNECT, "/custom", None, None)),
    ('2["news"]', (Kind.EVENT, "/", None, ["news"])),
    ('2[1,"a"]', (Kind.EVENT, "/", None, [1, "a"])),
    ('2/custom,12["news",{"a":[1,"€"]}]', (Kind.EVENT, "/custom", 12, ["news", {"a": [1, "€"]}])),
    ("30[]", (Kind.ACK, "/", 0, [])),
    ('3/custom,7["ok",null]', (Kind.ACK, "/custom", 7, ["ok", None])),
    ('50-["news"]', (Kind.EVENT, "/", None, ["news"])),
])
def test_a_packet_is_read(text: str, packet: tuple[Any, ...]) -> None:
    """Namespace, id and data are optional; the comma may be missing at the end, and a query is cut off."""
    assert read(text) == packet


def test_attachments_are_put_in_their_places() -> None:
    """A packet is complete with its last attachment; each may be used wherever its number stands."""
    text = '52-/custom,3["news",{"a":{"_placeholder":true,"num":1}},[{"_placeholder":true,"num":0}]]'
    assert read(text, b"first") is None
    assert read(text, b"first", b"second") == (Kind.EVENT, "/custom", 3, ["news", {"a": b"second"}, [b"first"]])
    assert read('61-4[{"_placeholder":true,"num":0}]', b"x") == (Kind.ACK, "/", 4, [b"x"])


REFUSED = [
    "", "4abc", '4{"message":"x"}', "7", "abc",  # no packet of a client
    "2", "2{}", "2abc[]", "2[]", '2[""', "2[{}]", "2[null]", "2[true]", '2["a",NaN]', '2["a"]x', "2-[]",
    *[json.dumps(["x"]).replace("x", name).join(("2", "")) for name in sorted(RESERVED_NAMES)],
    f'2["{"x" * (MAX_NAME + 1)}"]', '212345678901234567["a"]', '21-["a"]',
    '0"text"', "0[1]", "0null", "05", '1{"a":1}', "13", "1null",
    "3[]", "3", "3x[]", '31{"a":1}', "31",
    f'2/{"n" * MAX_NAME},["a"]', '5["a"]', '6["a"]',
    f'5{MAX_ATTACHMENTS + 1}-["a"]', '50-["a",{"_placeholder":true,"num":0}]',
    '2["a",' + "[" * 100_000,
    '50-["a",' + "[" * 100_000 + "]" * 100_000 + "]",
]


@pytest.mark.parametrize("text", REFUSED, ids=[text[:24] for text in REFUSED])
def test_a_packet_that_a_client_must_not_send_is_refused(text: str) -> None:
    """Unknown types, data that are not JSON or not of the right kind, reserved names and bad ids are errors."""
    with pytest.raises(ProtocolError):
        read(text)


@pytest.mark.parametrize("messages", [
    [b"x"],
    ['51-["a",{"_placeholder":true,"num":0}]', '2["b"]'],
    ['51-["a",{"_placeholder":true,"num":1}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":-1}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":true}]', b"x"],
    ['51-["a",{"_placeholder":true}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":0}]', b"x", b"y"],
    ['51-["a",{"_placeholder":true,"num":0}]', b"x" * 1000],
])
def test_attachments_out_of_order_are_refused(messages: list[str | bytes]) -> None:
    """An attachment without a packet, a packet without its attachments, a number that there is not, and too much."""
    with pytest.raises(ProtocolError):
        read(*messages)


# -- Socket.IO, written ------------------------------------------------------------------------------------------


def frames(blocks: bytes) -> list[str]:
    return body_of(blocks).decode().split("\x1e")


@pytest.mark.parametrize(("args", "text"), [
    ((), '42["news"]'), ((1,), '42["news",1]'), (([1, 2],), '42["news",[1,2]]'), ((None,), '42["news",null]'),
    (("a", {"b": "ü"}), '42["news","a",{"b":"ü"}]')])
def test_an_event_is_written_with_the_text_it_has(args: tuple[Any, ...], text: str) -> None:
    """Name and arguments are an array; the text of the arguments is used as it is."""
    assert frames(event_block(Event.create("news", args), 1, POLLING)) == [text]
    assert event_block(Event.create("news", args), 1, WEBSOCKET) == WEBSOCKET.packet(text)


def test_an_event_names_its_namespace_and_the_id_of_its_acknowledgement() -> None:
    """The id is the event's number, which fits a signed integer of 32 bits."""
    event = Event.create("news", (1,), Target.create("/custom"), ack="secret")
    assert frames(event_block(event, 5, POLLING)) == ['42/custom,5["news",1]']
    assert frames(event_block(event, ACK_IDS + 5, POLLING)) == ['42/custom,5["news",1]']


def test_bytes_become_attachments_in_order() -> None:
    """The packet says how many come; they follow at once. Keys that only look like our own form are left alone."""
    event = Event.create("news", ({"a": b"\x01", "b": [b"\x02"], "$binary": "x", "$$binary": 1},))
    head, *attachments = frames(event_block(event, 1, POLLING))
    assert head.startswith("452-[")
    assert attachments == ["bAQ==", "bAg=="]
    packet = read(head[1:], b"\x01", b"\x02")
    assert packet is not None
    assert packet.data == ["news", {"a": b"\x01", "b": [b"\x02"], "$binary": "x", "$$binary": 1}]
    assert event_block(event, 1, WEBSOCKET) == WEBSOCKET.packet(head) + b"\x82\x01\x01\x82\x01\x02"


def test_text_that_only_mentions_binary_has_no_attachments() -> None:
    """A caller's own key stays one."""
    assert frames(event_block(Event.create("news", ({"$binary": "x"},)), 1, POLLING)) == ['42["news",{"$binary":"x"}]']


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES), "hybrid_gap"])
def test_names_that_clients_refuse_are_not_sent(name: str) -> None:
    """A client would close the connection; events of our own protocol mean nothing to it."""
    assert event_block(Event(name, "1", 1), 1, POLLING) == b""


def test_acknowledgements_and_control_packets() -> None:
    """An acknowledgement has the client's id, and attachments as an event has; a refusal is an object."""
    assert frames(ack_block("/", 3, "[]", POLLING)) == ["433[]"]
    assert frames(ack_block("/custom", 0, '[{"$binary":"AQ=="},1]', POLLING)) == [
        '461-/custom,0[{"_placeholder":true,"num":0},1]', "bAQ=="]
    assert control_packet(Kind.CONNECT, "/", {"sid": "x"}) == '40{"sid":"x"}'
    assert control_packet(Kind.CONNECT_ERROR, "/custom", {"message": "no"}) == '44/custom,{"message":"no"}'
    assert control_packet(Kind.DISCONNECT, "/custom") == "41/custom,"
