"""The journal: what was emitted outlives the process, and what did not is told."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from markupsafe import Markup
from support.accounting import Got, Manifest, account, blocks
from support.hubs import carried
from support.servers import SOON, Server, Stream, wait_until

from hakgal_hybrid import ConfigurationError, HybridTransport, signals
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.journal import JournalStatistics
from hakgal_hybrid.broker.markup import Html
from hakgal_hybrid.broker.sqlite import SQLiteStore
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamRequest

FLUSH_MS = 50
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be moved away on Windows")


class Epoch:
    """One life of a transport in this process. It ends well, or is cut off as if the process had been killed."""

    def __init__(self, path: Path | str, **settings: Any) -> None:
        options = {"journal_flush_ms": 5, "conflate": "load*", **settings}
        self.transport = HybridTransport(Flask(__name__), journal=str(path), **options)
        self.log, self.hub = self.transport.log, self.transport.hub
        assert self.transport.node.journal is not None
        self.transport.node.journal.retry_s = 0.05

    @property
    def told(self) -> JournalStatistics:
        return self.transport.statistics().journal

    def emit(self, *names: str, **target: Any) -> str:
        """Emit events; return the id of the last."""
        for number, name in enumerate(names):
            self.transport.emit(name, number, **target)
        return self.log.id_of(self.log.newest)

    def written(self) -> Epoch:
        """Wait until everything is in the file."""
        wait_until(lambda: self.told.waiting == 0 and self.told.state == "on", what="the journal to be written")
        return self

    def stop_writing(self) -> None:
        """From now on nothing reaches the file."""
        assert self.transport.node.journal is not None
        assert self.transport.node.journal.stop()

    def end(self) -> None:
        assert self.transport.node.journal is not None
        self.transport.node.journal.close()

    def resumed(self, last_event_id: str, **wish: Any) -> list[Got]:
        """Return what a client gets that comes back with an id."""
        namespace = wish.get("namespace", "/")
        session = self.hub.new_session({})
        self.hub.admit(session, {}, namespace)
        feed = carried(SubscriberStream(session, self.hub, self.transport.node.stream_options,
                                        StreamRequest(last_event_id=last_event_id, **wish)))
        data = feed.opening()
        while feed.behind:
            data += feed.take({})
        return [got for got in blocks(data, wish.get("format", Format.JSON)) if got.event]

    def names(self, last_event_id: str, **wish: Any) -> list[str]:
        """Return the names of what a client gets, without the opening, in which there is no news."""
        return [got.event for got in self.resumed(last_event_id, **wish)][1:]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def lives(path: Path) -> Iterator[Callable[..., Epoch]]:
    """Make lives on one file; what is still alive at the end is ended."""
    made: list[Epoch] = []

    def begin(**settings: Any) -> Epoch:
        made.append(Epoch(settings.pop("path", path), **settings))
        return made[-1]

    yield begin
    for life in made:
        life.end()


# -- from one life to the next -----------------------------------------------------------------------------------


def test_a_restart_loses_nothing(lives):
    """After a life that ended well a client goes on as if nothing had happened: same ids, same bytes, no gap."""
    first = lives()
    seen = first.emit("a")
    first.emit("b", "c")
    before = first.resumed(seen)[1:]
    first.end()
    second = lives()
    second.emit("d")
    after = second.resumed(seen)
    assert after[0].id == seen
    assert after[1:3] == before
    assert [got.event for got in after[1:]] == ["b", "c", "d"]
    assert after[3].id == second.log.id_of(second.log.newest)
    assert second.told.restored == 3


def test_ids_of_a_life_begin_with_its_epoch(lives):
    """The first part of an id is that of the life that gave it; the second part goes on counting."""
    first = lives()
    first.emit("a", "b")
    first.end()
    second = lives()
    status = second.transport.statistics()
    assert status.epoch != first.log.epoch
    assert status.oldest == f"{first.log.epoch}-1"
    assert status.newest.startswith(f"{status.epoch}-")
    assert status.log.appended == 0
    last = second.emit("c")
    assert last.startswith(f"{status.epoch}-")
    assert second.names(f"{status.epoch}-0") == ["c"]
    assert second.transport.statistics().log.appended == 1


def test_a_life_without_a_past_begins_as_ever(lives):
    """The first id of the very first life is number 1."""
    life = lives()
    assert life.log.id_of(life.log.newest) == f"{life.log.epoch}-0"
    assert life.emit("a") == f"{life.log.epoch}-1"


def test_two_lives_never_have_one_epoch(lives, monkeypatch):
    """A clock that stands still or goes back does not give two lives the same ids."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    first = lives()
    seen = first.emit("a")
    first.emit("b")
    first.end()
    monkeypatch.setattr(time, "time", lambda: now)
    second = lives()
    assert second.log.epoch == first.log.epoch + 1
    second.end()
    monkeypatch.setattr(time, "time", lambda: now - 1000)
    third = lives()
    third.emit("c")
    assert third.names(seen) == ["b", "c"]


def test_what_a_killed_life_did_not_write_is_a_gap(lives):
    """After a life that was cut off: what it wrote, then a gap of unknown size, then what is new."""
    first = lives()
    seen = first.emit("a")
    first.emit("b")
    first.written().stop_writing()
    first.emit("lost")
    second = lives()
    second.emit("c")
    told = second.resumed(seen)
    assert [got.event for got in told] == ["hybrid_open", "b", "hybrid_gap", "c"]
    assert told[2].data == {"missed": None, "reason": "restarted", "resume_from": told[2].id}
    assert told[2].id.startswith(f"{second.log.epoch}-")
    assert second.log.statistics().gaps == 1


def test_a_client_that_has_more_than_the_file(lives):
    """Whoever has received what was never written gets nothing twice, is told of the gap, and goes on."""
    first = lives()
    first.emit("a", "b")
    first.written().stop_writing()
    ahead = first.emit("unwritten", "unwritten too")
    second = lives()
    second.emit("c")
    assert second.names(ahead) == ["hybrid_gap", "c"]


def test_the_gap_is_told_once(lives):
    """Its id is a place to resume from: whoever has been told is not told again, in this life or a later one."""
    first = lives()
    seen = first.emit("a")
    first.written().stop_writing()
    second = lives()
    gap = second.resumed(seen)[-1]
    second.emit("b")
    assert second.names(gap.id) == ["b"]
    second.end()
    third = lives()
    third.emit("c")
    assert third.names(gap.id) == ["b", "c"]
    assert third.names(seen) == ["hybrid_gap", "b", "c"]


def test_several_lives(lives):
    """Every place where something was lost stays known, between what was before and after it."""
    first = lives()
    seen = first.emit("before")
    first.written().stop_writing()
    for number in range(3):
        life = lives()
        life.emit(f"e{number}")
        life.written()
        (life.stop_writing if number != 1 else life.end)()
    last = lives()
    last.emit("now")
    assert last.names(seen) == ["hybrid_gap", "e0", "hybrid_gap", "e1", "e2", "hybrid_gap", "now"]


def test_a_life_that_wrote_nothing_leaves_a_gap(lives):
    """Even if nothing of a killed life is in the file but that it began, its clients are told."""
    first = lives()
    first.stop_writing()
    seen = first.emit("lost")
    second = lives()
    second.emit("a")
    assert second.names(seen) == ["hybrid_gap", "a"]


def test_an_unknown_life_is_told_restarted(lives):
    """An id of a life that is not in the file gets a gap, and nothing that it may have seen already."""
    first = lives()
    first.emit("a")
    first.end()
    second = lives()
    second.emit("b")
    for unknown in ("5-1", f"{first.log.epoch}-99", f"{second.log.epoch + 5}-1"):
        told = second.resumed(unknown)
        assert [got.event for got in told[1:]] == ["hybrid_gap", "b"]
        assert told[1].data["reason"] == "restarted"
        assert told[1].data["missed"] is None


def test_what_is_private_ends_with_the_process(lives, path):
    """Events for rooms and single clients are not kept; their numbers are, as places to resume from."""
    first = lives()
    first.emit("a")
    private = first.emit("secret", to="room")
    first.emit("b")
    first.transport.emit("c", skip_sid="somebody")
    first.end()
    second = lives()
    assert second.names(f"{first.log.epoch}-0") == ["a", "b", "c"]
    assert second.names(private) == ["b", "c"]
    assert b"secret" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_namespaces_and_filters(lives):
    """A client gets what is of its namespace and passes its filter, from before as from now; gaps it gets always."""
    first = lives()
    start = f"{first.log.epoch}-0"
    first.emit("a", "b")
    first.emit("x", "y", namespace="/x")
    first.written().stop_writing()
    second = lives()
    second.emit("a")
    second.emit("x", namespace="/x")
    assert second.names(start, namespace="/x") == ["x", "y", "hybrid_gap", "x"]
    assert second.names(start, events=("b",)) == ["b", "hybrid_gap"]
    assert second.names(start, namespace="/unheard-of") == ["hybrid_gap"]


def test_conflation_over_a_restart(lives):
    """Of a conflated name the newest stands for those before it, of whatever life."""
    first = lives()
    start = f"{first.log.epoch}-0"
    first.emit("load", "a", "load")
    first.end()
    second = lives()
    second.emit("load")
    told = second.resumed(start, format=Format.ENVELOPE)
    assert [(got.event, got.conflated) for got in told[1:]] == [("a", 0), ("load", 2)]


def test_conflating_everything_does_not_conflate_gaps(lives):
    """With every name conflated there is still a gap in each place where something was lost."""
    seen = None
    for _ in range(3):
        life = lives(conflate="*")
        seen = seen or f"{life.log.epoch}-0"
        life.emit("a")
        life.written().stop_writing()
    assert lives(conflate="*").names(seen) == ["hybrid_gap", "hybrid_gap", "a", "hybrid_gap"]


def test_html_stays_html(lives):
    """HTML of an earlier life is HTML in each format, and goes where it went; text stays text."""
    first = lives()
    start = f"{first.log.epoch}-0"
    payloads = [Html("<b>\n1", selector="#a", mode="append"), Markup("<i>"), "<u>"]
    for payload in payloads:
        first.transport.emit("row", payload)
    blocks = {form: [first.log.blocks.block(entry, form) for entry in first.log.since(0)[1]] for form in Format}
    first.end()
    second = lives()
    assert second.names(start) == ["row", "row", "row"]
    for form, made in blocks.items():
        assert [second.log.blocks.block(second.log.entry(number), form) for number in (1, 2, 3)] == made
    assert b"data: selector #a\ndata: mode append\n" in blocks[Format.DATASTAR][0]
    assert [b"patch-elements" in block for block in blocks[Format.DATASTAR]] == [True, True, False]


def test_envelopes_keep_their_time(lives):
    """In an envelope an event of an earlier life has the id and the time that it had, and the gap looks as ever."""
    first = lives()
    start = first.emit("a")
    first.transport.emit("b", 1, b"\0", {"x": [1.5, None]})
    first.written().stop_writing()
    entry = first.log.entry(2)
    second = lives()
    session = second.hub.new_session({})
    second.hub.admit(session, {}, "/")
    feed = carried(SubscriberStream(session, second.hub, second.transport.node.stream_options,
                                    StreamRequest(last_event_id=start,
                                                                                               format=Format.ENVELOPE)))
    feed.opening()
    bodies = [json.loads(block.partition(b"data: ")[2]) for block in feed.take().split(b"\n\n")[:-1]]
    assert bodies[0] == {"event": "b", "args": [1, {"$binary": "AA=="}, {"x": [1.5, None]}],
                         "data": [1, {"$binary": "AA=="}, {"x": [1.5, None]}], "id": f"{first.log.epoch}-2",
                         "ts": entry.ts, "namespace": "/"}
    assert (bodies[1]["event"], bodies[1]["namespace"], bodies[1]["ts"]) == ("hybrid_gap", "/", None)
    assert bodies[1]["data"]["reason"] == "restarted"


def test_snapshot_shows_what_earlier_lives_left(lives):
    """A snapshot has the newest of each name, of whatever life, and no gap among them."""
    first = lives()
    first.emit("a", "b", "a")
    first.written().stop_writing()
    second = lives()
    second.emit("b")
    session = second.hub.new_session({})
    second.hub.admit(session, {}, "/")
    feed = carried(SubscriberStream(session, second.hub, second.transport.node.stream_options,
                                    StreamRequest(snapshot="1")))
    assert [got.event for got in blocks(feed.opening()) if got.event] == ["hybrid_open", "a", "b"]


def test_a_gap_that_was_dropped_makes_the_count_unknown(lives):
    """When the log has dropped the place where something was lost, nobody can say any more how much is missing."""
    first = lives()
    seen = first.emit("a")
    first.emit("b")
    first.written().stop_writing()
    second = lives(log_events=4)
    second.emit("c", "d", "e", "f")
    told = second.resumed(seen)
    assert told[1].data == {"missed": None, "reason": "evicted", "resume_from": told[1].id}
    assert [got.event for got in told[2:]] == ["c", "d", "e", "f"]


def test_what_is_too_much_for_the_log_is_an_exact_gap(lives):
    """Of a past that was complete, the log counts what it drops as ever."""
    first = lives()
    seen = first.emit("a")
    first.emit(*"bcde")
    first.end()
    second = lives(log_events=5)  # with the place where the second life begins
    second.emit("f", "g")
    told = second.resumed(seen)
    assert told[1].data == {"missed": 2, "reason": "evicted", "resume_from": told[1].id}
    assert [got.event for got in told[2:]] == ["d", "e", "f", "g"]


def test_what_was_never_read_back_is_a_gap(lives):
    """Of a file that holds more than the log, the newest are read; an older id is told so."""
    first = lives()
    seen = first.emit("a")
    first.emit(*"bcdefgh")
    first.end()
    second = lives(log_events=4)
    assert second.told.restored == 4
    told = second.resumed(seen)
    assert told[1].data["missed"] is None
    assert told[1].data["reason"] == "evicted"
    assert [got.event for got in told[2:]] == ["f", "g", "h"]


def test_an_event_that_is_too_large_now(lives):
    """If the limit is lower than it was, what exceeds it becomes a gap."""
    first = lives()
    start = f"{first.log.epoch}-0"
    first.emit("a")
    first.transport.emit("big", "x" * 2000)
    first.emit("b")
    first.end()
    assert lives(max_event_bytes=500).names(start) == ["a", "hybrid_gap", "b"]


# -- bounds ------------------------------------------------------------------------------------------------------


def test_what_is_too_old_is_deleted(lives, path, monkeypatch):
    """Events older than HYBRID_JOURNAL_MAX_AGE_S are gone at the next start; a client of then is told."""
    real, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    first = lives(journal_max_age_s=100)
    seen = first.emit("a")
    first.emit("b")
    first.written()
    ahead = 99.0
    between = first.emit("c")
    first.end()
    ahead = 150.0
    second = lives(journal_max_age_s=100)
    assert second.told.restored == 1
    assert second.names(seen) == ["hybrid_gap", "c"]
    assert second.resumed(seen)[1].data["reason"] == "evicted"
    assert second.names(between) == []


def test_the_file_stays_small(lives, path):
    """It is kept under HYBRID_JOURNAL_MAX_BYTES by deleting the oldest, and gives the space back."""
    limit = 1 << 18
    life = lives(journal_max_bytes=limit, log_bytes=1 << 24, journal_flush_ms=1)
    start = f"{life.log.epoch}-0"
    for number in range(3000):
        life.transport.emit("e", {"n": number, "padding": "x" * 1000})
        if number % 100 == 0:
            life.written()
    life.written()
    wait_until(lambda: life.told.bytes <= limit, what="the file to be trimmed")
    life.end()
    assert path.stat().st_size <= limit
    second = lives()
    told = second.resumed(start)
    assert told[1].event == "hybrid_gap"
    numbers = [json.loads(got.data)["n"] for got in told[2:]]
    assert numbers == list(range(numbers[0], 3000))
    assert 100 < len(numbers) < 300


def test_what_the_log_dropped_before_it_was_written(lives, path, monkeypatch):
    """Events that came faster than they could be written are counted, and are a gap after a restart."""
    life = lives(log_events=10)
    start = f"{life.log.epoch}-0"
    life.emit("a")
    life.written()
    with Failing(monkeypatch):
        life.emit(*["lost"] * 5, *["kept"] * 10)
        wait_until(lambda: life.told.state == "degraded")
    life.written()
    assert life.told.lost == 5
    life.end()
    second = lives()
    told = second.resumed(start)
    assert [got.event for got in told[1:]] == ["a", "hybrid_gap", *["kept"] * 10]
    assert told[2].data["reason"] == "restarted"


# -- what can be wrong with the file -------------------------------------------------------------------------------


class Failing:
    """Have every write fail, as a full disk has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def __enter__(self) -> None:
        def full(*_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        self._context = self._patch.context()
        self._context.__enter__().setattr(SQLiteStore, "write", full)

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


class Degradations:
    """What was signalled for one app."""

    def __init__(self, app: Flask) -> None:
        self.reasons: list[str] = []
        self._take = lambda sender, reason: self.reasons.append(reason)
        signals.transport_degraded.connect(self._take, sender=app)


def hold(path: Path) -> sqlite3.Connection:
    """Lock a database as another process would."""
    other = sqlite3.connect(path, isolation_level=None, timeout=10)
    other.execute("BEGIN EXCLUSIVE")
    return other


def broken(kind: str, path: Path) -> Callable[[], None]:
    """Make the journal's file unusable; return what mends it."""
    if kind == "garbage":
        path.write_bytes(b"this is no database, whatever it is " * 100)
        return path.unlink
    if kind == "no directory":
        return path.parent.mkdir
    other = hold(path)
    return other.close


@pytest.mark.parametrize("kind", ["garbage", "no directory", "locked"])
def test_a_file_that_cannot_be_used(kind, tmp_path, lives, caplog):
    """The transport starts, emits and streams as ever, and says what is wrong; once it is mended, events are kept."""
    path = tmp_path / "sub" / "journal.sqlite3"
    if kind != "no directory":
        path.parent.mkdir()
    mend = broken(kind, path)
    with caplog.at_level(logging.WARNING, "hakgal_hybrid.broker.journal"):
        life = lives(path=path)
    assert "cannot be written" in caplog.text
    told = life.told
    assert told.state == "degraded"
    assert {"garbage": "not a database", "no directory": "No such file", "locked": "locked"}[kind] in told.reason
    start = f"{life.log.epoch}-0"
    life.emit("a", "b")
    assert life.names(start) == ["a", "b"]
    mend()
    life.written()
    assert life.told.reason is None
    wait_until(lambda: "keeps events again" in caplog.text)  # is said right after it is so
    life.end()
    assert lives(path=path).names(start) == ["a", "b"]


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody who may write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@posix_only
def test_a_file_that_may_not_be_written(lives):
    """A read-only file is of no use, which is told; once it may be written, what is new is kept with what was there."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "journal.sqlite3"
    try:
        first = lives(path=path)
        seen = first.emit("a")
        first.emit("b")
        first.end()
        folder.chmod(0o555)
        path.chmod(0o444)
        with unprivileged():
            second = lives(path=path)
            second.emit("c")
            wait_until(lambda: second.told.waiting == 1)
        assert second.told.state == "degraded"
        assert second.told.reason == "PermissionError: Permission denied"
        assert second.names(seen) == ["hybrid_gap", "c"]
        folder.chmod(0o755)
        path.chmod(0o644)
        second.written().end()
        assert lives(path=path).names(seen) == ["b", "c"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)


def test_trouble_is_signalled_once(lives, monkeypatch, caplog):
    """When events cannot be kept any more, transport_degraded says so; so does the log, not with every try."""
    life = lives()
    heard = Degradations(life.transport.app)
    with Failing(monkeypatch), caplog.at_level(logging.WARNING, "hakgal_hybrid.broker.journal"):
        life.emit("a")
        wait_until(lambda: heard.reasons, what="the signal")
        tries = len(caplog.records)
        life.emit("b")
        assert life.told.state == "degraded"
        assert "disk is full" in life.told.reason
    life.written()
    assert heard.reasons == ["journal_degraded"]
    assert tries == 1
    assert [record.message for record in caplog.records][1:] == ["the journal keeps events again"]


@posix_only
def test_a_file_that_vanishes(lives, path):
    """If somebody deletes the file, another one is begun; what was in the deleted one is a gap."""
    life = lives()
    start = f"{life.log.epoch}-0"
    life.emit("a")
    life.written()
    for file in path.parent.iterdir():
        file.unlink()
    life.emit("b")
    life.written()
    life.end()
    assert path.exists()
    assert lives().names(start) == ["hybrid_gap", "b"]


def test_a_torn_page(lives, path):
    """A file that is damaged inside costs what is in it, not the start."""
    first = lives()
    seen = first.emit("a")
    for number in range(500):
        first.transport.emit("e", "x" * 200 + str(number))
    first.end()
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page:page + 200] = os.urandom(200)
    path.write_bytes(content)
    second = lives()
    assert second.told.state == "degraded"
    second.emit("b")
    assert second.names(seen) == ["hybrid_gap", "b"]


def test_rows_that_cannot_be_events(lives, path):
    """What stands in the file and cannot have been written by us is a gap, not an answer that breaks streams."""
    first = lives()
    start = f"{first.log.epoch}-0"
    first.emit(*"abcde")
    first.end()
    with sqlite3.connect(path) as other:
        for number, column, value in ((1, "name", "two\r\nlines"), (2, "data", "{"), (3, "data", None),
                                      (4, "namespace", 7)):
            other.execute(f"UPDATE events SET {column} = ? WHERE place = ?", (value, (1 << 40) + number))
    other.close()
    assert lives().names(start) == [*["hybrid_gap"] * 4, "e"]


def test_somebody_elses_database_is_refused(lives, path):
    """A path to another program's database is a mistake in the settings, and nothing is written there."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE facts (statement TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"HYBRID_JOURNAL=.* another program's"):
        lives()
    assert path.read_bytes() == before


def test_a_directory_is_refused(lives, tmp_path):
    """So is a directory."""
    with pytest.raises(ConfigurationError, match="not a directory"):
        lives(path=tmp_path)


@pytest.mark.parametrize("below", ["x.sqlite3", "sub/x.sqlite3"])
def test_a_path_below_a_file_is_refused(lives, tmp_path, below):
    """A path that leads through a file can never work: an error at the start, not a journal that is degraded."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"HYBRID_JOURNAL=.*file is none"):
        lives(path=tmp_path / "file" / below)


def test_a_device_is_refused(lives):
    """Nor is a device a journal."""
    with pytest.raises(ConfigurationError, match=r"HYBRID_JOURNAL=.*"):
        lives(path=Path(os.devnull))


def test_two_processes_do_not_write_one_file(lives, path):
    """Who comes second is told so and keeps nothing, until the first one is gone."""
    first = lives()
    first.emit("a")
    first.written()
    second = lives()
    assert second.told.state == "degraded"
    assert "locked" in second.told.reason
    seen = second.emit("b")
    first.emit("c")
    first.written().end()
    second.written()
    second.emit("d")
    second.end()
    assert lives().names(seen) == ["d"]


def test_off_unless_asked_for(tmp_path):
    """Without the setting there is no journal; in profile WEBSOCKET neither."""
    transport = HybridTransport(Flask(__name__))
    assert transport.node.journal is None
    assert transport.statistics().journal == JournalStatistics()
    assert HybridTransport(Flask(__name__), journal=str(tmp_path / "j"), profile="WEBSOCKET").node.journal is None
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_emits_nothing_does_not_hold_the_file(lives):
    """A reloader's parent, or gunicorn's master, makes the app too; the process that serves it must get the file."""
    parent = lives()
    child = lives()
    child.emit("a")
    child.written()
    assert (parent.told.state, child.told.state) == ("on", "on")


def waits_for_news(life: Epoch) -> bool:
    """True if the journal's thread waits for the next event, without a limit in time."""
    thread = life.transport.node.journal._thread
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == "wait" and frame.f_locals.get("timeout", 0) is None


def test_an_idle_journal_sleeps(lives):
    """With nothing to write its thread waits for the next event, and for nothing else."""
    life = lives()
    for _ in range(20):
        life.emit("a")
        life.written()
        wait_until(lambda: waits_for_news(life), what="the thread to sleep")


def test_emitting_never_waits_for_the_file(lives, path):
    """While the file is locked, emits and streams go on; the log bounds what waits."""
    life = lives(log_events=100)
    life.emit("a")
    life.written().stop_writing()
    second = lives(log_events=100)
    with HeldElsewhere(path):
        emitted = threading.Thread(target=lambda: second.emit(*["e"] * 1000))
        emitted.start()
        emitted.join(SOON)
        assert not emitted.is_alive()
        assert second.transport.statistics().log.events == 100


class HeldElsewhere:
    """Have another process hold the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        code = ("import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10); "
                "db.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()")
        self._process = subprocess.Popen([sys.executable, "-c", code, str(self._path)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == b"held"

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def test_what_is_emitted_after_the_end_is_kept(lives):
    """Somebody's exit handler may emit after ours has run: that is written at once."""
    first = lives()
    seen = first.emit("a")
    first.end()
    first.emit("b")
    first.emit("c")
    second = lives()
    assert second.names(seen) == ["b", "c"]


# -- processes that are killed -----------------------------------------------------------------------------------


class Follower:
    """A client that comes back whenever its stream ends, until it has seen ``end``."""

    def __init__(self, port: int, query: str = "") -> None:
        self.port, self.query = port, query
        self.got: list[Got] = []
        self.last = ""
        self.connections = 0
        self.error: BaseException | None = None
        self._away = threading.Event()
        self._back = threading.Event()
        self._back.set()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            while not any(got.event == "end" for got in self.got):
                self._back.wait(60)
                self._read_once()
        except BaseException as error:  # shown by the test
            self.error = error

    def _read_once(self) -> None:
        try:
            stream = Stream(self.port, self.query, {"Last-Event-ID": self.last} if self.last else {})
        except (OSError, ConnectionError):
            self._away.wait(0.02)
            return
        with stream:
            self.connections += 1
            while not stream.ended and not stream.named("end") and not self._envelope_end(stream):
                stream.take(stream._read(0.1))
                if not self._back.is_set():
                    break
            self.got += stream.got()
            self.last = stream.id or self.last

    @staticmethod
    def _envelope_end(stream: Stream) -> bool:
        return any('"event":"end"' in message.data for message in stream.named("message"))

    def wait_for_connection(self, number: int) -> None:
        """Wait until it has had so many streams."""
        wait_until(lambda: self.connections >= number, 30, f"stream {number}")

    def leave(self) -> None:
        """Hang up, and stay away."""
        self._back.clear()

    def come_back(self) -> None:
        self._back.set()

    def finish(self) -> list[Got]:
        """Wait until it has seen the end."""
        self._thread.join(60)
        if self.error is not None:
            raise self.error
        assert not self._thread.is_alive(), f"at {self.last} after {self.connections} connections"
        return self.got


class Load:
    """Has a server emit all kinds of events, from several threads, until told to stop."""

    def __init__(self, server: Server) -> None:
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._emit, args=(number,), daemon=True) for number in range(3)]
        for thread in self._threads:
            thread.start()

    def _emit(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            wish = chance.choice([{"event": "fact_added", "n": 20}, {"event": "kb_update", "n": 3},
                                  {"event": "fact_added", "to": "room"}, {"event": "hrm", "namespace": "/x", "n": 5}])
            try:
                self._server.ask("POST", "/emit", wish)
            except (OSError, ConnectionError):
                return  # it was killed

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(SOON)


def served(path: Path, *options: str, **settings: Any) -> Server:
    """Start a server with a journal, and one manifest for all of its lives."""
    return Server("ours", *options, HYBRID_JOURNAL=path, HYBRID_JOURNAL_FLUSH_MS=FLUSH_MS, HYBRID_HEARTBEAT_S=0.2,
                  HYBRID_LOG_EVENTS=100_000, SUPPORT_MANIFEST=path.with_suffix(".manifest"), **settings)


#: Events older than the flush interval when the server is killed must be there. A machine that is busy with other
#: things runs a thread so much later than it should (seconds).
LATE_S = 1.5


def test_killed_at_random_moments(path: Path) -> None:
    """Killed under load again and again: no client gets anything twice, misses an old event, or is not told of a loss.

    Some clients stay, one filters, one is of another namespace, one gets envelopes, one is away for a whole life.
    """
    chance = random.Random(20250817)
    server = served(path)
    port = server.port
    queries = ("", "", "events=fact_added,end", "namespace=/x", "envelope=1", "")
    followers = [Follower(port, query) for query in queries]
    killed: dict[int, float] = {}
    try:
        for life in range(4):
            for item in followers[:5]:
                item.wait_for_connection(life + 1)
            load = Load(server)
            time.sleep(chance.uniform(0.3, 2.0))
            if life == 1:
                followers[5].leave()
            if life == 3:
                followers[5].come_back()
            epoch = server.status()["epoch"]
            killed[epoch] = time.monotonic()
            server.process.kill()
            load.stop()
            server.stop()
            server = served(path, "--port", str(port))
        server.emit("end", namespace="/x")
        end = server.emit("end")
        received = [item.finish() for item in followers]
        told = server.status()["journal"]
        assert (told["state"], told["reason"]) == ("on", None)
        manifest = Manifest.read(path.with_suffix(".manifest"))
    finally:
        server.stop()
    assert len(manifest.sent) > 100
    ages = []
    for query, got in zip(queries, received, strict=True):
        wish = dict(pair.split("=") for pair in query.split("&") if pair)
        outcome = account(got, manifest, namespace=wish.get("namespace", "/"), events=wish.get("events", ""),
                          upto=end if "namespace" not in wish else None)
        assert outcome.delivered > 10
        for sent, reason in outcome.covered:
            assert reason == "restarted", (sent, reason)
            epoch = int(sent.id.partition("-")[0])
            ages.append(killed[epoch] - sent.at)
    oldest = max(ages, default=0.0)
    print(f"{len(manifest.sent)} events, {len(killed)} kills; of those lost the oldest was {oldest:.3f} s old")
    assert oldest < FLUSH_MS / 1000 + LATE_S


def test_killed_with_everything_written(path: Path) -> None:
    """What the status says is written is there after a kill, to the last event."""
    with served(path) as server:
        with server.opened() as stream:
            server.emit("fact_added", 50)
            stream.wait_for("fact_added", 10)
            seen = stream.named("fact_added")[9].id
        wait_until(lambda: server.status()["journal"]["waiting"] == 0, what="the journal to be written")
        server.process.kill()
        server.ended()
        with served(path) as again:
            assert again.status()["journal"]["restored"] == 50
            with again.opened(headers={"Last-Event-ID": seen}) as stream:
                again.emit("fact_added", first=50)
                stream.read_until(lambda stream: stream.messages[-1].data == '{"i":50}')
                names = [message.event for message in stream.messages]
                assert names == ["hybrid_open", *["fact_added"] * 40, "hybrid_gap", "fact_added"]
                assert [data["i"] for data in stream.payloads("fact_added")] == list(range(10, 51))
                assert stream.payloads("hybrid_gap")[0]["reason"] == "restarted"


def test_stopped_and_started_again(path: Path) -> None:
    """A server that is stopped loses nothing, though it may not have had the time to write: no gap."""
    with served(path) as server:
        with server.opened() as stream:
            seen = stream.id
        server.emit("fact_added", 500)
        server.process.terminate()
        server.ended()
        with served(path) as again, again.opened(headers={"Last-Event-ID": seen}) as stream:
            again.emit("end")
            stream.wait_for("end")
            assert [data["i"] for data in stream.payloads("fact_added")] == list(range(500))
            assert not stream.named("hybrid_gap")


@pytest.mark.skipif(sys.platform == "win32", reason="there, files have no size limit that a process could be given")
def test_a_disk_that_is_full(path: Path) -> None:
    """When the file cannot grow any more, the server goes on serving and says so; after a restart there is a gap."""
    with served(path, SUPPORT_FILE_LIMIT=300_000) as server, server.opened() as stream:
        server.emit("fact_added", 300, size=5000)
        stream.wait_for("fact_added", 300)
        told = wait_until(lambda: [told for told in [server.status()["journal"]] if told["state"] == "degraded"],
                          what="the trouble to be told")[0]
        assert told["reason"]
        server.emit("fact_added", 10)
        stream.wait_for("fact_added", 310)
        assert server.ask("GET", "/health").status == 200
        seen = stream.messages[1].id
        server.process.kill()
        server.ended()
        with served(path) as again, again.opened(headers={"Last-Event-ID": seen}) as back:
            again.emit("end")
            back.wait_for("end")
            numbers = [data["i"] for data in back.payloads("fact_added")]
            assert numbers == list(range(1, len(numbers) + 1))
            assert [message.event for message in back.messages[-2:]] == ["hybrid_gap", "end"]
