"""Feed: one client's stream, byte by byte as the contract prints it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.hubs import client_of
from support.log_and_hub import EPOCH, TS, LogAndHub

from hakgal_hybrid.broker import reading as feed_module
from hakgal_hybrid.broker.blocks import envelope
from hakgal_hybrid.broker.entry import Gap
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.sse import Decoder, Message


@pytest.fixture
def house() -> LogAndHub:
    return LogAndHub()


def messages(data: bytes) -> list[Message]:
    return Decoder().feed(data)


def names(data: bytes) -> list[str]:
    return [message.event for message in messages(data)]


def block(number: int, name: str, data: str) -> bytes:
    return f"id: {EPOCH}-{number}\nevent: {name}\ndata: {data}\n\n".encode()


# -- opening ---------------------------------------------------------------------------------------------------

def test_stream_is_byte_for_byte_that_of_the_contract(house):
    """Reconnection time, hybrid_open, an event, a heartbeat: exactly as the contract prints them."""
    feed = house.open(opened=False)
    assert feed.opening().decode() == (
        "retry: 3000\n"
        f"id: {EPOCH}-0\nevent: hybrid_open\n"
        f'data: {{"sid":"{client_of(feed).sid}","token":"{client_of(feed).token}","profile":"HYBRID","heartbeat_s":15,'
        f'"oldest":"{EPOCH}-1","newest":"{EPOCH}-0","resumed":false}}\n\n')
    house.emit("kb_update", {"fact_count": 3776})
    assert feed.take() == block(1, "kb_update", '{"fact_count":3776}')
    assert feed.heartbeat() == block(1, "hybrid_heartbeat", "{}")


def opening(house: LogAndHub, last_event_id: str | None) -> list[Message]:
    return messages(house.open(opened=False, last_event_id=last_event_id).opening())


def test_first_open_carries_the_newest_id(house):
    """A new client continues from what is newest, even if it loses its connection before the next event."""
    house.emit("e")
    house.emit("e")
    (only,) = opening(house, None)
    assert (only.event, only.id) == ("hybrid_open", f"{EPOCH}-2")
    assert json.loads(only.data)["newest"] == f"{EPOCH}-2"


def test_resumed_open_carries_the_id_resumed_from(house):
    """A client that loses its connection again before the replay does not lose what it has not seen."""
    for _ in range(3):
        house.emit("e")
    (only,) = opening(house, f"{EPOCH}-1")
    assert (only.event, only.id) == ("hybrid_open", f"{EPOCH}-1")


def test_resumed_open_after_a_drop_carries_the_id_resumed_from():
    """If what follows the id was dropped, the id stays until the gap has been told."""
    house = LogAndHub(max_events=2)
    for _ in range(5):
        house.emit("e")
    feed = house.open(opened=False, last_event_id=f"{EPOCH}-1")
    (opened,) = messages(feed.opening())
    assert opened.id == f"{EPOCH}-1"
    gap, *events = messages(feed.take())
    assert (gap.event, gap.id) == ("hybrid_gap", f"{EPOCH}-3")
    assert json.loads(gap.data) == {"missed": 2, "reason": "evicted", "resume_from": f"{EPOCH}-3"}
    assert [event.id for event in events] == [f"{EPOCH}-4", f"{EPOCH}-5"]


@pytest.mark.parametrize(("asked", "open_id", "reason", "gap_number"), [
    ("12-3", "12-3", "restarted", 1),
    (f"{EPOCH}-99", f"{EPOCH}-99", "future", 3),
    ("nonsense", "", "malformed", 3),
    ("1-2\n", "", "malformed", 3),
    ("x" * 10_000, "", "malformed", 3),
])
def test_open_of_a_failed_resume(asked, open_id, reason, gap_number):
    """The id that was asked for is kept until the gap has been told; a malformed one is never repeated."""
    house = LogAndHub(max_events=2)
    for _ in range(3):
        house.emit("e")
    feed = house.open(opened=False, last_event_id=asked)
    opened, gap = messages(feed.opening())
    assert (opened.event, opened.id) == ("hybrid_open", open_id)
    resume_from = f"{EPOCH}-{gap_number}"
    assert (gap.event, gap.id) == ("hybrid_gap", resume_from)
    assert json.loads(gap.data) == {"missed": None, "reason": reason, "resume_from": resume_from}
    assert house.gaps == [(client_of(feed), Gap(gap_number, None, reason))]
    assert house.log.statistics().gaps == 1
    assert [message.id for message in messages(feed.take())] == [f"{EPOCH}-{n}" for n in range(gap_number + 1, 4)]


def test_resume_replays_only_what_everybody_got(house):
    """A plain resume is a new client: private events of the old one, and of rooms, are not replayed."""
    old = house.open()
    house.emit("before")
    house.emit("private", to=client_of(old).sid)
    house.hub.enter_room(client_of(old).sid, "room")
    house.emit("room", to="room")
    house.emit("public")
    assert names(old.take()) == ["before", "private", "room", "public"]
    new = house.open(last_event_id=f"{EPOCH}-1")
    assert client_of(new).sid != client_of(old).sid
    assert names(new.take()) == ["public"]


def test_resume_gets_what_is_older_than_the_age_limit(house):
    """The age limit is for open streams: a resume gets whatever is retained, and then the limit applies to it too."""
    house.emit("e")
    house.emit("e")
    house.now += 1000
    feed = house.open(last_event_id=f"{EPOCH}-0")
    assert names(feed.take()) == ["e", "e"]
    house.emit("e")
    house.now += 61
    house.emit("e")
    gap, event = messages(feed.take())
    assert json.loads(gap.data) == {"missed": 1, "reason": "slow", "resume_from": f"{EPOCH}-3"}
    assert event.id == f"{EPOCH}-4"


# -- the snapshot ----------------------------------------------------------------------------------------------

def test_snapshot_is_the_newest_of_each_name_without_ids(house):
    """snapshot=1 gives the newest event of each name first, in order, none of them with an id."""
    for name, number in (("a", 1), ("b", 2), ("a", 3), ("c", 4), ("c", 5)):
        house.emit(name, number)
    house.emit("a", "for others", to="room")
    feed = house.open(opened=False, snapshot="1")
    opened = feed.opening()
    head, _, snapshot = opened.partition(b'"resumed":false}\n\n')
    assert head
    assert snapshot == b"event: b\ndata: 2\n\nevent: a\ndata: 3\n\nevent: c\ndata: 5\n\n"
    assert feed.take() == b""
    house.emit("a", 7)
    assert feed.take() == block(7, "a", "7")


def test_snapshot_keeps_to_the_filter_and_namespace(house):
    """The snapshot shows what the stream would have shown."""
    house.emit("a", 1)
    house.emit("b", 2)
    house.emit("b", 3, namespace="/x")
    feed = house.open(opened=False, snapshot="1", events=("b*",))
    assert [(m.event, m.data) for m in messages(feed.opening())[1:]] == [("b", "2")]
    feed = house.open(opened=False, snapshot="1", namespace="/x")
    assert [(m.event, m.data) for m in messages(feed.opening())[1:]] == [("b", "3")]


def test_snapshot_is_not_repeated_on_a_clean_resume(house):
    """A client that comes back to the same URL gets what it has not seen, and no snapshot on top."""
    house.emit("a", 1)
    house.emit("a", 2)
    feed = house.open(opened=False, snapshot="1", last_event_id=f"{EPOCH}-1")
    assert names(feed.opening()) == ["hybrid_open"]
    assert feed.take() == block(2, "a", "2")


@pytest.mark.parametrize(("asked", "snapshot"), [("nonsense", ["a"]), (f"{EPOCH}-9", ["a"]), ("5-5", [])])
def test_snapshot_after_a_failed_resume(house, asked, snapshot):
    """After a gap the snapshot comes again, unless everything retained is about to be replayed anyway."""
    house.emit("a", 1)
    feed = house.open(opened=False, snapshot="1", last_event_id=asked)
    assert names(feed.opening()) == ["hybrid_open", "hybrid_gap", *snapshot]
    assert names(feed.take()) == ([] if snapshot else ["a"])


def test_event_between_admission_and_opening_is_given_once(house):
    """What is emitted after the feed was made but before its opening is written comes after it, once."""
    house.emit("a", 1)
    feed = house.open(opened=False, snapshot="1")
    house.emit("a", 2)
    house.emit("mine", to=client_of(feed).sid)
    assert [(m.event, m.data) for m in messages(feed.opening())][1:] == [("a", "1")]
    assert feed.behind
    assert names(feed.take()) == ["a", "mine"]
    assert not feed.behind


# -- envelopes -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("args", "args_back", "data"), [
    ((), [], None), ((None,), [None], None), (({"a": 1},), [{"a": 1}], {"a": 1}), (([1, 2],), [[1, 2]], [1, 2]),
    ((1, "zw\u00f6lf"), [1, "zw\u00f6lf"], [1, "zw\u00f6lf"]), ((b"\0",), [{"$binary": "AA=="}], {"$binary": "AA=="}),
])
@pytest.mark.parametrize("name", ["kb_update", "error", 'qu"ote\\', "\u00fcml\u00e4ut"])
def test_envelope_carries_everything(house, name, args, args_back, data):
    """An envelope is one unnamed message with the event's name, arguments, data, id, time and namespace."""
    feed = house.open(format=Format.ENVELOPE, namespace="/x")
    house.emit(name, *args, namespace="/x")
    (message,) = messages(feed.take())
    assert (message.event, message.id) == ("message", f"{EPOCH}-1")
    assert json.loads(message.data) == {"event": name, "args": args_back, "data": data, "id": f"{EPOCH}-1", "ts": TS,
                                        "namespace": "/x"}


def test_envelope_tells_what_was_conflated(house):
    """The survivor of a conflation says for how many it stands; an ordinary event says nothing of the kind."""
    feed = house.open(format=Format.ENVELOPE)
    for number in range(3):
        house.emit("load", number)
    house.emit("e")
    survivor, ordinary = (json.loads(message.data) for message in messages(feed.take()))
    assert (survivor["data"], survivor["conflated"]) == (2, 2)
    assert "conflated" not in ordinary


def test_control_events_come_in_envelopes_too(house):
    """A stream of envelopes has unnamed messages only: hybrid_open, hybrid_gap, the snapshot and hybrid_bye."""
    house.emit("a", 1)
    feed = house.open(opened=False, format=Format.ENVELOPE, snapshot="1", last_event_id="nonsense")
    told = messages(feed.opening() + feed.bye())
    assert {message.event for message in told} == {"message"}
    bodies = [json.loads(message.data) for message in told]
    assert [body["event"] for body in bodies] == ["hybrid_open", "hybrid_gap", "a", "hybrid_bye"]
    assert [body["id"] for body in bodies] == [None, f"{EPOCH}-1", None, None]
    assert bodies[0]["data"] == bodies[0]["args"][0]
    assert bodies[0]["data"]["sid"] == client_of(feed).sid
    assert bodies[1]["data"]["reason"] == "malformed"
    assert bodies[2]["ts"] == TS


def test_envelope_is_one_line_of_exact_text():
    """The text of an envelope, exactly: its arguments are spliced in as they are."""
    assert envelope(Event.create("e", ({"a": [1]},)), "1-2", 3) == (
        b'id: 1-2\ndata: {"event":"e","args":[{"a":[1]}],"data":{"a":[1]},"id":"1-2","ts":3,"namespace":"/"}\n\n')


# -- filters ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("events", "got"), [
    ((), ["kb_update", "kb_metrics", "gpu_update", "e"]), (("e",), ["e"]), (("kb_*",), ["kb_update", "kb_metrics"]),
    (("*_update", "e"), ["kb_update", "gpu_update", "e"]), (("*",), ["kb_update", "kb_metrics", "gpu_update", "e"]),
    (("none",), []), (("kb_?pdate",), []), (("[ke]*",), []),
])
def test_filter(house, events, got):
    """A stream gives only the events whose names match, by globs in which only * is special."""
    feed = house.open(events=events)
    for name in ("kb_update", "kb_metrics", "gpu_update", "e"):
        house.emit(name)
    assert names(feed.take()) == got


def test_filter_does_not_hide_control_events(house):
    """Our own events come whatever the filter says."""
    feed = house.open(opened=False, events=("e",), last_event_id="nonsense")
    assert names(feed.opening() + feed.bye()) == ["hybrid_open", "hybrid_gap", "hybrid_bye"]


def test_filtered_gap_is_of_unknown_size():
    """How many of the dropped events the filter would have let through is not known, and not guessed."""
    house = LogAndHub(max_events=2)
    feed = house.open(events=("a",))
    for name in "aaba":
        house.emit(name)
    gap, event = messages(feed.take())
    assert json.loads(gap.data) == {"missed": None, "reason": "evicted", "resume_from": f"{EPOCH}-2"}
    assert event.event == "a"
    assert house.gaps == [(client_of(feed), Gap(2, None, "evicted"))]


# -- taking ----------------------------------------------------------------------------------------------------

def test_take_without_news_is_empty(house):
    """Nothing new is no bytes at all."""
    feed = house.open()
    assert feed.take() == b""
    assert feed.take({}) == b""
    assert not feed.behind


def test_take_gives_a_large_backlog_in_pieces(house, monkeypatch):
    """One take is bounded; what is left over comes with the next ones, each event once."""
    monkeypatch.setattr(feed_module, "MAX_TAKE", 3 * len(block(1, "e", "1")))
    feed = house.open()
    for number in range(1, 9):
        house.emit("e", number)
    pieces = []
    while feed.behind:
        pieces.append(feed.take())
    assert [len(messages(piece)) for piece in pieces] == [3, 3, 2]
    assert b"".join(pieces) == b"".join(block(number, "e", str(number)) for number in range(1, 9))


def test_deliveries_are_counted(house):
    """What was written is counted by events and bytes, for every stream that got it, shared or not."""
    feeds = [house.open() for _ in range(3)]
    for _ in range(2):
        house.emit("e")
    shared: dict[Any, Any] = {}
    size = sum(len(feed.take(shared)) for feed in feeds)
    traffic = house.hub.deliveries.snapshot()
    assert (traffic.delivered, traffic.bytes) == (6, size)


def test_conflation_is_counted_for_every_stream(house):
    """What was left out is counted for every stream that it was left out for."""
    feeds = [house.open() for _ in range(3)]
    for _ in range(4):
        house.emit("load")
    shared: dict[Any, Any] = {}
    for feed in feeds:
        assert names(feed.take(shared)) == ["load"]
    assert house.log.statistics().conflated == 9


# -- heartbeats and farewell -----------------------------------------------------------------------------------

@pytest.mark.parametrize("target", [{}, {"to": "others"}, {"namespace": "/x"}])
def test_heartbeat_carries_the_newest_id(house, target):
    """Whether the last events were for this client or not, its heartbeat carries the newest id."""
    feed = house.open()
    assert feed.heartbeat() == block(0, "hybrid_heartbeat", "{}")
    house.emit("e")
    house.emit("e", **target)
    feed.take()
    assert feed.heartbeat() == feed.heartbeat() == block(2, "hybrid_heartbeat", "{}")


def test_heartbeat_of_a_filtered_stream(house):
    """The same holds for events that the filter left out."""
    feed = house.open(events=("a",))
    house.emit("b")
    assert feed.take() == b""
    assert feed.heartbeat() == block(1, "hybrid_heartbeat", "{}")


def test_heartbeat_in_an_envelope(house):
    """A stream of envelopes has heartbeats in envelopes, with the id in both places."""
    feed = house.open(format=Format.ENVELOPE)
    house.emit("e", to="others")
    feed.take()
    (message,) = messages(feed.heartbeat())
    body = json.loads(message.data)
    assert (message.event, body["event"], body["data"]) == ("message", "hybrid_heartbeat", {})
    assert message.id == body["id"] == f"{EPOCH}-1"


def test_heartbeat_never_runs_ahead(house):
    """The id of a heartbeat covers only what the stream has looked at."""
    feed = house.open()
    house.emit("e", to="others")
    assert feed.heartbeat() == block(0, "hybrid_heartbeat", "{}")
    feed.take()
    house.emit("e")
    assert feed.heartbeat() == block(1, "hybrid_heartbeat", "{}")
    assert names(feed.take()) == ["e"]


def test_heartbeat_of_a_replay_takes_no_id_back(house):
    """Before a stream has been given what it missed, its heartbeat has no id that could be older than the one asked."""
    house.emit("e")
    feed = house.open(last_event_id=f"{EPOCH}-0")
    assert feed.heartbeat() == b"event: hybrid_heartbeat\ndata: {}\n\n"
    feed.take()
    assert feed.heartbeat() == block(1, "hybrid_heartbeat", "{}")


def test_farewell_has_a_jittered_reconnection_time(house):
    """A farewell tells a real retry time and the same in hybrid_bye, different for every client, without an id."""
    feed = house.open()
    house.emit("e")
    feed.take()
    times = set()
    for _ in range(30):
        decoder = Decoder("before")
        (bye,) = decoder.feed(feed.bye())
        assert (bye.event, bye.id) == ("hybrid_bye", "before")
        assert json.loads(bye.data) == {"retry_ms": decoder.retry}
        assert decoder.retry is not None
        assert 1500 <= decoder.retry <= 4500
        times.add(decoder.retry)
    assert len(times) > 10


# -- sharing ---------------------------------------------------------------------------------------------------

def test_streams_at_the_same_place_share_their_bytes(house):
    """What is for everybody is put together once for all streams at the same place: the identical object."""
    first, second, third = (house.open() for _ in range(3))
    house.emit("e", 1)
    house.emit("e", 2)
    shared: dict[Any, Any] = {}
    data = first.take(shared)
    assert data == block(1, "e", "1") + block(2, "e", "2")
    assert second.take(shared) is data
    assert third.take(shared) is data
    assert [feed.cursor.position for feed in (first, second, third)] == [2, 2, 2]
    assert not any(feed.behind for feed in (first, second, third))


@pytest.mark.parametrize("wish", [*({"format": form} for form in Format), {"events": ("e*", "f")},
                                  {"events": ("e",), "format": Format.ENVELOPE}])
def test_streams_that_asked_for_the_same_share_their_bytes(house, wish):
    """Filters and formats are shared among streams that have the same."""
    first, second = house.open(**wish), house.open(**wish)
    house.emit("e", {"a": 1})
    shared: dict[Any, Any] = {}
    data = first.take(shared)
    assert data
    assert second.take(shared) is data


@pytest.mark.parametrize(("one", "other"), [
    ({}, {"format": Format.ENVELOPE}), ({}, {"format": Format.HTML}), ({}, {"format": Format.DATASTAR}),
    ({"format": Format.HTML}, {"format": Format.DATASTAR}), ({}, {"events": ("e",)}),
    ({"events": ("e",)}, {"events": ("*",)}),
    ({}, {"namespace": "/x"}),
])
def test_streams_that_asked_for_something_else_do_not_share(house, one, other):
    """Another format, filter or namespace is other bytes."""
    first, second = house.open(**one), house.open(**other)
    for name in ("e", "f"):
        house.emit(name)
        house.emit(name, namespace="/x")
    shared: dict[Any, Any] = {}
    apart = [first.take({}), second.take({})]
    first, second = (house.open(last_event_id=f"{EPOCH}-0", **wish) for wish in (one, other))
    assert [first.take(shared), second.take(shared)] == apart
    assert first.take(shared) == second.take(shared) == b""


@pytest.mark.parametrize(("target", "got_by"), [
    (lambda first: {"to": "room"}, (False, True)), (lambda first: {"to": client_of(first).sid}, (True, False)),
    (lambda first: {"skip": client_of(first).sid}, (False, True)), (lambda first: {"namespace": "/x"}, (False, False)),
], ids=["room", "sid", "skip", "namespace"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_streams_never_share_over_a_targeted_event(house, target, got_by, place):
    """As soon as an event in between is not for everybody, each stream reads for itself, and gets what is its own."""
    first, second = house.open(), house.open()
    house.hub.enter_room(client_of(second).sid, "room")
    for number in (1, 2, 3):
        house.emit("e", number, **(target(first) if number == place else {}))
    shared: dict[Any, Any] = {}
    taken = [feed.take(shared) for feed in (first, second)]
    assert taken[0] is not taken[1]
    for data, gets_it in zip(taken, got_by, strict=True):
        assert data == b"".join(block(number, "e", str(number)) for number in (1, 2, 3) if number != place or gets_it)


def test_targeted_event_that_comes_during_a_pass(house):
    """An event for one client that is emitted between two takes of a pass goes to that client only."""
    first, second, third = (house.open() for _ in range(3))
    house.emit("e")
    shared: dict[Any, Any] = {}
    assert names(first.take(shared)) == ["e"]
    house.emit("secret", to=client_of(first).sid)
    house.emit("secret", to=client_of(third).sid)
    assert names(second.take(shared)) == ["e"]
    assert names(third.take(shared)) == ["e", "secret"]
    assert names(first.take(shared)) == ["secret"]


def test_targeted_event_that_comes_while_a_stream_reads(house):
    """An event for one client that comes after the look and before the read is not lent to the others either."""
    first, second = house.open(), house.open()
    house.emit("e")

    def clock() -> float:
        """Have another thread emit just now: reading asks for the time first."""
        house.log.clock = lambda: house.now
        house.emit("secret", to=client_of(first).sid)
        return house.now

    house.log.clock = clock
    shared: dict[Any, Any] = {}
    assert names(first.take(shared)) == ["e", "secret"]
    assert names(second.take(shared)) == ["e"]


def test_streams_at_different_places_get_their_own(house):
    """A stream that is behind shares with others that are as far behind, and with nobody else."""
    early = [house.open(), house.open()]
    house.emit("e", 1)
    late = [house.open(), house.open()]
    house.emit("e", 2)
    shared: dict[Any, Any] = {}
    datas = [feed.take(shared) for feed in (*early, *late)]
    assert [len(messages(data)) for data in datas] == [2, 2, 1, 1]
    assert datas[0] is datas[1]
    assert datas[2] is datas[3]


def test_gap_is_told_to_every_stream_itself():
    """A gap is never shared: every stream that lost something is told, and its owner hears of it."""
    house = LogAndHub(max_events=1)
    feeds = [house.open() for _ in range(3)]
    house.emit("e")
    house.emit("e")
    shared: dict[Any, Any] = {}
    assert [names(feed.take(shared)) for feed in feeds] == [["hybrid_gap", "e"]] * 3
    assert house.gaps == [(client_of(feed), Gap(1, 1, "evicted")) for feed in feeds]
    assert house.log.statistics().gaps == 3


@pytest.mark.parametrize("resumed_first", [True, False])
def test_resuming_stream_does_not_lend_its_age(house, resumed_first):
    """A resume may have what is too old for an open stream at the same place, and neither gets the other's bytes."""
    slow = house.open()
    house.emit("e")
    house.now += 61
    resumed = house.open(last_event_id=f"{EPOCH}-0")
    assert slow.cursor.position == resumed.cursor.position
    expected = [(resumed, ["e"]), (slow, ["hybrid_gap"])]
    shared: dict[Any, Any] = {}
    for feed, told in expected if resumed_first else reversed(expected):
        assert names(feed.take(shared)) == told


def test_sharing_works_again_after_conflated_pieces(house, monkeypatch):
    """Streams whose left-out events wait for their survivor read for themselves, and share again afterwards."""
    monkeypatch.setattr(feed_module, "MAX_TAKE", 1)
    first, second = house.open(format=Format.ENVELOPE), house.open(format=Format.ENVELOPE)
    for name in ("load", "e", "load", "e"):
        house.emit(name)
    for expected in ("e", "load", "e"):
        shared: dict[Any, Any] = {}
        bodies = [json.loads(messages(feed.take(shared))[0].data) for feed in (first, second)]
        assert bodies[0] == bodies[1]
        assert bodies[0]["event"] == expected
        assert bodies[0].get("conflated", 0) == (expected == "load")
    house.emit("e")
    shared = {}
    assert first.take(shared) is second.take(shared)
