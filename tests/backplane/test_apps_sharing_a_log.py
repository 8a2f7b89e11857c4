"""Streams of apps that have one log: any of them serves any id, and says what is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.redis_server import RedisServer
from support.shared_apps import App, until

from hakgal_hybrid import ConfigurationError, EventError, HybridTransport, signals


@pytest.fixture
def apps(redis_server: RedisServer) -> Iterator[tuple[App, App]]:
    pair = App(redis_server), App(redis_server)
    yield pair
    for app in pair:
        app.stop()


def test_event_of_one_app_reaches_clients_of_both(apps: tuple[App, App]) -> None:
    """An event comes to the clients of every process, with the same id and in the same order."""
    with apps[0].open() as here, apps[1].open() as there:
        assert here.open["live"] is True
        for number in range(6):
            apps[number % 2].transport.emit("tick", {"n": number})
        first, second = ([(message.id, message.data) for message in (stream.until("tick") for _ in range(6))]
                         for stream in (here, there))
        assert first == second
        assert {data for _, data in first} == {f'{{"n":{number}}}' for number in range(6)}


def test_client_goes_on_at_another_process(apps: tuple[App, App]) -> None:
    """A client that reconnects to another process gets what it has missed, once."""
    with apps[0].open() as stream:
        for number in range(10):
            apps[0].transport.emit("tick", number)
        seen = stream.until("tick").id
    with apps[1].open(headers={"Last-Event-ID": seen}) as stream:
        assert [stream.until("tick").data for _ in range(9)] == [str(number) for number in range(1, 10)]


def test_process_that_starts_later_serves_older_ids(redis_server: RedisServer) -> None:
    """A process begins with the newest events of the log, so that clients of one that is gone go on there."""
    first = App(redis_server)
    with first.open() as stream:
        first.transport.emit("tick", 0)
        first.transport.emit("tick", 1)
        seen = stream.until("tick").id
        stream.until("tick")
    first.stop()
    second = App(redis_server)
    try:
        with second.open(headers={"Last-Event-ID": seen}) as stream:
            assert stream.until("tick").data == "1"
    finally:
        second.stop()


def test_outage_is_said_to_open_streams(tmp_path: Path) -> None:
    """While Redis is away clients learn so once, emits do not wait, and nothing is lost."""
    server = RedisServer(tmp_path)
    app = App(server)
    try:
        with app.open() as stream:
            app.transport.emit("tick", 0)
            stream.until("tick")
            server.kill()
            began = time.monotonic()
            for number in range(1, 100):
                app.transport.emit("tick", number)
            assert time.monotonic() - began < 5  # if each waited for a tenth of a second, it would be twice as long
            assert stream.json(stream.until("hybrid_status")) == {"live": False}
            with app.open() as late:
                assert late.open["live"] is False
            status = app.status()["backplane"]
            assert status["state"] == "away"
            assert status["sender"]["outbox"]["events"] == 99
            server.start()
            assert stream.json(stream.until("hybrid_status")) == {"live": True}
            assert [stream.until("tick").data for _ in range(1, 100)] == [str(number) for number in range(1, 100)]
    finally:
        app.stop()
        server.kill()


def test_overflow_is_a_gap_and_a_signal(tmp_path: Path) -> None:
    """What the outbox had to drop is a gap for every client, and a signal with the exact count."""
    server = RedisServer(tmp_path)
    app = App(server, outbox_events=10)
    lost: list[dict[str, Any]] = []
    receive = lambda sender, **values: lost.append(values)  # noqa: E731
    try:
        with app.open() as stream, signals.events_lost.connected_to(receive, app.flask):
            app.transport.emit("tick", "first")
            stream.until("tick")
            server.kill()
            until(lambda: app.status()["backplane"]["state"] == "away")
            for number in range(50):
                app.transport.emit("tick", number)
            server.start()
            gap = stream.json(stream.until("hybrid_gap"))
            assert gap["reason"] == "lost"
            assert gap["missed"] is None
            assert stream.until("tick").data == "40"
            until(lambda: lost)
            assert lost[0]["count"] + 10 == 50
            assert lost[0]["reason"] == "lost"
    finally:
        app.stop()
        server.kill()


def test_rooms_are_known_by_the_process_of_the_client(apps: tuple[App, App]) -> None:
    """An event for a client of another process reaches it, and nobody else."""
    with apps[0].open() as mine, apps[1].open() as other:
        sid = mine.open["sid"]
        apps[1].transport.emit("private", "for one", to=sid)
        apps[1].transport.emit("public", "for all")
        assert mine.until("private").data == '"for one"'
        mine.until("public")
        assert other.next().event == "public"


def test_room_that_others_cannot_know_is_refused(apps: tuple[App, App]) -> None:
    """A room that is no text or number is the same in one process only."""
    with pytest.raises(EventError, match="no room that several processes can share"):
        apps[0].transport.emit("tick", to=[("a", "tuple")])


def test_event_emitted_is_sent_in_every_process(apps: tuple[App, App]) -> None:
    """The signal comes with the id once the event is in the log, and says where it was emitted."""
    got: list[tuple[str, bool, str]] = []

    def receive(sender: Flask, event: Any, event_id: str, here: bool) -> None:
        got.append((event.name, here, event_id))

    signals.event_emitted.connect(receive)
    try:
        apps[1].open().close()  # it begins to read
        apps[0].transport.emit("tick")
        until(lambda: len(got) == 2)
    finally:
        signals.event_emitted.disconnect(receive)
    assert sorted(here for _, here, _ in got) == [False, True]
    assert len({event_id for _, _, event_id in got}) == 1


def test_journal_is_refused_beside_it(tmp_path: Path) -> None:
    """The shared log outlives a process, so a journal beside it would be a second history."""
    with pytest.raises(ConfigurationError, match=r"HYBRID_JOURNAL.*HYBRID_BACKPLANE"):
        HybridTransport(Flask("a"), backplane="redis://127.0.0.1", journal=str(tmp_path / "j"))


@pytest.mark.parametrize("url", ["http://host", "redis://host/name", "unix://", "redis+sentinel://host",
                                 "redis://host:port", "redis://a,b", " redis://host"])
def test_wrong_url_says_what_is_accepted(url: str) -> None:
    """A URL that leads nowhere is refused at the start, with what would do."""
    with pytest.raises(ConfigurationError, match=r"backplane=.* is not accepted; use redis://HOST:PORT/DB "):
        HybridTransport(Flask("a"), backplane=url)


def test_password_is_not_shown() -> None:
    """An error that shows the URL shows neither user nor password."""
    with pytest.raises(ConfigurationError) as error:
        HybridTransport(Flask("a"), backplane="@".join(("redis://user:secret", "host/name")))
    assert "secret" not in str(error.value)
    assert "user" not in str(error.value).partition("accepted")[0]
