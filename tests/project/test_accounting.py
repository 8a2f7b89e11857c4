"""The checker itself: it finds every kind of fault, or a suite that uses it would prove nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.accounting import Account, Got, Manifest, Writer, account, blocks

from hakgal_hybrid.broker.blocks import encode_entry, envelope
from hakgal_hybrid.broker.event import Event, Target
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.sse import encode_event
from hakgal_hybrid.errors import EventError

EPOCH = 1755412806000


def manifest(*names: str) -> Manifest:
    """Return a manifest of events named so, numbered from 1; their payload is their number."""
    noted = Manifest(["load*"])
    noted.begin(EPOCH)
    for number, name in enumerate(names, 1):
        room = "room" if name[-1] == "!" else None
        noted.add(f"{EPOCH}-{number}", Event.create(name.rstrip("!"), (number,), Target.create(to=room)))
    return noted


def opened(number: int = 0, epoch: int = EPOCH) -> bytes:
    return encode_event("{}", event="hybrid_open", event_id=f"{epoch}-{number}")


def gap(upto: int, missed: int | None, reason: str = "evicted", epoch: int = EPOCH) -> bytes:
    event_id = f"{epoch}-{upto}"
    data = json.dumps({"missed": missed, "reason": reason, "resume_from": event_id})
    return encode_event(data, event="hybrid_gap", event_id=event_id)


def event(number: int, name: str = "e", data: int | None = None) -> bytes:
    return encode_entry(Event.create(name, (number if data is None else data,)), f"{EPOCH}-{number}")


def judged(noted: Manifest, *parts: bytes, **wish: Any) -> Account:
    return account(blocks(b"".join(parts), wish.pop("form", Format.JSON)), noted, **wish)


def test_what_is_complete_is_accepted():
    """Everything once and in order, snapshots and id-only blocks between, is right."""
    told = judged(manifest("e", "e", "r!", "e"), b"retry: 3000\n\n", opened(), event(1), b":\n", event(2),
                  encode_event("1", event="e"), encode_event(None, event_id=f"{EPOCH}-3"), event(4),
                  encode_event("{}", event="hybrid_bye"), upto=f"{EPOCH}-4")
    assert (told.delivered, told.missed, told.unknown, told.place) == (3, 0, 0, (0, 4))


def test_a_resumed_stream_goes_on():
    """Over two connections everything comes once."""
    assert judged(manifest("e", "e", "e"), opened(), event(1), opened(1), event(2), event(3)).delivered == 3


@pytest.mark.parametrize(("parts", "says"), [
    ([opened(), event(1), event(3)], "is missing"),
    ([opened(), event(1), event(2), event(2), event(3)], "comes again"),
    ([opened(), event(2), event(1), event(3)], "is missing"),
    ([opened(), event(1), event(2, data=7), event(3)], "is not what was emitted"),
    ([opened(), event(1), event(2, "f"), event(3)], "is not what was emitted"),
    ([opened(), event(1), event(2), event(3), event(4)], "was never emitted"),
    ([opened(), event(1), encode_event(None, event_id=f"{EPOCH}-3")], "is missing"),
    ([opened(), event(1), event(2)], "is missing"),
    ([opened(), event(1), opened(2), event(3)], "skips"),
    ([opened(), event(1), event(2), encode_event(None, event_id=f"{EPOCH}-1"), event(3)], "goes back"),
    ([opened(), gap(1, 2), event(2), event(3)], "stands for 1"),
    ([opened(), gap(2, 1), event(3)], "stands for 2"),
    ([opened(), gap(2, None), event(3)], "could have said 2"),
    ([opened(), event(1), event(2), event(3), gap(1, 1)], "goes back"),
    ([opened(), event(1), event(2), encode_event("7", event="e"), event(3)], "was never emitted"),
    ([event(1), event(2), event(3)], "before the stream was opened"),
    ([opened(), event(1), event(2), encode_entry(Event.create("e", (3,)), f"{EPOCH + 1}-3")], "nobody gave"),
])
def test_every_fault_is_found(parts, says):
    """What is missing, repeated, out of order, altered, invented or wrongly counted does not pass."""
    with pytest.raises(AssertionError, match=says):
        judged(manifest("e", "e", "e"), *parts, upto=f"{EPOCH}-3")


def test_a_gap_covers_what_is_missing():
    """An exact gap is counted; what it stands for is told, with its reason."""
    told = judged(manifest("e", "e", "e", "e"), opened(), event(1), gap(3, 2), event(4), upto=f"{EPOCH}-4")
    assert (told.delivered, told.missed) == (2, 2)
    assert [(sent.place[1], reason) for sent, reason in told.covered] == [(2, "evicted"), (3, "evicted")]


def test_a_gap_over_events_for_others_may_be_of_unknown_size():
    """For whom a dropped event was may be forgotten; that is no fault."""
    assert judged(manifest("e", "r!", "e", "e"), opened(), gap(3, None), event(4)).unknown == 1
    with pytest.raises(AssertionError, match="stands for 2 to 3"):
        judged(manifest("e", "r!", "e", "e"), opened(), gap(3, 1), event(4))


def test_conflation_explains_an_absence():
    """Of names that are conflated the newest may stand for others, of its own name only, and says for how many."""
    noted = manifest("load", "e", "load")
    assert judged(noted, opened(), event(2), event(3, "load"), upto=f"{EPOCH}-3").conflated == 1
    with pytest.raises(AssertionError, match="never came"):
        judged(manifest("load", "e", "load_b"), opened(), event(2), event(3, "load_b"), upto=f"{EPOCH}-3")
    for stands_for, right in ((1, True), (0, False), (2, False)):
        bodies = [opened(), envelope(Event.create("e", (2,)), f"{EPOCH}-2", 1),
                  envelope(Event.create("load", (3,)), f"{EPOCH}-3", 1, stands_for)]
        bodies[0] = envelope(Event("hybrid_open", "{}", 1), f"{EPOCH}-0", None)
        if right:
            assert judged(noted, *bodies, form=Format.ENVELOPE, upto=f"{EPOCH}-3").delivered == 2
        else:
            with pytest.raises(AssertionError, match="stands for 1"):
                judged(noted, *bodies, form=Format.ENVELOPE)


def test_filters_and_namespaces():
    """What a stream has not asked for is not missing, and must not come."""
    noted = manifest("e", "f", "e")
    assert judged(noted, opened(), event(1), event(3), events="e*", upto=f"{EPOCH}-3").delivered == 2
    with pytest.raises(AssertionError, match="was not for this client"):
        judged(noted, opened(), event(1), event(2, "f"), events="e*")
    assert judged(noted, opened(), namespace="/x", upto=f"{EPOCH}-3").delivered == 0


def test_lives_follow_each_other():
    """Ids of several lives are ordered by when the lives began, not by size; a gap may lie between them."""
    noted = manifest("e", "e")
    noted.begin(EPOCH - 5)
    noted.add(f"{EPOCH - 5}-2", Event.create("e", (1,)))
    later = encode_entry(Event.create("e", (1,)), f"{EPOCH - 5}-2")
    assert judged(noted, opened(), event(1), event(2), later, upto=f"{EPOCH - 5}-2").delivered == 3
    told = judged(noted, opened(), event(1), gap(1, None, "restarted", EPOCH - 5), later)
    assert [sent.place for sent, _ in told.covered] == [(0, 2)]
    with pytest.raises(AssertionError, match="is missing"):
        judged(noted, opened(), event(1), later)


def test_an_event_is_noted_before_anybody_sees_it(tmp_path: Path):
    """No reader sees an event without a note, and what was not appended is not noted."""
    path = tmp_path / "manifest"
    log = EventLog(epoch=EPOCH, clock=time.monotonic, wall_ms=lambda: 0, encode=encode_entry, max_events=10,
                   max_bytes=1000, max_event_bytes=100)
    seen: list[int] = []

    class Looking(Writer):
        def note(self, event: Event, event_id: str) -> None:
            super().note(event, event_id)
            seen.append(log.newest)

    Looking(str(path), EPOCH, []).follow(log)
    with pytest.raises(EventError):
        log.append(Event.create("e", ("x" * 100,)))
    with pytest.raises(ZeroDivisionError):
        log.append(Event.create("e", (0,)), lambda entry: 1 / 0)
    log.append(Event.create("e", (1,)))
    log.append(Event.create("e", (2,)))
    assert seen == [0, 1]
    noted = Manifest.read(path)
    assert [sent.id for sent in noted.sent] == [f"{EPOCH}-1", f"{EPOCH}-2"]
    assert judged(noted, opened(), event(1), event(2)).delivered == 2


def test_a_manifest_survives_on_disk(tmp_path: Path):
    """What a server wrote is read again; a line that was cut off by its end is left out."""
    path = tmp_path / "manifest"
    write = Writer(str(path), EPOCH, ["load*"])
    for number in (2, 1):
        write.note(Event.create("e", (number,)), f"{EPOCH}-{number}")
    path.write_bytes(path.read_bytes() + b'{"id": "1755')
    noted = Manifest.read(path)
    assert [sent.place for sent in noted.sent] == [(0, 1), (0, 2)]
    assert noted.conflates("load_a")
    assert judged(noted, opened(), event(1), event(2), upto=f"{EPOCH}-2").delivered == 2


def test_blocks_tell_an_id_of_their_own():
    """A block without an id has none, though a client would still remember the one before."""
    assert blocks(b"retry: 5\n\nid: 1-2\nevent: e\ndata: 1\n\n:\nid: 1-3\n\ndata: x\n\nid: 1-4\ndata: cut") == [
        Got(None, "", None, 0), Got("1-2", "e", "1", 2212294583), Got("1-3", "", None, 0),
        Got(None, "message", "x", 2363233923)]
