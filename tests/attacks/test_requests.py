"""Requests that look almost right: keys, addresses, hosts, origins, paths, content types, JSON."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import statistics
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.attacks import KEY, REMOTE, code, counted, refusals, said, statuses
from support.servers import CONTROL, EMIT, STATUS, STREAM, Server, shown_on_failure

import hakgal_hybrid
from hakgal_hybrid.broker import client
from hakgal_hybrid.web import access as guard

WITH_KEY = {"X-API-Key": KEY}
MAX_BODY = 100_000


#: The server that the tests here share.
SERVER = {"HAKGAL_API_KEY": KEY, "HYBRID_MAX_MESSAGE_BYTES": MAX_BODY}
SERVER_KINDS = ["ours", "werkzeug"]


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    with shown_on_failure(running):
        start = len(running.log().encode())
        yield running
        assert "Traceback" not in running.log(start)


@pytest.fixture(scope="module", params=["ours", "werkzeug"])
def keyless_running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as server:
        yield server


@pytest.fixture
def keyless(keyless_running: Server) -> Iterator[Server]:
    with shown_on_failure(keyless_running):
        start = len(keyless_running.log().encode())
        yield keyless_running
        assert "Traceback" not in keyless_running.log(start)


# -- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [
    None, "", " ", KEY[:-1], KEY[1:], KEY + "x", f"{KEY} x", KEY.upper(), KEY.swapcase(), KEY[::-1], f"{KEY}\t{KEY}",
    f'"{KEY}"', f"Bearer {KEY}", "null", "undefined", "*", "%6b" + KEY[1:], KEY.replace("3", "\xb3"), "\xff" * 20,
    "x" * 4000, f"{KEY},{KEY}",
], ids=lambda key: ascii(key)[:24])
def test_keys_that_are_missing_or_wrong(server: Server, key: str | None) -> None:
    """Nothing but the very key commands, and reads from another machine."""
    headers = {} if key is None else {"X-API-Key": key}
    for answer in (server.ask("POST", CONTROL, {"action": "stop"}, headers),
                   server.ask("POST", EMIT, {"event": "echo"}, headers),
                   server.ask("GET", STATUS, None, {**REMOTE, **headers}),
                   server.ask("GET", STREAM, None, {**REMOTE, **headers})):
        assert answer.status == 401
        assert KEY not in answer.body.decode()


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Token", "Api-Key", "X_API_KEY", "Cookie", "X-API-Key2"])
def test_a_key_in_another_place_is_none(server: Server, name: str) -> None:
    """Not in other headers, not in the query, not in the body."""
    assert server.ask("POST", CONTROL, {"action": "stop"}, {name: KEY}).status == 401
    query = f"X-API-Key={KEY}&apiKey={KEY}&api_key={KEY}&key={KEY}"
    assert server.ask("POST", f"{CONTROL}?{query}", {"action": "stop", "apiKey": KEY}).status == 401
    assert KEY not in server.log()


def test_two_keys_are_none(running: Server) -> None:
    """A request with two of them is refused, the right one first or last."""
    for keys in ((KEY, "wrong"), ("wrong", KEY)):
        lines = "".join(f"X-API-Key: {key}\r\n" for key in keys)
        head = f"POST {CONTROL} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Type: application/json\r\n" \
               "Content-Length: 18\r\nConnection: close\r\n\r\n"
        assert statuses(said(running, head.encode() + b'{"action": "stop"}')[:200].replace(b"HTTP/1.0", b"HTTP/1.1")
                        ) == [401]


def _comparisons(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
            yield ast.unparse(node)


def test_secrets_are_compared_in_constant_time() -> None:
    """Everywhere in the package: no ``==`` on a key, a token or a ticket, and the comparison goes over digests."""
    package = Path(hakgal_hybrid.__file__).parent
    for path in package.rglob("*.py"):
        for text in _comparisons(ast.parse(path.read_text(encoding="utf-8"))):
            assert not any(word in text for word in ("api_key", ".token", ".ticket", "secret")), f"{path.name}: {text}"
    for function in (guard.same_secret, client.proves):
        assert "hmac.compare_digest" in ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    assert guard.same_secret(b"a", b"a")
    assert not guard.same_secret(b"a", b"b")


@pytest.mark.quiet
@pytest.mark.once
def test_how_long_a_comparison_takes_says_nothing() -> None:
    """A key that shares all but its last letter takes as long as one that shares nothing, or has another length.

    Medians of many, interleaved: the difference that a letter-by-letter comparison of so long a key would make is
    hundreds of times what is allowed here.
    """
    key = b"k" * 20_000
    guesses = {"nothing": b"x" * 20_000, "all but the last": b"k" * 19_999 + b"x", "right": key}
    times: dict[str, list[int]] = {name: [] for name in guesses}
    for _ in range(300):
        for name, guess in guesses.items():
            started = time.perf_counter_ns()
            guard.same_secret(guess, key)
            times[name].append(time.perf_counter_ns() - started)
    medians = [statistics.median(values) for values in times.values()]
    assert max(medians) < 3 * min(medians)


# -- where a request comes from -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [
    {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}, {"X-Real-IP": "203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=203.0.113.9"}, {"Forwarded": "for=127.0.0.1, for=203.0.113.9"},
    {"Forwarded": 'for="[2001:db8::1]:4711"'}, {"Forwarded": "for=_hidden"}, {"Forwarded": "for=unknown"},
    {"Forwarded": 'for=203.0.113.9;by="for=127.0.0.1"'}, {"X-Forwarded-For": ""}, {"X-Forwarded-For": "localhost.evil"},
    {"X-Forwarded-For": "127.0.0.1.evil.test"}, {"X-Forwarded-For": "0x7f000001"}, {"X-Forwarded-For": "2130706433"},
    {"X-Forwarded-For": "127.1"}, {"X-Forwarded-For": "::ffff:203.0.113.9"}, {"X-Forwarded-For": "0.0.0.0"},
    {"Forwarded": "proto=http"}, {"X-Forwarded-For": "127.0.0.1 203.0.113.9"},
], ids=str)
def test_addresses_that_a_proxy_wrote(keyless: Server, headers: dict[str, str]) -> None:
    """Whoever a proxy on this machine speaks for is another machine, unless it clearly says otherwise."""
    for method, path, body in (("GET", STATUS, None), ("GET", STREAM, None), ("POST", CONTROL, {"action": "status"})):
        assert code(keyless.ask(method, path, body, headers)) == (403, "loopback_only")


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", "localhost.evil.test", "evil",
                                  "localhost@evil.test", "0.0.0.0", "[::]", "169.254.169.254",
                                  "127.0.0.1:80@evil.test", "2130706433", "xn--lcalhost-fx9a"])
def test_dns_rebinding(keyless: Server, host: str) -> None:
    """A name that its owner has pointed at this machine is no name of this machine."""
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        for method, path, body in (("GET", STATUS, None), ("GET", STREAM, None), ("POST", EMIT, {"event": "echo"})):
            answer = keyless.ask(method, path, body, headers)
            assert code(answer)[0] in (400, 403)
            assert "access-control-allow-origin" not in answer.headers or "origin" in str(headers).lower()


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "", "http://localhost.evil.test",
                                    "http://evil.test:5001", "file://", "http://127.0.0.1.evil.test", "http://[::1", "https://evil.test/..",
                                    "http://localhost@evil.test",
                                    "chrome-extension://x", "http://evil.test\\@localhost"])
def test_foreign_origins(keyless: Server, origin: str) -> None:
    """A page of another origin reads and commands nothing but why it is refused, and never with its cookies."""
    for method, path, body in (("GET", STATUS, None), ("GET", STREAM, None), ("POST", EMIT, {"event": "echo"}),
                               ("OPTIONS", EMIT, None)):
        answer = keyless.ask(method, path, body, {"Origin": origin})
        assert code(answer) == (403, "foreign_origin")
        assert "access-control-allow-credentials" not in answer.headers
        assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize(("fetch", "allowed"), [
    ({"Site": "cross-site", "Mode": "no-cors", "Dest": "image"}, False),
    ({"Site": "cross-site", "Mode": "no-cors", "Dest": "script"}, False),
    ({"Site": "cross-site", "Mode": "navigate", "Dest": "iframe"}, False),
    ({"Site": "cross-site", "Mode": "navigate", "Dest": "document"}, True),
    ({"Site": "same-origin", "Mode": "no-cors", "Dest": "image"}, True),
    ({"Site": "none", "Mode": "navigate", "Dest": "document"}, True),
])
def test_what_another_site_embeds(keyless: Server, fetch: dict[str, str], allowed: bool) -> None:
    """An image or a script of another site's page comes without ``Origin``; browsers say where it comes from."""
    headers = {f"Sec-Fetch-{name}": value for name, value in fetch.items()}
    for method in ("GET", "HEAD"):
        assert keyless.ask(method, STATUS, None, headers).status == (200 if allowed else 403)
    with keyless.stream(headers=headers) as stream:
        assert stream.status == (200 if allowed else 403)


# -- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "//api/hybrid/status", "/./api/hybrid/status", "/api/../api/hybrid/status", "/x/..//api/hybrid/status",
    "/api/hybrid/status/", "/api/hybrid//status", "/api/hybrid/status;x=1", "/api/hybrid/status%00",
    "/api/hybrid/status%20",
    "/API/hybrid/status", "/api/hybrid/%73tatus", "/api%2fhybrid%2fstatus", "/%2e%2e/api/hybrid/status",
    "/api/hybrid/status%0d%0aX-Evil:%201", "/api\\hybrid\\status", "/api/hybrid/stat%u0075s",
    "/api/hybrid/status%C0%AF",
    "http://localhost/api/hybrid/status", "/api/governor/control/..%2f..%2fhybrid/status", "/\x80/api/hybrid/status",
    "/api/events/stream/", "//api/events/stream", "/api/events/%73tream", "///api/events/stream?ticket=x",
    "/api/governor/control/x/../y", "/api/governor/control//", "/api/hybrid/client.js/../status",
    "/api/hybrid/client.js%2f..%2fstatus",
])
def test_path_tricks(server: Server, path: str) -> None:
    """However a path is spelt, another machine without the key gets nothing of ours, and no header of its own."""
    for method in ("GET", "POST"):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 0\r\n" \
               "Connection: close\r\n\r\n"
        answer = said(server, head.encode("latin-1"))
        assert answer[9:12] in (b"400", b"401", b"403", b"404", b"405", b"308"), answer
        assert b"X-Evil" not in answer
        assert b'"newest"' not in answer


# -- bodies ------------------------------------------------------------------------------------------------------

ECHO = {"event": "echo", "args": [1]}


@pytest.mark.parametrize("content_type", [
    None, "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/json, text/plain", "text/plain; application/json", "application/jsonp", "application/*", "*/*",
    "application/json; charset=utf-16", "application/json; charset=utf-7", "application/json;charset=\"latin-1\"",
    "application/json; x=y; charset=ebcdic", "application/ json", "application/csp-report", "application/x-json",
])
def test_content_types_that_are_not_json(server: Server, content_type: str | None) -> None:
    """What a form, a beacon or a careless client sends is not even read."""
    headers = {**WITH_KEY, "Content-Type": content_type}
    with counted(server, "not_json"):
        answer = server.ask("POST", EMIT, json.dumps(ECHO).encode(), headers)  # type: ignore[arg-type]
    assert code(answer) == (415, "not_json")


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-32", "utf-7", "cp037"])
def test_json_in_another_charset(server: Server, charset: str) -> None:
    """JSON is UTF-8: nothing is guessed, so that nobody in front of us has read something else."""
    headers = {**WITH_KEY, "Content-Type": "application/json"}
    answer = server.ask("POST", EMIT, json.dumps(ECHO).encode(charset), headers)
    if charset == "utf-7":  # for these letters it is ASCII
        assert answer.status == 200
    else:
        assert code(answer) == (400, "bad_json")


@pytest.mark.parametrize("body", [
    b'{"event": "echo", "event": "shout", "args": ["x"]}', b'{"sid": null, "event": "echo", "sid": "x"}',
    b'{"event": "echo", "data": {"a": 1, "a": 2}}', b'{"event": "echo", "\\u0065vent": "shout"}',
    b'{"event": "echo"}{"event": "shout"}', b'{"event": "echo"} x', b"", b"null", b"[]", b'"echo"', b"7", b"{",
    b'{"event": "echo", "data": NaN}', b'{"event": "echo", "data": 1e999}', b'{"event": "echo",}', b"{'event': 'echo'}",
    b'{"event": "echo", "data": "\xff"}', b'{"event": "echo", "data": "\xed\xa0\x80"}',
    b'\xef\xbb\xbf{"event": "echo"}',
    b'{"event": "echo", "data": "a\nb"}', b'{"event": "echo", "data": "a\0b"}', b"\0", b'{"event": "echo"}\0',
    b"[" * 50_000 + b"]" * 50_000, b'{"event": "echo", "data": ' + b'{"data":' * 9000 + b"1" + b"}" * 9001,
    b'{"event": "echo", "data": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
], ids=lambda body: ascii(body)[:40])
def test_bodies_that_are_no_json_object(server: Server, body: bytes) -> None:
    """Keys that come twice, text behind it, what JSON does not know, nested without end: 400, and no thread is lost."""
    answer = server.ask("POST", EMIT, body, {**WITH_KEY, "Content-Type": "application/json"})
    assert code(answer) in ((400, "bad_json"), (422, "bad_payload")), answer
    assert server.ask("POST", EMIT, ECHO, WITH_KEY).json()["ack"] == [1]


@pytest.mark.parametrize("number", ["1" * 5000, "-" + "9" * 90_000, "1e99999999", "0." + "0" * 50_000 + "1"],
                         ids=lambda number: number[:12])
def test_numbers_of_any_size(server: Server, number: str) -> None:
    """A number that would take long to read, or is none for a double, is refused or taken, at once."""
    answer = server.ask("POST", EMIT, f'{{"event": "echo", "data": {number}}}'.encode(),
                        {**WITH_KEY, "Content-Type": "application/json"})
    assert answer.status in (200, 400, 422)


def test_a_gzip_bomb_is_not_unpacked(server: Server) -> None:
    """Nobody unpacks a body: one that says it is packed is refused, one that does not say so is no JSON."""
    bomb = gzip.compress(b'{"event": "echo", "data": "' + b"x" * 50_000_000 + b'"}')
    assert len(bomb) < MAX_BODY
    for encoding in ("gzip", "GZIP", "deflate", "br", "gzip, gzip", "x-gzip", "identity, gzip"):
        answer = server.ask("POST", EMIT, bomb, {**WITH_KEY, "Content-Type": "application/json",
                                                 "Content-Encoding": encoding})
        assert code(answer) == (415, "not_json"), encoding
    assert code(server.ask("POST", EMIT, bomb, {**WITH_KEY, "Content-Type": "application/json"})) == (400, "bad_json")
    if server.kind == "ours":
        answer = said(server, b"POST /api/events/emit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" + bomb)
        assert statuses(answer) == [400]


def test_a_body_that_is_too_large(running: Server) -> None:
    """It is refused by its length, before it is read, and counted; under any server."""
    with counted(running, "body_too_large"):
        answer = running.ask("POST", EMIT, b" " * (MAX_BODY + 1), {**WITH_KEY, "Content-Type": "application/json"})
    assert code(answer) == (413, "body_too_large")


def test_our_urls_take_smaller_bodies_than_the_hosts() -> None:
    """By default a message has up to 1 MiB, by its length and while it is read; the host's bodies may have more."""
    head = b"POST /api/events/emit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with Server("ours") as server:
        fitting = b'{"event": "echo", "data": "' + b"x" * ((1 << 20) - 29) + b'"}'
        assert len(fitting) == 1 << 20
        assert server.ask("POST", EMIT, fitting, {"Content-Type": "application/json"}).status == 200
        assert statuses(said(server, head + b"Content-Length: 1048577\r\n\r\n")) == [413]
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        answer = said(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + 17 * chunk)
        assert statuses(answer) == [413]
        assert b"HYBRID_MAX_MESSAGE_BYTES" in answer
        assert server.ask("POST", "/echo", b"x" * (2 << 20)).status == 200


POST = b"POST /api/events/%s HTTP/1.1\r\nHost: localhost\r\n%s"
JSON = b"Content-Type: application/json\r\n"
WITH = b"X-API-Key: " + KEY.encode() + b"\r\n"


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with Server("ours", **SERVER, HYBRID_REQUEST_S=60) as server:
        yield server


@pytest.mark.parametrize(("path", "headers", "expected"), [
    (b"emit", JSON, (401, "key_required")),
    (b"emit", JSON + b"X-API-Key: no\r\n", (401, "wrong_key")),
    (b"emit", JSON + WITH + b"Origin: https://evil.example\r\n", (403, "foreign_origin")),
    (b"connect", JSON + b"X-Forwarded-For: 203.0.113.9\r\n", (401, "key_required")),
    (b"emit", WITH + b"Content-Type: text/plain\r\n", (415, "not_json")),
    (b"stream", JSON + WITH, (405, "method_not_allowed")),
])
@pytest.mark.parametrize("framing", [
    b"Content-Length: 99999\r\n\r\n", b"Content-Length: 999999999\r\n\r\n", b"Content-Length: 10\r\n\r\n{",
    b"Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"eve\r\n"])
def test_who_may_not_is_refused_before_the_body_is_read(ours: Server, path: bytes, headers: bytes, framing: bytes,
                                                        expected: tuple[int, str]) -> None:
    """A request that is not permitted is refused, and counted once, though its body never comes."""
    before = refusals(ours).get(expected[1], 0)
    with ours.connect() as http:
        http.send(POST % (path, headers) + framing)
        answer = http.answer()
        assert code(answer) == expected
        assert http.closed()
    assert refusals(ours)[expected[1]] == before + 1


def test_what_stands_in_front_of_our_urls_may_permit(tmp_path: Path) -> None:
    """A middleware of the host that adds the key, or reads the body, is asked before a request is refused."""
    script = tmp_path / "serve.py"
    script.write_text(textwrap.dedent("""
        import logging

        from support.app import create_app
        from hakgal_hybrid import HybridTransport

        logging.basicConfig(level="INFO")
        app = create_app()
        inner = app.wsgi_app

        def middleware(environ, start_response):
            if environ.get("HTTP_X_SESSION") == "good":
                environ["HTTP_X_API_KEY"] = "%s"
            if "HTTP_X_DIGEST" in environ:
                body = environ["wsgi.input"].read()
                assert len(body) == int(environ["CONTENT_LENGTH"]), body
                environ["wsgi.input"].seek(0)
            return inner(environ, start_response)

        app.wsgi_app = middleware
        HybridTransport.of(app).run("127.0.0.1", 0)
    """) % KEY)
    body = json.dumps({"event": "echo", "data": "x" * 50_000}).encode()
    with Server("ours", SUPPORT_SCRIPT=script, **SERVER) as server:
        for headers, expected in (({"X-Session": "good"}, 200), ({"X-Session": "good", "X-Digest": "1"}, 200),
                                  ({"X-Digest": "1"}, 401), ({"X-Session": "bad"}, 401)):
            with server.connect() as http:
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
                http.send(POST % (b"emit", JSON + lines) + b"Content-Length: %d\r\n\r\n" % len(body))
                time.sleep(0.1)  # so that the body is not here with the head
                http.send(body)
                answer = http.answer()
                assert answer.status == expected, (headers, answer)
                if expected == 200:
                    assert len(answer.json()["ack"]) == 50_000 or answer.json()["ack"] == ["x" * 50_000]


# -- what events carry ----------------------------------------------------------------------------------------------

INJECTED = ["a\nb", "a\r\nid: 9-9\n", "a\rb", "a\0b"]
HARMLESS = ["\x1b[2J", "a\x85b", "\x7f", "a\u2028b", "a\u2029b", "\ufeffa", "data: x", ":", "a b", "<script>",
            "\u202e", "ö"]


def test_lines_cannot_be_injected_into_a_stream(keyless_running: Server) -> None:
    """Whatever a name or a payload holds, what arrives is that one event: no id, no event, no retry of its own."""
    keyless = keyless_running  # the host's route raises for the first four, which it logs
    with keyless.opened() as stream:
        names = []
        for name in [*INJECTED, *HARMLESS]:
            answer = keyless.ask("POST", "/emit", {"event": name, "data": f"{name}\n\nevent: evil\ndata: 1\n\n"})
            if answer.status == 200:
                names.append(name)
        keyless.emit("end")
        stream.wait_for("end")
        told = [message for message in stream.messages if not message.event.startswith("hybrid_")][:-1]
        assert [message.event for message in told] == names
        for message in told:
            assert json.loads(message.data) == f"{message.event}\n\nevent: evil\ndata: 1\n\n"
        assert not stream.named("evil")
        assert not set(INJECTED) & set(names)
        epoch = stream.open["newest"].split("-")[0]
        assert all(message.id.startswith(f"{epoch}-") for message in told)


@pytest.mark.parametrize("text", ["x\r\nX-Evil: 1", "x\nX-Evil: 1", "x\rX-Evil: 1", "x\0y", "x\u2028y", "\x0bX", "ö"])
def test_headers_cannot_be_injected(keyless: Server, text: str) -> None:
    """What a client sends comes back in no header: not the key of an order, nor an id, nor an origin, nor a query."""
    from urllib.parse import quote

    for answer in (keyless.ask("GET", f"{CONTROL}/{quote(text)}"),
                   keyless.ask("POST", CONTROL, {"action": text}), keyless.ask("POST", EMIT, {"event": text}),
                   keyless.ask("GET", f"{STREAM}?snapshot={quote(text)}"),
                   keyless.ask("GET", f"{STREAM}?namespace={quote(text)}")):
        assert answer.status in (400, 404, 422)
        assert "x-evil" not in answer.headers
        assert answer.headers["content-type"] == "application/problem+json"
    with keyless.stream(f"last_event_id={quote(text)}") as stream:
        gap: Any = stream.wait_for("hybrid_gap")[0]
        assert gap["reason"] == "malformed"
        assert b"X-Evil" not in bytes(stream.raw)
