"""Fuzzing by hypothesis: whatever comes in, nothing breaks, hangs, or is left behind.

A short run with the other tests; ``make fuzz`` runs it for long: ``FUZZ_EXAMPLES`` says how many examples each test
tries.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attacks import HEALTH, statuses
from support.servers import EMIT, STREAM, Http, InProcess, Server, shown_on_failure, wait_until

from hakgal_hybrid import ConfigurationError, Settings
from hakgal_hybrid.broker.sse import Decoder, encode_event
from hakgal_hybrid.settings import load_settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def tries(number: int) -> Any:
    """Try so many examples, or as many as a long run asks for; a short run always tries the same ones."""
    return settings(max_examples=EXAMPLES or number, deadline=None, database=None, derandomize=not EXAMPLES,
                    suppress_health_check=list(HealthCheck))


#: The server that the tests here share.
SERVER = {"HYBRID_REQUEST_S": 2, "HYBRID_MAX_BODY_BYTES": 100_000, "HYBRID_HEARTBEAT_S": 0.2,
          "HYBRID_RESUME_S": 0, "HYBRID_COMMAND_RATE": 1_000_000, "HYBRID_CONNECT_RATE": 1_000_000}


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The server; after the test it still answers, holds nothing, and has logged no error of its own."""
    with shown_on_failure(running):
        start = len(running.log().encode())
        yield running
        assert running.ask("GET", "/health").status == 200
        wait_until(lambda: running.status()["streams"] == 0, 20, "no streams")
        wait_until(lambda: running.status()["server"]["requests"] == 1, 20, "no requests")
        assert not re.search(r"Traceback|ERROR hakgal", running.log(start))


# -- the decoder -----------------------------------------------------------------------------------------------------

blocks = st.lists(st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"data:", b"data: ", b"id: ", b"event: ", b"retry: ", b":", b"\n", b"\r", b"\r\n", b"\n\n", b"\0",
                     b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xff", b"9" * 30]),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))), max_size=40).map(b"".join)


@tries(150)
@given(stream=blocks, cuts=st.lists(st.integers(0, 400), max_size=10))
def test_the_decoder_takes_anything(stream: bytes, cuts: list[int]) -> None:
    """However it is cut the messages are the same, and none of them has what the format cannot carry."""
    whole = Decoder().feed(stream)
    pieces, decoder, last = [], Decoder(), 0
    for cut in [*sorted(cuts), len(stream)]:
        pieces += decoder.feed(stream[last:cut]) if cut > last else []
        last = max(last, cut)
    assert pieces == whole
    for message in whole:
        assert not set("\r\n") & set(message.event + message.id)
        assert "\r" not in message.data
        assert "\0" not in message.id


@tries(150)
@given(name=st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
       value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
                          | st.dictionaries(st.text(), inner), max_leaves=8))
def test_what_is_encoded_is_decoded(name: str, value: Any) -> None:
    """One event in, the same one out, whatever it carries."""
    try:
        data = json.dumps(value, ensure_ascii=False)
        data.encode()
    except UnicodeEncodeError:
        data = json.dumps(value)
    [message] = Decoder().feed(encode_event(data, event=name, event_id="1-1"))
    assert (message.event, json.loads(message.data), message.id) == (name, value, "1-1")


# -- settings ---------------------------------------------------------------------------------------------------------

FIELDS = {field.metadata["env"]: field for field in Settings.__dataclass_fields__.values()}
values = st.one_of(st.text(max_size=20), st.integers().map(str), st.floats().map(str), st.sampled_from(
    ["", "0", "1", "-1", "1e999", "nan", "inf", "\u0663", "1_000", "0x10", " 5 ", "true", "TRUE", "None", "https://[",
     "https://a.b:99999", "http://x/", "*", ",,,", "a\0b"]))


@tries(300)
@given(chosen=st.dictionaries(st.sampled_from(sorted(FIELDS)), values, max_size=6), odd=st.booleans())
def test_settings_are_taken_or_refused(chosen: dict[str, str], odd: bool) -> None:
    """Any text in any variable: settings within their bounds, or an error that names the variable and hides keys."""
    environ = {**chosen, **({"HYBRID_THREAD": "1"} if odd else {})}
    try:
        loaded = load_settings({}, environ)
    except ConfigurationError as refused:
        error = refused
    else:
        error = None
    if error is not None:
        assert error.extra["variable"] in environ
        assert error.extra["variable"] != "HAKGAL_API_KEY" or error.detail.startswith("HAKGAL_API_KEY='***'")
        return
    assert not odd
    assert isinstance(loaded, Settings)
    assert loaded.api_key is None or f"api_key='{loaded.api_key}'" not in repr(loaded)
    again = load_settings({}, {}, **{name: getattr(loaded, name) for name in Settings.__dataclass_fields__})
    assert again == loaded


@tries(150)
@given(value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
                       st.lists(st.text()), st.dictionaries(st.text(), st.text())), env=st.sampled_from(sorted(FIELDS)))
def test_values_of_any_type_are_taken_or_refused(value: Any, env: str) -> None:
    """In ``app.config`` and as keywords a value can be anything."""
    for config, keywords in (({FIELDS[env].metadata["config"]: value}, {}), ({}, {FIELDS[env].name: value})):
        with contextlib.suppress(ConfigurationError):
            load_settings(config, {}, **keywords)


# -- bytes ------------------------------------------------------------------------------------------------------------

tokens = st.sampled_from([
    b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"PUT ", b"/health", b"/echo", b"/api/events/stream", b"/api/events/emit",
    b"/api/hybrid/status", b"/api/governor/control", b"*", b"http://x/health", b"?a=b&ticket=x", b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n", b" HTTP/0.9\r\n", b"Host: x\r\n", b"Host: localhost\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Type: application/json\r\n", b"Expect: 100-continue\r\n",
    b"Last-Event-ID: 5-5\r\n", b"Accept: text/event-stream\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b"{}", b'{"event": "echo"}', b"\xff\xfe", b"\x16\x03\x01"])
anything = st.lists(st.one_of(tokens, tokens, st.binary(max_size=20)), max_size=15).map(b"".join)
almost = st.lists(st.one_of(tokens, st.binary(max_size=10)), max_size=8).map(
    lambda parts: b"POST /echo HTTP/1.1\r\nHost: x\r\n" + b"".join(parts) + b"\r\n\r\n")


@tries(120)
@given(data=st.one_of(anything, almost), half=st.booleans())
def test_any_bytes_are_answered_or_refused(running: Server, data: bytes, half: bool) -> None:
    """What comes back are HTTP answers, none of them 500; who reads nothing more is given up, and others are served."""
    with Http(running.port) as http:
        with contextlib.suppress(ConnectionError):
            http.send(data)
            if half:
                http.sock.shutdown(1)
            while select.select([http.sock], [], [], 0.02)[0] and http._more():
                pass
        told = http._buffer
    assert not told or told.startswith(b"HTTP/1.1 "), told
    assert not [status for status in statuses(told) if status in (500, 502)], told
    assert running.process.poll() is None


def test_the_server_is_whole_after_that(server: Server) -> None:
    """No thread, no request and no stream is left, and nothing was logged as an error."""
    with Http(server.port) as http:
        http.send(HEALTH)
        assert http.answer().status == 200


# -- Last-Event-ID ----------------------------------------------------------------------------------------------------

ids = st.one_of(
    st.text(max_size=60), st.from_regex(r"[0-9]{1,30}-[0-9]{1,30}", fullmatch=True), st.integers().map(str),
    st.sampled_from(["", "-", "0-0", "-1-5", "1-", "-1", "\u0661-\u0662", "1-2-3", "9" * 5000, f"{'9' * 400}-1",
                     "1e3-5", "0x1-0x2", " 1-1 ", "NaN-1", "1-1\0"]))


@pytest.fixture(scope="module")
def local() -> InProcess:
    from support.app import create_app

    return InProcess(create_app(heartbeat_s=0.05, resume_s=0))


@tries(60)
@given(last=ids, own=st.integers(-3, 8), known=st.booleans(), query=st.booleans())
def test_any_last_event_id_opens_a_stream(local: InProcess, last: str, own: int, known: bool, query: bool) -> None:
    """Whatever the id: a stream that goes on, with a gap that says what could not be had, if it could not."""
    epoch, _, newest = local.emit("note", 2).partition("-")
    if known:
        last = f"{epoch}-{int(newest) - own}"
    header = last if not query and last.isascii() and last.isprintable() else None
    if header is None:
        stream = local.opened(urlencode({"last_event_id": last}, errors="surrogatepass"))
    else:
        stream = local.opened(headers={"Last-Event-ID": header})
    with stream:
        gaps = stream.payloads("hybrid_gap")
        local.emit("after")
        stream.wait_for("after")
        gaps = stream.payloads("hybrid_gap")
        assert len(gaps) <= 1
        if known and 0 <= own <= 2:
            assert not gaps
            assert len(stream.named("note")) == own
        if gaps:
            assert gaps[0]["reason"] in ("evicted", "restarted", "malformed", "future", "slow")


# -- queries and bodies -----------------------------------------------------------------------------------------------

names = st.sampled_from(["events", "namespace", "snapshot", "envelope", "format", "unnamed", "heartbeat", "ticket",
                         "last_event_id", "x"])
words = st.one_of(st.text(max_size=20),
                  st.sampled_from(["1", "0", "gap", "event", "/", "/x", "*", "a*,b", "kb_*", "html",
                                   "datastar"]))


@tries(100)
@given(query=st.lists(st.tuples(names, words), max_size=6))
def test_any_query_opens_a_stream_or_is_refused(local: InProcess, query: list[tuple[str, str]]) -> None:
    """422 or 403 with a code, or a stream that begins as streams do."""
    with local.stream(urlencode(query, errors="surrogatepass")) as stream:
        if stream.status == 200:
            stream.read_until(lambda stream: stream.messages)
            assert "hybrid_open" in (stream.messages[0].event, json.loads(stream.messages[0].data).get("event"))
        else:
            assert stream.status in (403, 422)
            assert stream.headers["content-type"] == "application/problem+json"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4), max_leaves=10)
members = st.sampled_from(["event", "data", "args", "namespace", "sid", "number", "$binary", "x"])
messages = st.dictionaries(members, st.one_of(json_values, st.sampled_from(
    ["echo", "single", "join", "ask", "count", "connect", "/", "/chat", 1, [], {"$binary": "AA=="}, {"$binary": 5}])),
    max_size=6)


@tries(120)
@given(message=messages)
def test_any_event_is_handled_or_refused(running: Server, message: dict[str, Any]) -> None:
    """200 with an answer, or a problem with a code; what a handler could not do is its own 500."""
    answer = running.ask("POST", EMIT, json.dumps(message).encode(), {"Content-Type": "application/json"})
    body = answer.json()
    assert answer.status in (200, 400, 403, 404, 409, 422, 500), answer
    assert "ack" in body if answer.status == 200 else body["code"]
    assert answer.status != 500 or body["code"] == "handler_failed"


@tries(100)
@given(body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")),
                      messages.map(lambda value: json.dumps(value).encode()[:-1])))
def test_any_body_is_read_or_refused(server: Server, body: bytes) -> None:
    """No bytes are a server's error."""
    for path in (EMIT, "/api/events/connect", "/api/events/ticket", "/api/governor/control", "/api/events/ack"):
        answer = server.ask("POST", path, body, {"Content-Type": "application/json"})
        assert 200 <= answer.status < 500, answer
        assert answer.json()


def test_a_stream_of_the_fuzzed_server_works(server: Server) -> None:
    """After all that an event still arrives."""
    with server.opened() as stream:
        server.emit("note", data=1)
        assert stream.wait_for("note") == [1]
    assert STREAM in server.ask("GET", "/api/hybrid/openapi.json").body.decode()
