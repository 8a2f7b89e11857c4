"""Many at once, slowly: half-open connections, trickled heads and bodies, more streams than there are places."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.attacks import REMOTE, code, counted, refusals, said, statuses
from support.servers import CONTROL, EMIT, SOON, Http, Server, shown_on_failure, wait_until

from hakgal_hybrid.broker.budget import Budget
from hakgal_hybrid.broker.counters import Refusals
from hakgal_hybrid.broker.slots import MAX_ADDRESSES
from hakgal_hybrid.errors import Overloaded
from hakgal_hybrid.server.admission import AdmissionControl
from hakgal_hybrid.web.control import BoundedList
from hakgal_hybrid.web.ratelimit import RateLimiter

CONNECT = "/api/events/connect"


@contextlib.contextmanager
def serving(**settings: object) -> Iterator[Server]:
    with Server("ours", **settings) as server, shown_on_failure(server):
        yield server


def half_open(server: Server, number: int) -> list[socket.socket]:
    """Open connections that say a part of something, and nothing more."""
    sockets = []
    for _ in range(number):
        sock = socket.create_connection(("127.0.0.1", server.port), 20)
        sock.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        sockets.append(sock)
    return sockets


def files_allowed() -> int:
    """How many descriptors this process may have."""
    try:
        import resource
    except ImportError:
        return 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


@pytest.mark.once
def test_thousands_of_half_open_connections() -> None:
    """They take each other's places: whoever comes and says what it wants is served, streams go on."""
    places = 200
    number = min(3000, files_allowed() - 300)
    assert number >= 1000, "too few descriptors to try it"
    with serving(HYBRID_MAX_CONNECTIONS=places) as server, server.opened() as stream:
        sockets = half_open(server, number)
        try:
            with counted(server, "connection_gave_way", 0):
                assert server.ask("GET", "/health").status == 200
            server.emit("note", data=1)
            assert stream.wait_for("note") == [1]
            wait_until(lambda: refusals(server).get("connection_gave_way", 0) >= number - places,
                       what="the oldest to have given way")
            assert server.status()["server"]["connections"] <= places
            sockets[0].settimeout(20)
            with contextlib.suppress(ConnectionError):  # the first has been hung up on
                assert sockets[0].recv(1000) == b""
        finally:
            for sock in sockets:
                sock.close()
        wait_until(lambda: server.status()["server"]["connections"] <= 1, what="their places to be free")


@pytest.mark.long
def test_a_connection_that_is_served_does_not_give_way() -> None:
    """With every place being served, one more is told so; those that are served get their answers."""
    with serving(HYBRID_MAX_CONNECTIONS=2) as server, server.connect() as first, server.connect() as second:
        for http in (first, second):
            http.request("GET", "/work?seconds=5")
        wait_until(lambda: server.log().count("working") == 2, what="both to be served")
        with Http(server.port) as third:
            answer = third.answer()
            assert code(answer) == (503, "too_many_connections")
            assert answer.headers["retry-after"] == "1"
            assert third.closed()
        for http in (first, second):
            assert http.answer().status == 200
            http.close()
        assert refusals(server)["too_many_connections"] == 1


@pytest.mark.parametrize("beginning", [
    b"", b"G", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\nX: ",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
])
def test_a_request_that_trickles_is_ended(trickled: Server, beginning: bytes) -> None:
    """A byte now and then buys no time: neither in the line, the head, the body, its chunks nor its trailers."""
    chunked = b"chunked" in beginning and b"0\r\n" not in beginning
    with Http(trickled.port) as http:
        http.send(beginning)
        ends = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < ends:
                http.send(b"1\r\na\r\n" if chunked else b"a")
                http.sock.settimeout(0.1)
                try:
                    if not http._more():
                        break
                except TimeoutError:
                    continue
        assert time.monotonic() < ends
        assert statuses(http._buffer) in ([], [400], [408])


@pytest.fixture(scope="module")
def trickled() -> Iterator[Server]:
    with Server("ours", HYBRID_REQUEST_S=0.5) as server:
        yield server


def test_streams_are_bounded_per_address() -> None:
    """Behind a proxy on this machine the address is the one that it wrote; a full one is shed, others are not."""
    with serving(HYBRID_MAX_STREAMS_PER_ADDRESS=2, HYBRID_MAX_STREAMS=4, HAKGAL_API_KEY="k") as server:
        theirs = {"X-API-Key": "k", **REMOTE}
        other = {"X-API-Key": "k", "X-Forwarded-For": "203.0.113.10"}
        with contextlib.ExitStack() as opened:
            for _ in range(2):
                opened.enter_context(server.opened(headers=theirs))
            with server.stream(headers=theirs) as refused:
                assert refused.status == 200
                refused.read_to_end()
                [busy] = refused.payloads("hybrid_busy")
                assert busy["code"] == "too_many_streams"
                assert f"retry: {busy['retry_ms']}\n".encode() in bytes(refused.raw)
                assert 5000 <= busy["retry_ms"] <= 10_000
            answer = server.ask("GET", "/api/events/stream", None, {**theirs, "Accept": "application/json"})
            assert code(answer) == (429, "too_many_streams")
            assert int(answer.headers["retry-after"]) >= 1
            for _ in range(2):
                opened.enter_context(server.opened(headers=other))
            assert code(server.ask("GET", "/api/events/stream", None, {
                "X-API-Key": "k", "Accept": "*/*"})) == (503, "too_many_streams")
            assert server.status()["refusals"]["too_many_streams"] == 3


def test_connecting_is_bounded_per_address() -> None:
    """More than ``HYBRID_CONNECT_RATE`` a second are refused; others are not, nor are clients that come back."""
    with serving(HYBRID_CONNECT_RATE=0.2, HAKGAL_API_KEY="k") as server:
        theirs = {"X-API-Key": "k", **REMOTE}
        connected = server.ask("POST", CONNECT, {}, theirs).json()
        with server.opened(headers=theirs):
            pass
        answer = server.ask("POST", CONNECT, {}, theirs)
        assert code(answer) == (429, "too_many_connects")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        with server.stream(headers=theirs) as refused:
            refused.read_to_end()
            assert refused.payloads("hybrid_busy")[0]["code"] == "too_many_connects"
        assert server.status()["refusals"]["too_many_connects"] == 2
        with server.opened(f"ticket={connected['ticket']}", headers=theirs), server.opened():
            assert b'code="too_many_connects"} 2.0' in server.ask("GET", "/api/hybrid/metrics").body


def test_connecting_without_a_stream_keeps_nobody_out() -> None:
    """Who connects and opens no stream gives way to others, those of the address with most of them first."""
    with serving(HYBRID_MAX_STREAMS=6, HAKGAL_API_KEY="k") as server, contextlib.ExitStack() as opened:
        theirs, other = {"X-API-Key": "k", **REMOTE}, {"X-API-Key": "k", "X-Forwarded-For": "203.0.113.10"}
        fair = server.ask("POST", CONNECT, {}, other).json()
        for _ in range(20):
            assert server.ask("POST", CONNECT, {}, theirs).status == 200
        for _ in range(4):
            opened.enter_context(server.opened())
        opened.enter_context(server.opened(f"ticket={fair['ticket']}", headers=other))
        assert server.status()["refusals"]["connect_gave_way"] == 19
        assert server.status()["streams"] == 5


def test_open_and_drop_costs_nobody_else_his_way_back() -> None:
    """If there are too many clients away, the address with most of them loses its oldest ones."""
    with serving(HYBRID_MAX_CLIENTS=5, HAKGAL_API_KEY="k") as server:
        theirs, other = {"X-API-Key": "k", **REMOTE}, {"X-API-Key": "k", "X-Forwarded-For": "203.0.113.10"}
        fair = server.ask("POST", CONNECT, {}, other).json()
        with server.opened(f"ticket={fair['ticket']}", headers=other):
            pass
        for _ in range(20):
            with server.opened(headers=theirs):
                wait_until(lambda: server.status()["streams"] == 1)
            wait_until(lambda: server.status()["streams"] == 0)
        again = server.ask("POST", CONNECT, {"sid": fair["sid"], "token": fair["token"]}, other).json()
        assert again["resumed"] is True
        assert server.status()["refusals"]["resume_gave_way"] == 16


def test_commands_are_bounded_per_address() -> None:
    """More than ``HYBRID_COMMAND_RATE`` a second are refused with 429, over a WebSocket as well; others go on."""
    with serving(HYBRID_COMMAND_RATE=0.01, HAKGAL_API_KEY="k", ENABLE_WS_SPECIAL=1) as server:
        key = {"X-API-Key": "k"}
        assert server.ask("POST", EMIT, {"event": "echo"}, key).status == 200
        answer = server.ask("POST", CONTROL, {"action": "status"}, key)
        assert code(answer) == (429, "too_many_commands")
        assert 90 <= int(answer.headers["retry-after"]) <= 100
        assert server.ask("POST", CONTROL, {"action": "status"}, {**key, **REMOTE}).status == 200
        assert server.ask("POST", "/api/events/connect", {}, key).status == 200, "connecting is no command"
        assert server.status()["refusals"]["too_many_commands"] == 1
        websocket = pytest.importorskip("websocket")
        ws = websocket.create_connection(f"ws://127.0.0.1:{server.port}/api/events/ws", timeout=20,
                                         header=["X-API-Key: k"])
        try:
            ws.send(json.dumps({"do": "emit", "event": "echo", "ref": 1}))
            told = json.loads(ws.recv())
            while "reply" not in told:
                told = json.loads(ws.recv())
            assert (told["reply"], told["status"], told["body"]["code"]) == (1, 429, "too_many_commands")
        finally:
            ws.close()
        assert server.status()["refusals"]["too_many_commands"] == 2


def test_bodies_are_bounded_together() -> None:
    """Uploads that never end hold at most ``HYBRID_QUEUE_BYTES`` together; the next one is told to come back."""
    size = 1 << 20
    with serving(HYBRID_QUEUE_BYTES=3 * size) as server, contextlib.ExitStack() as opened:
        head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * size}\r\n\r\n".encode()
        for _ in range(2):
            http = opened.enter_context(Http(server.port))
            http.send(head + b"x" * (size + 65536))
        wait_until(lambda: statuses(_upload(server, head, size)) == [503], what="a refusal")
        assert refusals(server)["too_many_requests_waiting"] >= 1
        assert server.ask("GET", "/health").status == 200


def _upload(server: Server, head: bytes, size: int) -> bytes:
    with Http(server.port) as http:
        with contextlib.suppress(ConnectionError, TimeoutError):
            http.send(head + b"x" * (2 * size))
            return http.sock.recv(1000)
    return b""


@pytest.mark.parametrize(("setting", "value", "request_", "expected"), [
    ("HYBRID_MAX_BODY_BYTES", 10, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n",
     (413, "body_too_large")),
    ("HYBRID_MAX_HEAD_BYTES", 1024, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1024 + b"\r\n\r\n",
     (431, "head_too_large")),
    ("HYBRID_REQUEST_S", 0.3, b"GET / HTTP/1.1\r\n", (408, "request_timeout")),
])
def test_limits_of_requests(setting: str, value: float, request_: bytes, expected: tuple[int, str]) -> None:
    """Each has a setting, a refusal that says so, and a counter."""
    with serving(**{setting: value}) as server:
        answer = said(server, request_)
        assert statuses(answer) == [expected[0]]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == expected[1]
        assert refusals(server)[expected[1]] == 1


# -- the parts -----------------------------------------------------------------------------------------------------


def test_a_rate_lets_a_seconds_worth_through_and_then_so_many_a_second() -> None:
    """Time is given, so that nothing is waited for."""
    now = [0.0]
    rate = RateLimiter(10, lambda: now[0])

    def taken(address: str) -> int:
        count = 0
        with contextlib.suppress(Overloaded):
            while count < 100:
                rate.take(address)
                count += 1
        return count

    assert taken("a") == 10
    assert taken("b") == 10
    now[0] = 0.5
    assert taken("a") == 5
    now[0] = 100.0
    assert taken("a") == 10
    with pytest.raises(Overloaded) as caught:
        rate.take("a")
    assert (caught.value.status, caught.value.retry_after) == (429, 1)


def test_a_rate_that_is_refused_does_not_put_off_the_next_token() -> None:
    """Asking in vain costs nothing: who waits as long as it was told gets through."""
    now = [0.0]
    rate = RateLimiter(1, lambda: now[0])
    rate.take("a")
    for tenth in range(1, 10):
        now[0] = tenth / 10
        with pytest.raises(Overloaded):
            rate.take("a")
    now[0] = 1.01
    rate.take("a")


def test_a_rate_remembers_so_many_addresses_only() -> None:
    """Addresses that were made up do not fill the memory."""
    rate = RateLimiter(1, lambda: 0.0)
    for number in range(MAX_ADDRESSES + 100):
        rate.take(str(number))
    assert len(rate._buckets) == MAX_ADDRESSES


def test_connections_give_way_oldest_first() -> None:
    """And only those that are waited for."""
    gone: list[str] = []
    connections = AdmissionControl(2, lambda: gone.append("counted"))
    a = connections.enter(lambda: gone.append("a"))
    b = connections.enter(lambda: gone.append("b"))
    assert a is not None
    assert b is not None
    connections.serve(a)
    c = connections.enter(lambda: gone.append("c"))
    assert gone == ["counted", "b"]
    assert c is not None
    connections.serve(c)
    assert connections.enter(lambda: None) is None
    connections.wait_for(a)
    connections.wait_for(b)  # too late: its place is another's
    assert connections.enter(lambda: None) is not None
    assert gone == ["counted", "b", "counted", "a"]
    for place in (a, b, c, c):
        connections.leave(place)
    assert connections.open == 1


def test_a_budget_is_given_back() -> None:
    """What does not fit is not taken."""
    budget = Budget(10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(10)
    assert budget.take(1)


def test_a_bounded_list_has_no_holes() -> None:
    """Once something did not fit, nothing more is taken, however small."""
    items: BoundedList[str] = BoundedList(len, 5)
    for item in ("abc", "defg", "h"):
        items.append(item)
    assert (list(items), items.dropped) == (["abc"], 2)


def test_a_bounded_list_can_be_interrupted_by_itself() -> None:
    """A finalizer that emits to the same caller, while its thread is in there, hangs nowhere."""
    def size(item: str) -> int:
        if item == "a":
            items.append("b")  # as the garbage collector may have it
        return 1

    items: BoundedList[str] = BoundedList(size, 5)
    adding = threading.Thread(target=items.append, args=("a",), daemon=True)
    adding.start()
    adding.join(SOON)
    assert not adding.is_alive()
    assert list(items) == ["b", "a"]


def test_refusals_are_counted_by_code() -> None:
    """In alphabetical order, so that a reader finds them."""
    counts = Refusals()
    for name in ("b", "a", "b"):
        counts.count(name)
    assert list(counts.snapshot().items()) == [("a", 1), ("b", 2)]
