"""Requests of clients that reach another process than the one that has the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.hosts import call, serving
from support.redis_server import RedisServer
from support.shared_apps import Host, until
from werkzeug.test import TestResponse

from hakgal_hybrid.commands.backplane.requests import MAX_THREADS, Answer
from hakgal_hybrid.socketio import emit
from hakgal_hybrid.testing import TestStream


@pytest.fixture
def handling(hosts: tuple[Host, Host]) -> tuple[Host, Host]:
    """Two processes whose hosts say which of them has run the handler."""
    for name, host in zip(("here", "there"), hosts, strict=True):
        def handle(data: Any, name: str = name) -> list[Any]:
            emit("heard", [name, data])
            return [name, data]

        host.socketio.on_event("say", handle)
    return hosts


def post(host: Host, path: str, stream: TestStream, token: str | None = None, **body: Any) -> TestResponse:
    """Post to a process for the client of a stream."""
    return host.flask.test_client().post(f"/api/events/{path}", json={"sid": stream.open["sid"], **body},
                                         headers={"X-Hybrid-Token": token or stream.open["token"]})


def test_handler_runs_where_the_client_is(handling: tuple[Host, Host]) -> None:
    """An event that a client posts to another process is handled by its own, once, and answered as if it were there."""
    here, there = handling
    with there.open() as stream:
        assert post(here, "emit", stream, event="say", data={"$binary": "eA=="}).status_code == 200
        assert stream.json(stream.until("heard")) == ["there", {"$binary": "eA=="}]
        answers = [post(host, "emit", stream, event="say", data=number, number=number + 1)
                   for number, host in enumerate((here, there))]
        assert [answer.get_json()["ack"] for answer in answers] == [["there", 0], ["there", 1]]
        again = post(here, "emit", stream, event="say", data="twice", number=2)
        assert again.get_json()["ack"] == ["there", 1]  # it was handled already
        assert [stream.json(stream.until("heard")) for _ in range(2)] == [["there", 0], ["there", 1]]


def test_refusals_are_those_of_the_other_process(handling: tuple[Host, Host]) -> None:
    """What is wrong with a request is said as there: no such event, a wrong token."""
    here, there = handling
    with there.open() as stream:
        unknown = post(here, "emit", stream, event="nothing")
        assert (unknown.status_code, unknown.get_json()["code"]) == (404, "unknown_event")
        assert unknown.content_type == "application/problem+json"
        stolen = post(here, "emit", stream, "x" * 43, event="say", data=1)
        assert (stolen.status_code, stolen.get_json()["code"]) == (403, "bad_token")


def test_client_leaves_by_way_of_another_process(handling: tuple[Host, Host]) -> None:
    """A client may say goodbye anywhere."""
    here, there = handling
    with there.open() as stream:
        assert post(here, "disconnect", stream).status_code == 200
        until(lambda: not there.transport.node.hub.clients())


def test_client_of_a_process_that_is_gone(handling: tuple[Host, Host]) -> None:
    """Once its process has ended, a client gets 410, upon which it connects again, without a wait."""
    here, there = handling
    here.open().close()
    with there.open() as stream:
        there.stop()
        gone = post(here, "emit", stream, event="say", data=1)
        assert (gone.status_code, gone.get_json()["code"]) == (410, "gone")


def test_process_that_does_not_answer(redis_server: RedisServer) -> None:
    """When there is no answer in time, it is said that nobody knows whether the event was handled."""
    here, there = Host(redis_server, HYBRID_QUEUE_S=1), Host(redis_server)
    try:
        here.open().close()
        with there.open() as stream:
            assert there.transport.node.requests is not None
            there.transport.node.requests.serve = None
            silent = post(here, "emit", stream, event="say", data=1)
            assert (silent.status_code, silent.get_json()["code"]) == (504, "unknown")
    finally:
        here.stop()
        there.stop()


def test_answer_names_what_its_handler_has_emitted(handling: tuple[Host, Host]) -> None:
    """An answer says which event of its handler comes before it, although that comes by Redis."""
    here, _ = handling
    with here.open() as stream:
        here.transport.emit("warm")  # a new log takes nothing for a moment
        stream.until("warm")
        for number in range(1, 6):
            answer = post(here, "emit", stream, event="say", data=number, number=number).get_json()
            assert answer["after"] == stream.until("heard").id


@pytest.fixture
def stuck(redis_server: RedisServer) -> Iterator[tuple[Host, Host, threading.Event]]:
    """Two processes, the second of which answers none of the other's requests before the event is set."""
    here, there = Host(redis_server, HYBRID_QUEUE_S=5, HYBRID_THREADS=2), Host(redis_server)
    requests, go_on = there.transport.node.requests, threading.Event()
    assert requests is not None
    serve = requests.serve
    assert serve is not None
    requests.serve = lambda request: serve(request) if go_on.wait(30) else Answer(500, "")
    there.socketio.on_event("say", lambda data: data)
    yield here, there, go_on
    here.stop()
    there.stop()


def until_asked(host: Host, number: int) -> None:
    """Wait until so many requests of a process wait for others."""
    until(lambda: len(host.transport.node.requests._asked) == number)


def test_requests_that_wait_take_no_thread(stuck: tuple[Host, Host, threading.Event]) -> None:
    """While another process does not answer, our server answers everything else, and each of those in the end."""
    here, there, go_on = stuck
    with serving(here.socketio, here.flask) as port, there.open() as stream:
        body = {"sid": stream.open["sid"], "event": "say"}
        with ThreadPoolExecutor(20) as pool:
            posts = [pool.submit(call, port, "POST", "/api/events/emit", {**body, "data": number},
                                 {"X-Hybrid-Token": stream.open["token"]}) for number in range(20)]
            until_asked(here, 20)
            assert call(port, "GET", "/api/hybrid/status").status == 200
            go_on.set()
            assert [post.result(30).body["ack"] for post in posts] == list(range(20))


def test_few_threads_wait_for_another_process(stuck: tuple[Host, Host, threading.Event]) -> None:
    """Where each request that waits takes a thread, few may; one more is refused at once, and can be sent again."""
    here, there, go_on = stuck
    here.open().close()
    with there.open() as stream, ThreadPoolExecutor(MAX_THREADS) as pool:
        posts = [pool.submit(post, here, "emit", stream, event="say", data=number) for number in range(MAX_THREADS)]
        until_asked(here, MAX_THREADS)
        refused = post(here, "emit", stream, event="say", data="one more")
        assert (refused.status_code, refused.get_json()["code"]) == (503, "forwarding")
        assert refused.headers["Retry-After"]
        go_on.set()
        assert sorted(post.result(30).get_json()["ack"] for post in posts) == list(range(MAX_THREADS))
