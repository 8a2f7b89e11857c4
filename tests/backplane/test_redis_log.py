"""The shared log in a real Redis: each call, its answers, and what errors mean."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.redis_server import RedisServer
from support.servers import wait_until

from hakgal_hybrid.broker.backplane.faults import Away, Misconfigured
from hakgal_hybrid.broker.backplane.shared_log import (
    START,
    Append,
    Appended,
    Forgotten,
    Item,
    Order,
    Position,
    Record,
    Said,
    Settling,
    Twin,
)
from hakgal_hybrid.broker.backplane.tail import Tail
from hakgal_hybrid.commands.backplane.connecting import connector
from hakgal_hybrid.commands.backplane.redis_faults import RIGHTS
from hakgal_hybrid.commands.backplane.redis_log import LogOptions, RedisLog

SETTLE_MS = 50


def connected(server: RedisServer, url: str | None = None, **options: object) -> RedisLog:
    given = {"name": "s", "app": "app", "settle_ms": SETTLE_MS, **options}
    return connector(url or server.url, LogOptions(**given), "test")()


def call(*items: Item, position: Position = START, sender: str = "a", expect: int = 0, previous: str = "",
         token: str = "t1", generation: int = 0) -> Append:
    return Append(position, sender, expect, previous, token, generation, items)


def opened(log: RedisLog) -> Position:
    """Have the log open its first generation; return the opening's id."""
    deadline = time.monotonic() + 30
    while isinstance(answer := log.look(START), Settling):
        assert time.monotonic() < deadline
        time.sleep(answer.ms / 1000)
    assert isinstance(answer, Appended)
    return answer.at


@pytest.fixture
def log(redis_server: RedisServer) -> RedisLog:
    return connected(redis_server)


def test_first_call_settles_then_opens_a_generation(log: RedisLog) -> None:
    """An empty log takes nothing for a moment, in which it could be refilled; then it begins with an opening."""
    assert log.look(START) == Settling(SETTLE_MS, START)
    opening = opened(log)
    assert opening.number == 0
    assert log.newest(10) == [Record(opening, ends=START)]


def test_items_get_ids_without_holes(log: RedisLog) -> None:
    """Numbers are given one after the other, whichever connection appends."""
    generation = opened(log).generation
    assert log.append(call(Item(1, 0, b"one"), Item(2, 0, b"two"))) == Appended(Position(generation, 2))
    assert log.append(call(Item(1, 3, b"three"), sender="b")) == Appended(Position(generation, 3))
    records, messages, _ = log.tail(Position(generation, 0), 0.01)
    assert not messages
    assert records == [Record(Position(generation, 1), None, "a", 1, b"one"),
                       Record(Position(generation, 2), None, "a", 2, b"two"),
                       Record(Position(generation, 3), None, "b", 1, b"three", 3)]


def test_batch_sent_again_is_appended_once(log: RedisLog) -> None:
    """A batch whose answer was lost is sent again with its token, and only what is missing of it is appended."""
    generation = opened(log).generation
    batch = call(Item(1, 0, b"one"), Item(2, 0, b"two"))
    assert log.append(batch) == log.append(batch) == Appended(Position(generation, 2))
    assert len(log.newest(10)) == 3


def test_somebody_else_by_the_same_name_is_a_twin(log: RedisLog) -> None:
    """A sender that knows neither the last token nor the one before it is refused."""
    opened(log)
    log.append(call(Item(1, 0, b"one"), token="t1"))
    assert log.append(call(Item(2, 0, b"two"), token="t9", previous="t8")) == Twin()


def test_flush_is_met_as_a_cut_and_forgotten_items(redis_server: RedisServer, log: RedisLog) -> None:
    """After a flush the log settles, opens a generation above the one that was read, and names what it has lost."""
    before = opened(log)
    log.append(call(Item(1, 0, b"one")))
    with redis_server.client() as client:
        client.flushall()
    here = Position(before.generation, 1)
    assert isinstance(log.look(here), Settling)
    time.sleep(2 * SETTLE_MS / 1000)
    again = call(Item(2, 0, b"two"), position=here, expect=1, previous="t1", token="t2", generation=before.generation)
    assert log.append(again) == Forgotten(0, "")
    assert log.newest(1)[0].at.generation > before.generation


def test_refill_puts_entries_back_under_their_ids(redis_server: RedisServer, log: RedisLog) -> None:
    """While it settles, a log takes back what somebody has read, in order and without holes; then no more."""
    opened(log)
    log.append(call(Item(1, 0, b"one"), Item(2, 0, b"two"), Item(3, 0, b"three")))
    read = log.newest(10)
    assert log.refill(read) == 0  # it has lost nothing
    with redis_server.client() as client:
        client.flushall()
    patient = connected(redis_server, settle_ms=60_000)  # it settles for as long as this takes
    answer = patient.look(read[-1].at)
    assert isinstance(answer, Settling)
    assert patient.refill(read[:2]) == 2
    assert patient.refill([read[3]]) == 0  # it does not follow
    assert patient.refill(read) == 2
    following = call(Item(4, 0, b"four"), position=read[-1].at, expect=3, previous="t1", token="t2")
    assert isinstance(log.append(following), Settling)
    wait_until(lambda: isinstance(log.append(following), Appended), what="it to have settled")
    *kept, opening, last = log.newest(10)
    assert kept == read
    assert opening.ends == read[-1].at
    assert last.payload == b"four"


def test_lost_record_of_a_sender_does_no_harm(redis_server: RedisServer, log: RedisLog) -> None:
    """A record that expired or was evicted alone is made anew from what the sender knows."""
    generation = opened(log).generation
    log.append(call(Item(1, 0, b"one")))
    with redis_server.client() as client:
        client.delete("{s}:q:a")
    following = call(Item(2, 0, b"two"), expect=1, previous="t1", token="t2", generation=generation)
    assert log.append(following) == Appended(Position(generation, 2))


def test_entry_written_by_hand_is_foreign_and_opens_a_generation(redis_server: RedisServer, log: RedisLog) -> None:
    """What somebody else has added to the stream is no entry of ours, and the log goes on above it."""
    generation = opened(log).generation
    with redis_server.client() as client:
        client.xadd("{s}:log", {"x": "y"}, id=f"{generation}-7")
    answer = log.append(call(Item(1, 0, b"one")))
    assert answer == Settling(0, Position(generation, 1))
    answer = log.append(call(Item(1, 0, b"one")))
    assert isinstance(answer, Appended)
    assert answer.at.generation > generation
    assert [bool(record.sender) for record in log.newest(10)] == [False, False, False, True]


@pytest.mark.parametrize("reads", [False, True])
def test_right_taken_away_midway(redis_server: RedisServer, *, reads: bool) -> None:
    """A script that may add but not note what it has added is healed: what was read meanwhile is no branch."""
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "half", "on", ">secret", "~{s}:*", *RIGHTS.split())
        log = connected(redis_server, redis_server.url.replace("//", f"//{':'.join(('half', 'secret'))}@"))
        opened(log)
        got: list[bytes] = []
        holes: list[object] = []
        tail = Tail(lambda record: got.append(record.payload), holes.append, keep=100)
        tail.begin(log.newest(10))
        client.execute_command("ACL", "SETUSER", "half", "-hset")
        with pytest.raises(Misconfigured, match="lacks a right"):
            log.append(call(Item(1, 0, b"one"), Item(2, 0, b"two")))
        for record in log.tail(tail.position or START, 0.01).records if reads else ():
            tail.take(record)
        client.execute_command("ACL", "SETUSER", "half", "+hset")
        deadline = time.monotonic() + 30
        while not isinstance(log.append(call(Item(1, 0, b"one"), Item(2, 0, b"two"), position=tail.position or START)),
                             Appended):
            assert time.monotonic() < deadline
            time.sleep(SETTLE_MS / 1000)
        for record in log.tail(tail.position or START, 0.01).records:
            tail.take(record)
    assert got == [b"one", b"two"]
    assert not holes


def test_claim_is_given_once_and_only_in_its_generation(log: RedisLog) -> None:
    """One process with the desk claims a command, once; one of another generation, or a late one, is never run."""
    generation = opened(log).generation
    now = log.here("{}", 5)
    later = now + 60_000
    assert log.lease("p1", 60)
    assert not log.lease("p2", 60)
    assert log.claim("p2", Order("c1", generation, later)).answer == "other"
    claim = log.claim("p1", Order("c1", generation, later))
    assert (claim.answer, claim.owner) == ("go", "")
    assert claim.term > 0
    assert log.claim("p1", Order("c1", generation, later)) == ("had", "p1", 0)
    assert log.claim("p1", Order("c2", generation - 1, later)).answer == "stale"
    assert log.claim("p1", Order("c3", generation, now)).answer == "stale"


def test_message_reaches_the_process_it_is_for(redis_server: RedisServer, log: RedisLog) -> None:
    """Messages for a process come with what it reads of the log, once."""
    position = opened(log)
    reader = connected(redis_server, process="p1")
    reader.here("{}", 60)
    assert log.to("p1", b"hello")
    assert not log.to("p2", b"there is no such process")
    assert reader.tail(position, 0.01) == ([], [b"hello"], [Said("p1", b"{}")])
    assert reader.tail(position, 0.01) == ([], [], [])
    reader.here("{}", 0)
    time.sleep(0.02)
    assert not log.to("p1", b"too late")


def test_message_is_taken_once_whatever_connections_it_comes_by(redis_server: RedisServer, log: RedisLog) -> None:
    """A new connection of a process gives what the one before it has not given, and nothing again."""
    options = LogOptions("s", "app", "me", settle_ms=SETTLE_MS)
    connect = connector(redis_server.url, options, "reader")
    first = connect()
    first.here("{}", 30)
    assert log.to("me", b"one")
    assert first.tail(START, 0.01).messages == [b"one"]
    first.close()
    assert log.to("me", b"two")
    second = connect()
    assert second.tail(START, 0.01).messages == [b"two"]
    second.close()


def test_another_application_is_refused(redis_server: RedisServer, log: RedisLog) -> None:
    """Two applications cannot share a log by mistake; an emitter, which is none, may use any."""
    opened(log)
    with pytest.raises(Misconfigured, match=r"another application \(app\) uses the name 's'.*HYBRID_BACKPLANE_NAME"):
        connected(redis_server, app="other").look(START)
    assert isinstance(connected(redis_server, app="").append(call(Item(1, 0, b"one"))), Appended)


def test_newer_protocol_is_refused(redis_server: RedisServer, log: RedisLog) -> None:
    """A log of a newer version of the package is not touched."""
    opened(log)
    with redis_server.client() as client:
        client.hset("{s}:meta", "v", 2)
    with pytest.raises(Misconfigured, match="newer version"):
        log.look(START)


def test_key_of_another_type_is_said(redis_server: RedisServer, log: RedisLog) -> None:
    """A key that something else uses is named with what to do."""
    with redis_server.client() as client:
        client.set("{s}:meta", "mine")
    with pytest.raises(Misconfigured, match=r"\{s\}: is none of ours"):
        log.look(START)


def test_stated_rights_suffice_and_a_missing_one_is_named(redis_server: RedisServer) -> None:
    """A user with the rights that the error names can do everything; without INFO nothing begins."""
    with redis_server.client() as client:
        client.acl_setuser("worker", enabled=True, passwords=["+secret"], reset=True)
        client.execute_command("ACL", "SETUSER", "worker", "~{s}:*", *RIGHTS.split())
        client.execute_command("ACL", "SETUSER", "blind", "on", ">secret", "~{s}:*", *RIGHTS.split(), "-info")
    url = redis_server.url.replace("//", f"//{':'.join(('worker', 'secret'))}@")
    log = connected(redis_server, url, process="p1")
    opened(log)
    assert isinstance(log.append(call(Item(1, 0, b"one"))), Appended)
    assert len(log.tail(START, 0.01).records) == 2
    assert log.lease("p1", 5)
    log.here("{}", 60)
    assert log.to("p1", b"hello")
    log.trim()
    with pytest.raises(Misconfigured, match=r"lacks a right .*\+info"):
        connected(redis_server, url.replace("worker", "blind"))
    with pytest.raises(Misconfigured, match="refuses the user or the password") as refused:
        connected(redis_server, url.replace("secret", "wrong"))
    assert "wrong" not in str(refused.value)


def test_full_memory_keeps_the_connection(redis_server: RedisServer, log: RedisLog) -> None:
    """A Redis that has no memory left is no reason for a new connection, and may be trimmed."""
    opened(log)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(Away) as full:
                log.append(call(Item(1, 0, b"x" * 1000)))
            assert full.value.full
            assert full.value.connected
            log.trim()
        finally:
            client.config_set("maxmemory", 0)
    assert isinstance(log.append(call(Item(1, 0, b"one"))), Appended)


def test_server_that_is_gone_is_away(tmp_path: Path) -> None:
    """A Redis that does not answer is away, for a connection that exists and for a new one."""
    running = RedisServer(tmp_path)
    log = connected(running)
    opened(log)
    running.kill()
    with pytest.raises(Away) as away:
        log.look(START)
    assert not away.value.connected
    with pytest.raises(Away):
        connected(running)
    running.start()
    try:
        opened(connected(running))
    finally:
        running.kill()


def test_cluster_that_is_gone_is_away(redis_server: RedisServer) -> None:
    """A cluster of which no node answers is away like any server, and is tried again."""
    with pytest.raises(Away):
        connected(redis_server, "redis+cluster://127.0.0.1:1")


def test_unix_socket(tmp_path: Path) -> None:
    """A Redis on a Unix socket is reached by its path."""
    running = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "redis.sock"))
    try:
        opened(connected(running, f"unix://{tmp_path}/redis.sock"))
    finally:
        running.kill()


def test_message_comes_once_over_a_new_connection(redis_server: RedisServer, log: RedisLog) -> None:
    """A process whose connection broke goes on after the last message that it had, and after what others had said."""
    position = opened(log)
    connect = connector(redis_server.url, LogOptions("s", "app", "p1", settle_ms=SETTLE_MS), "reader", 0.01)
    reader = connect()
    reader.here("{}", 60)
    log.to("p1", b"one")
    assert reader.tail(position, 0.01).messages == [b"one"]
    reader.close()
    reader = connect()
    log.to("p1", b"two")
    assert reader.tail(position, 0.01) == ([], [b"two"], [])
