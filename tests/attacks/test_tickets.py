"""Tickets and tokens: stolen, forged, replayed, expired, bent to another purpose."""

from __future__ import annotations

import base64
import itertools
import threading
from typing import Any
from urllib.parse import quote

import pytest
from support.attacks import KEY, REMOTE, SECRET, TICKET, code, counted, issue, make_ticket
from support.servers import STREAM, Server, Stream, wait_until

numbers = (f"number-{number}" for number in itertools.count())


#: The server that the tests here share.
SERVER = {"HAKGAL_API_KEY": KEY, "HYBRID_HEARTBEAT_S": 0.2}
SERVER_KINDS = ["ours", "werkzeug"]


def remote(server: Server, query: str, **headers: str) -> Stream:
    """Open a stream as a browser on another machine does: with nothing but a URL."""
    return server.stream(query, {**REMOTE, **headers})


def opens(server: Server, query: str) -> bool:
    """True if another machine can open a stream with this query; it is closed again."""
    with remote(server, query) as stream:
        return stream.status == 200 and bool(stream.wait_for("hybrid_open"))


def test_a_ticket_opens_a_stream_from_another_machine(server: Server) -> None:
    """It stands for the key that it was got with: the client is new, and is told its token."""
    with remote(server, f"ticket={issue(server)}") as stream:
        assert stream.status == 200
        assert stream.open["token"]
        server.emit("note", data=7)
        assert stream.wait_for("note") == [7]


def test_a_ticket_needs_the_key(server: Server) -> None:
    """Without it nobody gets one, on this machine neither."""
    for headers in ({}, REMOTE, {"X-API-Key": KEY[:-1]}):
        assert server.ask("POST", TICKET, {}, headers).status == 401


def test_nothing_but_a_stream_is_opened_by_a_ticket(server: Server) -> None:
    """No command, no status, no other ticket."""
    ticket = issue(server)
    for method, path in (("GET", "/api/hybrid/status"), ("POST", "/api/events/emit"), ("POST", TICKET),
                         ("POST", "/api/governor/control"), ("POST", "/api/events/connect")):
        answer = server.ask(method, f"{path}?ticket={ticket}", {"event": "echo", "action": "stop"}
                            if method == "POST" else None, REMOTE)
        assert code(answer) == (401, "key_required"), path


def test_an_event_source_comes_back_by_the_same_url(server: Server) -> None:
    """Its stream is resumed: the same client, nothing lost; also long after the minute is over."""
    ticket = make_ticket(number=next(numbers), age=58)
    with remote(server, f"ticket={ticket}") as stream:
        sid, last = stream.sid, stream.id
    wait_until(lambda: _expired(ticket, server), 10, "the ticket's minute to be over")
    server.emit("private", data=1, to=sid)
    with remote(server, f"ticket={ticket}", **{"Last-Event-ID": last}) as again:
        assert (again.sid, again.open["token"], again.open["resumed"]) == (sid, None, True)
        assert again.wait_for("private") == [1]


def _expired(ticket: str, server: Server) -> bool:
    number = make_ticket(number=next(numbers), age=61)
    return not opens(server, f"ticket={number}")


def test_one_stream_at_a_time(server: Server) -> None:
    """Who opens a second one with a stolen ticket ends the first, and is the same client: nothing is doubled."""
    ticket = issue(server)
    with remote(server, f"ticket={ticket}") as first:
        sid = first.sid
        with remote(server, f"ticket={ticket}") as second:
            assert second.sid == sid
            server.emit("note", 3)  # a server that gives it a thread notices at its next write
            first.read_to_end()
            assert len(second.wait_for("note", 3)) == 3


@pytest.mark.parametrize("wrong", ["age=61", "age=3600", "age=-120", "secret", "salt", "digest"])
def test_a_ticket_that_is_expired_or_forged(server: Server, wrong: str) -> None:
    """Too old, from the future, signed by somebody else or for something else: 401, as without any."""
    name, _, value = wrong.partition("=")
    given: dict[str, Any] = {"age": float(value)} if value else {name: "other"}
    with counted(server, "key_required"), remote(server, f"ticket={make_ticket(number=next(numbers), **given)}") as it:
        assert it.status == 401


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_ticket_with_one_bit_changed(server: Server, part: int) -> None:
    """Whatever is changed in content, time or signature, it opens nothing."""
    parts = issue(server).split(".")
    letters = parts[part]
    for at in (0, len(letters) // 2):
        changed = letters[:at] + ("A" if letters[at] != "A" else "B") + letters[at + 1:]
        assert not opens(server, "ticket=" + ".".join([*parts[:part], changed, *parts[part + 1:]]))


@pytest.mark.parametrize("forged", ["", ".", "..", "a.b.c", "x" * 100, "x" * 7000, "\0", "\u2028", "é.é.é",
                                    "eyJhbGciOiJub25lIn0..", "../../x", base64.b64encode(b"[1,2]").decode() + ".x.y"])
def test_texts_that_are_no_tickets(server: Server, forged: str) -> None:
    """Nonsense is refused from here and from elsewhere; nothing raises."""
    with remote(server, f"ticket={quote(forged)}") as stream:
        assert stream.status == 401
    assert code(server.ask("GET", f"{STREAM}?ticket={quote(forged)}")) == (403, "bad_ticket")
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(("bound", "used", "same"), [
    ("events=a", "events=a&ticket=TICKET", True),
    ("events=a&namespace=%2F", "ticket=TICKET&namespace=/&events=%61", True),
    ("events=a", "events=a&ticket=TICKET&last_event_id=5-5", True),
    ("events=a", "events=a&ticket=TICKET&lastEventId=5-5", True),
    ("events=a", "events=a&ticket=TICKET&Last-Event-ID=5-5", True),
    ("events=a", "events=a&ticket=TICKET&datastar=%7B%22n%22%3A1%7D", True),
    ("events=a&datastar=%7B%7D", "events=a&ticket=TICKET&_=1755412806000", True),
    ("format=html", "format=html&ticket=TICKET", True),
    ("format=html", "format=html&unnamed=1&ticket=TICKET", False),
    ("format=html", "format=datastar&ticket=TICKET", False),
    ("?events=a", "events=a&ticket=TICKET", True),
    ("events=a", "events=*&ticket=TICKET", False),
    ("events=a", "ticket=TICKET", False),
    ("", "namespace=/admin&ticket=TICKET", False),
    ("events=a", "events=a&events=b&ticket=TICKET", False),
    ("events=a", "events=a&snapshot=1&ticket=TICKET", False),
    ("namespace=/%ff", "namespace=/%fe&ticket=TICKET", False),
    ("events=a&events=b", "events=b&events=a&ticket=TICKET", False),
    ("a=1%00namespace%3D%2Fadmin", "namespace=/admin&a=1&ticket=TICKET", False),
    ("a=1%00namespace%3D%2Fadmin", "a=1%00namespace%3D%2Fadmin&ticket=TICKET", True),
    ("events=a", "events=a&ticket=TICKET&ticket=other", False),
    ("events=a", "events=a&ticket=other&ticket=TICKET", False),
])
def test_a_ticket_is_bound_to_its_query(server: Server, bound: str, used: str, same: bool) -> None:
    """The query decides what is read, so that it cannot be another one; its order and escapes do not matter."""
    assert opens(server, used.replace("TICKET", issue(server, bound))) is same


def test_a_ticket_for_a_query_that_makes_no_sense(server: Server) -> None:
    """Whoever asks for it is told at once."""
    for query in ("snapshot=perhaps", "namespace=x", 5, ["a"]):
        assert code(server.ask("POST", TICKET, {"query": query}, {"X-API-Key": KEY})) == (422, "bad_query")


def test_two_requests_race_for_one_ticket(server: Server) -> None:
    """While the connect handler of the first is running the second is told to come back; one client comes of it."""
    ticket = issue(server, "hang=1")
    before = len(server.notes()["connected"])
    streams: list[Stream] = []
    opening = threading.Thread(target=lambda: streams.append(server.stream(f"hang=1&ticket={ticket}", REMOTE)))
    opening.start()

    def second() -> str:
        with remote(server, f"hang=1&ticket={ticket}") as stream:
            stream.read_until(lambda stream: stream.messages)
            return stream.messages[0].event

    try:
        wait_until(lambda: server.status()["clients"] > 0, what="the first to be connecting")
        with counted(server, "ticket_in_use"):
            assert second() == "hybrid_busy"
    finally:
        server.ask("POST", "/api/governor/control", {"action": "set_mode", "mode": "release"}, {"X-API-Key": KEY})
        opening.join(20)
    assert len(server.notes()["connected"]) == before + 1
    streams[0].close()


def test_a_client_that_was_ended_does_not_come_back_by_its_ticket(server: Server) -> None:
    """Revocation beats the minute that a ticket has."""
    ticket = issue(server)
    with remote(server, f"ticket={ticket}") as stream:
        assert server.ask("POST", "/kick", {"sid": stream.sid}).status == 200
        stream.wait_for("hybrid_disconnect")
        stream.read_to_end()
    wait_until(lambda: server.status()["streams"] == 0, what="the stream to be gone")
    assert not opens(server, f"ticket={ticket}")
    assert code(server.ask("GET", f"{STREAM}?ticket={ticket}")) == (403, "bad_ticket")


def test_a_stolen_sid_is_worth_nothing(server: Server) -> None:
    """Who knows a sid and not its token can neither speak, nor leave, nor come back, nor acknowledge as it."""
    with server.opened() as mine, server.opened() as theirs:
        sid, key = theirs.sid, {"X-API-Key": KEY}
        for token in (None, "", mine.open["token"], theirs.open["token"][:-1], theirs.open["token"] + "x", sid,
                      theirs.open["token"].swapcase()):
            headers = {**key, **({} if token is None else {"X-Hybrid-Token": token})}
            for path, body in (("emit", {"event": "whoami"}), ("disconnect", {}), ("ack", {"ack": "1"})):
                answer = server.ask("POST", f"/api/events/{path}", {"sid": sid, **body}, headers)
                assert code(answer) == (403, "bad_token"), (path, token)
            again = server.ask("POST", "/api/events/connect", {"sid": sid, "token": token}, key).json()
            assert again["resumed"] is False
            assert again["sid"] != sid
        # The refusal is the same for a sid that nobody has.
        known = server.ask("POST", "/api/events/emit", {"sid": sid, "event": "echo"}, key)
        unknown = server.ask("POST", "/api/events/emit", {"sid": "x" * len(sid), "event": "echo"}, key)
        assert known.body == unknown.body
        assert not theirs.named("hybrid_disconnect")


def test_tickets_outlive_the_server_with_a_secret_and_not_without() -> None:
    """Signed by the app's key a young ticket opens a stream of the next process; one signed at random does not."""
    ticket = make_ticket(number="restarted")
    with Server("ours", HAKGAL_API_KEY=KEY) as server:
        assert SECRET not in server.log()
        assert "random key" not in server.log()
        assert opens(server, f"ticket={ticket}")
    with Server("ours", HAKGAL_API_KEY=KEY, SUPPORT_NO_SECRET=1) as first:
        own = issue(first)
        assert opens(first, f"ticket={own}")
        issue(first)
        assert first.log().count("they end with this process") == 1
        assert not opens(first, f"ticket={ticket}")
    with Server("ours", HAKGAL_API_KEY=KEY, SUPPORT_NO_SECRET=1) as second:
        assert not opens(second, f"ticket={own}")
