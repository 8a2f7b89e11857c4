"""CORS: preflights of every URL of ours, and refusals that a page can read, whoever refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from support.servers import CONTROL, EMIT, STATUS, STREAM, Answer, Server, wait_until

from hakgal_hybrid.web.urls import ROUTES, Access

ALLOWED, FOREIGN = "http://localhost:5173", "https://foreign.example"
ASKED = "Authorization, X-Request-ID, x-made-up"


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server of our own with small bounds."""
    with Server("ours", HYBRID_MAX_MESSAGE_BYTES=1000,
                HYBRID_MAX_HEAD_BYTES=4096, HYBRID_REQUEST_S=0.5, ENABLE_WS_SPECIAL="true") as server:
        yield server


def path_of(rule: str) -> str:
    return rule.replace("<id>", "abc").replace("<file>", "app.js")


@pytest.mark.parametrize("kind", ["ours", "werkzeug"])
def test_preflights_of_every_url(kind: str) -> None:
    """A page of an allowed origin may send to each URL what its preflight asks for; a foreign one may send nothing."""
    with Server(kind, ENABLE_WS_SPECIAL="true") as server:
        for rule, route in ROUTES.items():
            method = route.methods.split(", ")[0]
            asks = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ASKED,
                    "Access-Control-Request-Private-Network": "true"}
            answer = server.ask("OPTIONS", path_of(rule), headers={"Origin": ALLOWED, **asks})
            assert answer.status == 204, (rule, answer)
            assert answer.headers["access-control-allow-origin"] == ALLOWED
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["access-control-allow-private-network"] == "true"
            assert method in answer.headers["access-control-allow-methods"]
            allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
            assert {"authorization", "x-request-id", "x-made-up", "x-api-key", "last-event-id"} <= set(allowed)
            foreign = server.ask("OPTIONS", path_of(rule), headers={"Origin": FOREIGN, **asks})
            assert foreign.status == (204 if route.access is Access.PUBLIC else 403), (rule, foreign)
            assert "access-control-allow-methods" not in foreign.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_refusals_of_every_url_can_be_read(small: Server, method: str) -> None:
    """By a page of an allowed origin as such, and by a foreign one because it is refused for that."""
    for rule, route in ROUTES.items():
        if route.access is Access.PUBLIC or (rule == STREAM and method == "GET"):
            continue
        allowed = small.ask(method, path_of(rule), headers={"Origin": ALLOWED, "X-API-Key": "any"})
        assert allowed.headers["access-control-allow-origin"] == ALLOWED, (rule, allowed)
        foreign = small.ask(method, path_of(rule), headers={"Origin": FOREIGN})
        assert foreign.json()["code"] == "foreign_origin", (rule, foreign)
        assert foreign.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in foreign.headers


def readable(answer: Answer, origin: str) -> None:
    """A page of this origin can read the answer."""
    given = answer.headers["access-control-allow-origin"]
    assert given == (origin if origin == ALLOWED else "*"), answer
    assert "Retry-After" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", [ALLOWED, FOREIGN])
def test_a_body_that_is_too_large(small: Server, origin: str) -> None:
    """It is refused before any application is asked, and the page can read that."""
    answer = small.ask("POST", EMIT, {"event": "x" * 2000}, {"Origin": origin})
    assert answer.status == 413
    readable(answer, origin)
    assert "Origin" in answer.headers["vary"]


@contextlib.contextmanager
def waiting(path: str) -> Iterator[Server]:
    """Yield a server whose only thread for such requests is held by one."""
    lane = "stream" if path.startswith(STREAM) else "host"
    with Server("ours", HYBRID_THREADS=1, HYBRID_RESERVED_THREADS=1, HYBRID_QUEUE_S=0.3) as server:
        with server.connect() as http:
            http.request("GET", path)
            wait_until(lambda: server.status()["server"]["lanes"][lane]["busy"], 10, "the thread to be busy")
            yield server
            server.ask("POST", CONTROL, {"action": "set_mode", "mode": "release"})


def test_no_thread_is_free() -> None:
    """The 503 of a command that waited in vain can be read; that of the host's own URL is the host's affair."""
    with waiting("/hold") as server:
        for origin in (ALLOWED, FOREIGN):
            answer = server.ask("POST", EMIT, {"event": "echo"}, {"Origin": origin})
            assert (answer.status, answer.json()["code"]) == (503, "queued_too_long")
            readable(answer, origin)
            assert "access-control-allow-origin" not in server.ask("GET", "/health", headers={"Origin": origin}).headers


def test_a_stream_that_is_turned_away() -> None:
    """A page reads ``hybrid_busy`` where no thread for streams is free."""
    with waiting(f"{STREAM}?hang=1") as server:
        for origin in (ALLOWED, FOREIGN):
            with server.stream(headers={"Origin": origin}) as stream:
                stream.read_to_end()
                assert [message.event for message in stream.messages] == ["hybrid_busy"]
                readable(Answer(200, stream.headers, b""), origin)


@pytest.mark.parametrize(("data", "status"), [
    (b"GET /api/hybrid/status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /api/hybrid/status HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5000 + b"\r\n\r\n", 431),
    (b"GET /api/hybrid/status?" + b"x" * 9000, 414), (b"GET /api/hybrid/status HTTP/1.1\r\n", 408),
    (b"POST /api/events/emit HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:5173\r\n"
     b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n", 408)])
def test_what_is_no_request(small: Server, data: bytes, status: int) -> None:
    """Whoever made it can read why it is none."""
    with small.connect() as http:
        http.send(data)
        answer = http.answer()
    assert answer.status == status
    readable(answer, ALLOWED if b"Origin" in data else FOREIGN)


def test_what_is_allowed_stays_allowed(small: Server) -> None:
    """Each header stands once."""
    with small.connect() as http:
        http.request("GET", STATUS, headers={"Origin": ALLOWED, "Connection": "close"})
        head = http.until(b"\r\n\r\n").lower()
    assert head.count(b"access-control-allow-origin:") == 1
