"""Clients that connect where several processes stand behind one address, and nothing sends a client to the same one."""

from __future__ import annotations

from typing import Any

import pytest
from flask import request
from support.redis_server import RedisServer
from support.shared_apps import SOON, Host, until

from hakgal_hybrid.testing import StreamClosed, TestStream, open_stream

SECRET = {"SECRET_KEY": "the same in both"}


@pytest.fixture
def pair(redis_server: RedisServer) -> Any:
    """Two processes with one secret key, that know of each other, and what their ``connect`` handlers were given."""
    hosts = Host(redis_server, **SECRET), Host(redis_server, **SECRET)
    for host in hosts:
        host.connected = []

        def connect(auth: Any = None, host: Host = host) -> None:
            host.connected.append((request.sid, auth, request.headers.get("X-Tell"), request.args.get("q")))

        host.socketio.on_event("connect", connect)
        host.transport.node.hub.broker.ready()
    until(lambda: all(host.status()["backplane"]["processes"] == 2 for host in hosts))
    yield hosts
    for host in hosts:
        host.stop()


def post(host: Host, path: str, expect: int = 200, headers: dict[str, str] | None = None, **body: Any) -> Any:
    answer = host.flask.test_client().post(f"/api/events/{path}", json=body, headers=headers)
    assert answer.status_code == expect, answer.text
    return answer.get_json()


def stream_of(host: Host, ticket: str, **query: str) -> TestStream:
    return open_stream(host.flask.test_client(), timeout=SOON, ticket=ticket, **query)


def test_ticket_of_another_process(pair: tuple[Host, Host]) -> None:
    """A client that knows nothing of several processes learns that another one has it."""
    here, there = pair
    made = post(there, "connect")
    answer = here.flask.test_client().get("/api/events/stream", query_string={"ticket": made["ticket"]})
    assert (answer.status_code, answer.get_json()["code"]) == (409, "elsewhere")
    assert answer.get_json()["title"] == "Conflict"
    with stream_of(there, made["ticket"]) as stream:
        assert stream.open["sids"] == [made["sid"]]


def test_client_connects_on_the_stream_that_it_has_got(pair: tuple[Host, Host]) -> None:
    """A page opens its stream first, at whichever process, and connects on it by whichever; its handler runs once."""
    here, there = pair
    first = post(here, "connect", anywhere=True)
    assert "sid" not in first
    assert not here.connected
    with stream_of(there, first["ticket"], anywhere="1") as stream:
        assert stream.open["sids"] == []
        made = post(here, "connect?q=1", headers={"X-Tell": "it"}, stream=stream.open["ticket"], auth={"a": 1})
        assert made["ticket"] == stream.open["ticket"]
        assert not here.connected
        assert there.connected == [(made["sid"], {"a": 1}, "it", "1")]
        here.transport.emit("tick", 1, to=made["sid"])
        assert stream.json(stream.until("tick")) == 1


def test_stream_breaks_and_comes_to_another_process(pair: tuple[Host, Host]) -> None:
    """A client that is known elsewhere becomes a new one on its stream, and the old one ends."""
    here, there = pair
    made = post(there, "connect")
    with stream_of(here, made["ticket"], anywhere="1") as stream:
        again = post(there, "connect", sid=made["sid"], token=made["token"], stream=stream.open["ticket"])
        assert again["resumed"] is False
        assert again["sid"] != made["sid"]
        until(lambda: there.transport.node.hub.client(made["sid"]) is None)
        there.transport.emit("tick", 2)
        assert stream.json(stream.until("tick")) == 2


def test_client_that_comes_back_by_another_process_is_the_same(pair: tuple[Host, Host]) -> None:
    """Who posts its ``sid`` to another process learns from its own one that it is still there."""
    here, there = pair
    made = post(there, "connect")
    back = post(here, "connect", sid=made["sid"], token=made["token"])
    assert (back["resumed"], back["sid"], back["ticket"]) == (True, made["sid"], made["ticket"])
    stranger = post(here, "connect", sid=made["sid"], token="x" * 43)
    assert stranger["resumed"] is False


def test_process_that_is_gone(pair: tuple[Host, Host]) -> None:
    """A client of a process that has ended connects where it comes to; its ticket opens nothing."""
    here, there = pair
    made = post(there, "connect")
    there.stop()
    until(lambda: here.status()["backplane"]["processes"] == 1)
    answer = here.flask.test_client().get("/api/events/stream", query_string={"ticket": made["ticket"], "anywhere": 1})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "bad_ticket")
    assert post(here, "connect", sid=made["sid"], token=made["token"], anywhere=True)["resumed"] is False


def test_process_that_was_killed_and_is_not_missed_yet(pair: tuple[Host, Host]) -> None:
    """One that does not answer holds a client up for a second, and the next one not at all."""
    here, there = pair
    made = post(there, "connect")
    there.transport.node.requests.serve = None
    assert post(here, "connect", sid=made["sid"], token=made["token"], anywhere=True)["resumed"] is False
    assert here.status()["backplane"]["processes"] == 1
    until(lambda: here.status()["backplane"]["processes"] == 2)


def test_nobody_connects_on_a_stream(redis_server: RedisServer) -> None:
    """A stream that waits for a client ends when none comes."""
    hosts = Host(redis_server, HYBRID_CONNECT_S=1, **SECRET), Host(redis_server, **SECRET)
    here, there = hosts
    try:
        made = post(there, "connect")
        with stream_of(here, made["ticket"], anywhere="1") as stream:
            with pytest.raises(StreamClosed):
                stream.until("never")
        until(lambda: not here.status()["streams"])
    finally:
        for host in hosts:
            host.stop()


def test_ticket_opens_a_stream_in_place_of_the_key(redis_server: RedisServer) -> None:
    """A ticket that another process has made takes the key's place; one that none has made does not."""
    options = {"HYBRID_API_KEY": "k" * 32, **SECRET}
    hosts = Host(redis_server, **options), Host(redis_server, **options)
    here, there = hosts
    remote = {"REMOTE_ADDR": "192.0.2.1"}
    try:
        made = there.flask.test_client().post("/api/events/connect", json={}, environ_base=remote,
                                              headers={"X-API-Key": "k" * 32}).get_json()
        forged = made["ticket"][:-1] + ("A" if made["ticket"][-1] != "A" else "B")
        answer = here.flask.test_client().get("/api/events/stream", environ_base=remote,
                                              query_string={"ticket": forged, "anywhere": 1})
        assert (answer.status_code, answer.get_json()["code"]) == (401, "key_required")
        answer = here.flask.test_client().get("/api/events/stream", environ_base=remote,
                                              query_string={"ticket": made["ticket"]})
        assert (answer.status_code, answer.get_json()["code"]) == (409, "elsewhere")
    finally:
        for host in hosts:
            host.stop()
