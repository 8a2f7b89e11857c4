"""Answers that last: neither a client's pace nor its absence holds the threads of the others."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent.socket
import pytest
from support.lasting import PIECE, pattern
from support.servers import CONTROL, Http, Server, shown_on_failure, wait_until

from hakgal_hybrid.server.admission import AdmissionControl
from hakgal_hybrid.server.connection import HTTPConnection

THREADS = 4
#: How long the host's own page may take on a machine that is busy with other things (s).
QUICK_S = 5.0
#: A body larger than any socket takes by itself, and what is in memory of an answer.
LARGE = 256


@pytest.fixture(scope="module")
def few_running() -> Iterator[Server]:
    """A server with few threads, whose slow clients are not given up while a test lasts."""
    with Server("ours", HYBRID_THREADS=THREADS, HYBRID_EXTRA_THREADS=40, HYBRID_STALL_S=60) as server:
        yield server


@pytest.fixture
def few(few_running: Server) -> Iterator[Server]:
    with shown_on_failure(few_running):
        yield few_running
        wait_until(lambda: few_running.ask("POST", "/publish").status == 200 and idle(few_running), 30,
                   "every generator to be closed and every thread to be free")
        assert few_running.process.poll() is None


def counts(server: Server) -> dict[str, int]:
    return dict(server.notes()["counts"])


def idle(server: Server) -> bool:
    found = counts(server)
    return (not any(found.get(name) for name in ("subscribed", "pieces", "producing"))
            and server.status()["server"]["lanes"]["host"]["busy"] == 0
            and server.status()["server"]["requests"] == 1)  # which is this one


def health(server: Server) -> float:
    """Return how long the host's own page takes (s)."""
    started = time.monotonic()
    assert server.ask("GET", "/health").status == 200
    return time.monotonic() - started


@contextlib.contextmanager
def asking(server: Server, path: str, number: int, **options: Any) -> Iterator[list[Http]]:
    """Have clients that ask for something and read nothing of it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect(**options)) for _ in range(number)]
        for http in clients:
            http.request("GET", path)
        yield clients


def how_it_ends(http: Http) -> str:
    """Return what becomes of a connection whose client reads at last all that is sent in a while."""
    http.sock.settimeout(0.5)
    try:
        for _ in range(1000):
            if not http.sock.recv(1 << 20):
                return "clean"
    except TimeoutError:
        pass
    except ConnectionError:
        return "cut"
    return "goes on"


@pytest.mark.parametrize("path", ["/subscribe", "/subscribe?begin", "/subscribe?tick=0.05"])
@pytest.mark.parametrize("way", ["close", "reset", "stay"])
def test_visitors_of_a_generator_that_waits_leave_the_others_their_threads(few: Server, path: str, way: str) -> None:
    """Three times as many visitors as threads of a generator that waits, gone or not: the host's pages are served."""
    with asking(few, path, 3 * THREADS) as visitors:
        wait_until(lambda: counts(few)["subscribed"] == 3 * THREADS, what="every visitor to be served")
        assert health(few) < QUICK_S
        if way != "stay":
            for http in visitors:
                getattr(http, way)()
        assert max(health(few) for _ in range(5)) < QUICK_S
        if way == "stay":
            assert few.ask("POST", "/publish").json() == {"queues": 3 * THREADS}
            for http in visitors:
                assert http.head()[0] == 200
                http.until(b"published;")


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_generator_is_closed_at_its_next_word_after_its_client_has_gone(few: Server, way: str) -> None:
    """A client that has left while nothing was said is noticed: the generator is closed as soon as it speaks."""
    with asking(few, "/subscribe?begin", 1) as (http,):
        http.until(b"begun;")
        assert counts(few)["subscribed"] == 1
        getattr(http, way)()
        time.sleep(0.6)  # an answer is silent for a quarter of a second before its client is looked at
        few.ask("POST", "/publish")
        wait_until(lambda: counts(few)["subscribed"] == 0, what="the generator to be closed")


def test_a_client_that_only_says_no_more_gets_its_whole_answer(few: Server) -> None:
    """A client that has closed its own side still reads: its answer goes on."""
    import socket

    with asking(few, "/subscribe?begin", 1) as (http,):
        http.sock.shutdown(socket.SHUT_WR)
        http.until(b"begun;")
        time.sleep(0.5)
        for _ in range(3):
            few.ask("POST", "/publish")
            http.until(b"published;")


def test_views_whose_clients_have_gone_leave_the_others_their_threads(few: Server) -> None:
    """Views that wait, with nobody there for their answers, do not count among the threads any more."""
    with asking(few, "/hold", 3 * THREADS) as visitors:
        wait_until(lambda: few.status()["server"]["lanes"]["host"]["busy"] == THREADS, what="every thread to be taken")
        for http in visitors:
            http.close()
        assert health(few) < QUICK_S
        assert few.ask("POST", CONTROL, {"action": "set_mode", "mode": "release"}).status in (200, 202)


def test_a_request_whose_client_leaves_the_queue_is_not_run() -> None:
    """A request that waits for a thread when its client leaves costs the host nothing."""
    with Server("ours", HYBRID_THREADS=1, HYBRID_EXTRA_THREADS=0) as server, shown_on_failure(server):
        with asking(server, "/hold", 1):
            wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 1)
            with asking(server, "/work?seconds=0", 3):
                wait_until(lambda: server.status()["server"]["lanes"]["host"]["waiting"] == 3)
            wait_until(lambda: server.status()["server"]["lanes"]["host"]["waiting"] == 0, what="the queue to be empty")
            assert server.ask("POST", CONTROL, {"action": "set_mode", "mode": "release"}).status in (200, 202)
            assert health(server) < QUICK_S
        assert "working" not in server.log()


@pytest.mark.parametrize("path", ["/chunks", "/pieces?n=20000&size=8", f"/bytes?n={LARGE}", f"/file?n={LARGE}"])
def test_clients_that_read_nothing_leave_the_others_their_threads(few: Server, path: str) -> None:
    """Many clients read nothing of a large answer, leave and come again: the host's pages are served meanwhile."""
    for _ in range(2):
        with asking(few, path, 16, rcvbuf=4096) as clients:
            for http in clients:
                http.sock.settimeout(30)
                http.head()
            assert max(health(few) for _ in range(10)) < QUICK_S


@pytest.mark.parametrize("path", [f"/pieces?n={LARGE}", f"/bytes?n={LARGE}", f"/file?n={LARGE}"])
def test_a_client_that_reads_slowly_gets_every_byte(few: Server, path: str) -> None:
    """What waits in memory and in a file comes in order and whole; the host's thread is free long before."""
    with asking(few, path, 1, rcvbuf=65536) as (http,):
        http.head()
        wait_until(lambda: few.status()["server"]["lanes"]["host"]["busy"] == 0, what="the host's thread to be free")
        assert few.status()["server"]["requests"] == 2, "the answer has been read already, which proves nothing"
    digest = hashlib.sha256(pattern(LARGE)).hexdigest()
    with asking(few, path, 1, rcvbuf=65536) as (http,):
        http.sock.settimeout(30)
        body = http.answer().body
        assert len(body) == LARGE * PIECE
        assert hashlib.sha256(body).hexdigest() == digest


def test_a_part_of_a_file(few: Server) -> None:
    """A range of a file is that range."""
    answer = few.ask("GET", "/file?n=64", headers={"Range": f"bytes={PIECE - 4}-{PIECE * 40 + 3}"})
    assert answer.status == 206
    assert answer.body == pattern(64)[PIECE - 4:PIECE * 40 + 4]


def test_answers_that_are_produced_are_bounded() -> None:
    """With no thread left for one more answer that is produced piece by piece, it is refused, and others are not."""
    with Server("ours", HYBRID_THREADS=4, HYBRID_EXTRA_THREADS=4) as server, shown_on_failure(server):
        with asking(server, "/subscribe", 6):
            wait_until(lambda: counts(server)["subscribed"] == 6, what="every visitor to be served")
            refused = server.ask("GET", "/pieces?n=4")
            assert (refused.status, refused.json()["code"]) == (503, "too_many_answers")
            assert "retry-after" in refused.headers
            assert health(server) < QUICK_S
            assert server.status()["refusals"]["too_many_answers"] == 1
        wait_until(lambda: server.ask("POST", "/publish").json() == {"queues": 0})
        assert server.ask("GET", "/pieces?n=4").body == pattern(4)


def test_the_slowest_client_is_cut_where_threads_are_short() -> None:
    """When clients that take nothing hold the threads that others wait for, the slowest is cut, and counted."""
    with Server("ours", HYBRID_THREADS=2, HYBRID_EXTRA_THREADS=0, HYBRID_SPOOL_BYTES=0, HYBRID_STALL_S=60) as server:
        with shown_on_failure(server), asking(server, "/chunks", 2, rcvbuf=4096) as slow:
            wait_until(lambda: server.status()["server"]["lanes"]["host"]["busy"] == 2)
            time.sleep(1.2)  # a client that has just taken something is not cut
            assert health(server) < QUICK_S + 2
            assert server.status()["refusals"]["client_too_slow"] >= 1
            assert "cut" in {how_it_ends(http) for http in slow}, "what has come is no whole answer"


def test_what_the_server_says_by_itself_waits_no_longer_than_answers() -> None:
    """A client that takes nothing is given up, also while it is told ``100 Continue`` or why it is refused."""
    ours, theirs = gevent.socket.socketpair()
    settings = SimpleNamespace(stall_s=0.05, request_s=1.0, max_head_bytes=1024)
    front: Any = SimpleNamespace(loop=gevent.get_hub().loop, settings=settings,
                                 connections=AdmissionControl(1, lambda: None), sockets=set())
    with contextlib.closing(theirs):
        connection = HTTPConnection(front, ours, None)
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert theirs.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        with pytest.raises(TimeoutError):
            connection.send(bytes(16 << 20))
        connection.close()


def test_the_same_over_tls(certificate: tuple[str, str]) -> None:
    """Over TLS, too, visitors that leave hold no threads, and who reads gets every byte."""
    cert, key = certificate
    with Server("ours", "--certfile", cert, "--keyfile", key, HYBRID_THREADS=2) as server, shown_on_failure(server):
        with asking(server, "/subscribe?begin", 6) as visitors:
            for http in visitors:
                http.until(b"begun;")
            time.sleep(0.6)  # they are looked at meanwhile, and are there
            for _ in range(2):
                assert server.ask("POST", "/publish").json() == {"queues": 6}
            for http in visitors:
                http.until(b"published;")
        assert health(server) < QUICK_S
        wait_until(lambda: server.ask("POST", "/publish").json() == {"queues": 0}, what="the generators to be closed")
        for path in ("/pieces?n=64", "/file?n=64", "/bytes?n=64"):
            assert server.ask("GET", path).body == pattern(64)
