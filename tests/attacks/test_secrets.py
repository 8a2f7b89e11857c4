"""Keys, tokens and tickets: not in logs, not in what is answered to others, not in URLs that we build."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest
from support.attacks import KEY, TICKET, issue, make_ticket, said
from support.servers import CONTROL, EMIT, STATUS, STREAM, Server, wait_until

from hakgal_hybrid.logs import redact_server_logs, redacted


@contextlib.contextmanager
def serving(kind: str) -> Iterator[Server]:
    options = {"ours": ["--log-output"], "werkzeug": [], "gunicorn-gthread": ["--access-logfile", "-"]}[kind]
    with Server(kind, *options, HAKGAL_API_KEY=KEY, HYBRID_HEARTBEAT_S=0.2, SUPPORT_LOG="DEBUG") as server:
        yield server


@pytest.mark.parametrize("kind", ["ours", "werkzeug", "gunicorn-gthread"])
def test_nothing_secret_is_logged_or_told_to_others(kind: str) -> None:
    """Each way to use and misuse them, with every logger at DEBUG and every request logged: none of them shows."""
    if kind.startswith("gunicorn"):
        pytest.importorskip("gunicorn")
    secrets, told = [KEY], []
    with serving(kind) as server:
        key = {"X-API-Key": KEY}
        ticket = issue(server)
        connected = server.ask("POST", "/api/events/connect", {}, key).json()
        secrets += [ticket, connected["ticket"], connected["token"]]
        with server.opened(f"ticket={ticket}") as stream, server.opened(f"ticket={connected['ticket']}"):
            secrets.append(stream.open["token"])
            for path in (f"{STREAM}?ticket={ticket}&snapshot=perhaps", f"{STREAM}?%74icket={ticket}&namespace=x",
                         f"{STREAM}?ticket={make_ticket(secret='other')}",
                         f"/health?a=b&apiKey={KEY}&token={stream.open['token']}",
                         f"/nowhere?ticket={connected['ticket']}", f"/raise?ticket={ticket}",
                         f"/raw/raise?ticket={ticket}", f"/raw/short?api_key={KEY}", f"{CONTROL}/x?access_token={KEY}"):
                with contextlib.suppress(ConnectionError):  # some are answered by hanging up
                    told.append(server.ask("GET", path).body)
            for body in ({"event": "boom"}, {"sid": stream.sid, "event": "echo"}, {"event": "nothing"}):
                told.append(server.ask("POST", EMIT, body, {**key, "X-Hybrid-Token": stream.open["token"] + "x"}).body)
            answer = server.ask("POST", CONTROL, {"action": "start"}, key)
            told += [answer.body, repr(answer.headers).encode()]
            told.append(server.ask("POST", f"{TICKET}?ticket={ticket}", {"query": 5}, key).body)
            told.append(server.ask("GET", STATUS, None, key).body)
            told.append(server.ask("GET", STATUS, None, {"X-API-Key": KEY + "x"}).body)
        if kind == "ours":
            told.append(said(server, f"GET /?ticket={ticket}  HTTP/1.1\r\nX-API-Key: {KEY}\r\n bad\r\n\r\n".encode()))
        wait_until(lambda: f"{STREAM}?ticket=***" in server.log(), what="the streams to be logged")
        log = server.log()
    assert log.find("ticket=***&snapshot=perhaps") >= 0
    for secret in secrets:
        at = log.find(secret)  # pytest would explain a failed ``in`` for minutes
        assert at < 0, log[max(0, at - 300):at + 50]
        assert not [answer for answer in told if answer.find(secret.encode()) >= 0]


@pytest.mark.parametrize(("text", "clean"), [
    ("GET /x?ticket=a.b.c HTTP/1.1", "GET /x?ticket=*** HTTP/1.1"),
    ("/x?a=b&ticket=abc&c=d", "/x?a=b&ticket=***&c=d"),
    ("/x?%74icket=abc", "/x?%74icket=***"), ("/x?TICKET=abc", "/x?TICKET=***"), ("/x?apiKey=k", "/x?apiKey=***"),
    ("/x?api_key=k;token=t", "/x?api_key=***;token=***"), ("/x?X-API-Key=k", "/x?X-API-Key=***"),
    ("/x?access_token=k&client-secret=s&password=p", "/x?access_token=***&client-secret=***&password=***"),
    ("/x?keyword=tea&monkey=1&keys=2&events=a", "/x?keyword=tea&monkey=1&keys=2&events=a"),
    ("/x?ticket=", "/x?ticket="), ("no query, ticket=a", "no query, ticket=a"), ("", ""),
    ('"GET /x?ticket=a" 200 "http://h/?token=b"', '"GET /x?ticket=***" 200 "http://h/?token=***"'),
])
def test_redacting(text: str, clean: str) -> None:
    """Values of parameters that are named like secrets, and nothing else, however the name is escaped."""
    assert redacted(text) == clean


def test_the_logs_of_other_servers_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    """Without a change to records that hold no secret, and however often it is asked for."""
    redact_server_logs()
    redact_server_logs()
    logger = logging.getLogger("werkzeug")
    with caplog.at_level(logging.INFO, "werkzeug"):
        logger.info('"%s" %s', "GET /x?ticket=abc", 200)
        logger.info("%s plain", 5)
    assert caplog.records[0].getMessage() == '"GET /x?ticket=***" 200'
    assert caplog.records[1].args == (5,)
    assert len([item for item in logger.filters if type(item).__name__ == "_Redacting"]) == 1
