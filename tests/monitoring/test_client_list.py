"""The list of clients: who is there, how far behind, without secrets, and never more than was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from support.app import create_app
from support.servers import InProcess, Server, wait_until

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.monitoring.clients import MAX_CLIENTS, SHOWN

URL = "/api/hybrid/clients"


@pytest.fixture
def api() -> InProcess:
    return InProcess(create_app(heartbeat_s=0.1))


def listed(api: Any, query: str = "") -> dict[str, Any]:
    answer = api.ask("GET", f"{URL}{query}")
    assert answer.status == 200, answer
    return dict(answer.json())


def test_a_row_says_who_it_is_and_how_it_listens(api) -> None:
    """Shortened sid, namespace, address, age, state, transport, filter, what was delivered, how far behind."""
    with api.opened("events=note,kb_*&namespace=/chat") as stream:
        api.emit("note", n=3, namespace="/chat")
        stream.wait_for("note", 3)
        told = listed(api)
        assert told["total"] == 1
        row = told["clients"][0]
        assert 0 <= row.pop("age_s") < 60
        assert row == {"sid": stream.sid[:SHOWN] + "…", "namespace": "/chat", "address": "127.0.0.1", "riders": 1,
                       "state": "open", "transport": "sse", "filter": ["note", "kb_*"], "delivered": 3,
                       "lag_events": 0, "lag_s": 0}


def test_no_secret_is_listed(api) -> None:
    """Neither a token, nor a ticket, nor a whole sid: what is listed opens nothing and speaks for nobody."""
    connected = api.ask("POST", "/api/events/connect", {}).json()
    with api.opened() as stream:
        text = json.dumps(listed(api), ensure_ascii=False)
        for secret in (connected["token"], connected["ticket"], connected["sid"], stream.open["token"], stream.sid):
            assert secret not in text


def test_who_has_no_stream_is_listed_with_its_state(api) -> None:
    """A client that has connected and not come yet, one whose stream is away, and one whose stream is open."""
    api.ask("POST", "/api/events/connect", {})
    api.opened().close()
    with api.opened():
        wait_until(lambda: sorted(row["state"] for row in listed(api)["clients"]) == ["away", "connecting", "open"])
        away = next(row for row in listed(api)["clients"] if row["state"] == "away")
        assert (away["transport"], away["lag_events"], away["lag_s"], away["delivered"]) == (None, None, None, None)


def test_those_come_first_that_are_furthest_behind() -> None:
    """The order is by the age of what waits; the limit cuts off those that are fine."""
    with Server("ours", HYBRID_STALL_S=300) as server:
        with server.opened(), server.opened(rcvbuf=4096), server.opened("events=other"):
            server.emit("big", n=100, size=100_000)
            wait_until(lambda: (listed(server)["clients"][0]["lag_s"] or 0) > 0.2)
            told = listed(server, "?limit=2")
            assert told["total"] == 3
            assert len(told["clients"]) == 2
            assert told["clients"][0]["lag_events"] > 0
            assert [row["filter"] for row in told["clients"]] == [[], []], "who waits for nothing is not among them"


def test_clients_of_one_stream_are_told_apart(api) -> None:
    """Each is a row of its own, and says how many ride together."""
    first = api.ask("POST", "/api/events/connect", {}).json()
    api.ask("POST", "/api/events/connect", {"stream": first["ticket"], "namespace": "/chat"})
    with api.opened(f"ticket={first['ticket']}"):
        told = listed(api)
        assert sorted(row["namespace"] for row in told["clients"]) == ["/", "/chat"]
        assert {row["riders"] for row in told["clients"]} == {2}


def test_a_websocket_is_named() -> None:
    """The transport is that of the stream."""
    websocket = pytest.importorskip("websocket")
    with Server("ours", ENABLE_WS_SPECIAL="true") as server:
        socket = websocket.create_connection(f"ws://127.0.0.1:{server.port}/api/events/ws", timeout=30)
        try:
            socket.recv()
            assert [row["transport"] for row in listed(server)["clients"]] == ["websocket"]
        finally:
            socket.close()


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "", "1e2", "٣", "9" * 400, "000000001999",
                                   "0" * 9 + "9" * 5000, "1_0", " 1", "+1", "²"])
def test_a_limit_that_makes_no_sense_is_refused(api, limit: str) -> None:
    answer = api.ask("GET", f"{URL}?limit={limit}")
    assert (answer.status, answer.json()["code"]) == (422, "bad_query")
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_list_is_bounded() -> None:
    """However many there are, no more than the limit, and never more than a thousand, are listed."""
    app = Flask(__name__)
    transport = HybridTransport(app, max_streams_per_address=2 * MAX_CLIENTS, connect_rate=MAX_CLIENTS)
    for _ in range(MAX_CLIENTS + 50):
        transport.node.lifecycle.open_client({"REMOTE_ADDR": "127.0.0.1"}, "/")
    client = app.test_client()
    assert len(client.get(URL).get_json()["clients"]) == 100
    told = client.get(f"{URL}?limit={MAX_CLIENTS}").get_json()
    assert (told["total"], len(told["clients"])) == (MAX_CLIENTS + 50, MAX_CLIENTS)


@pytest.mark.parametrize("path", [URL, "/api/hybrid/history", "/api/hybrid/metrics"])
def test_it_is_guarded_as_the_status_is(path: str) -> None:
    """From another machine it takes the key; a foreign page gets nothing."""
    api = InProcess(create_app(api_key="secret"))
    assert api.ask("GET", path).status == 200
    assert api.ask("GET", path, REMOTE_ADDR="203.0.113.9").json()["code"] == "key_required"
    assert api.ask("GET", path, headers={"X-API-Key": "secret"}, REMOTE_ADDR="203.0.113.9").status == 200
    assert api.ask("GET", path, headers={"Origin": "https://evil.example"}).json()["code"] == "foreign_origin"
    assert api.ask("POST", path, {}).status in (401, 405)


def test_the_page_and_its_parts_come_to_everybody() -> None:
    """A page must be there before it can ask for the key; it holds nothing that is not in the package."""
    api = InProcess(create_app(api_key="secret"))
    for path in ("/api/hybrid/", "/api/hybrid/dashboard/dashboard.js", "/api/hybrid/dashboard/dashboard.css"):
        answer = api.ask("GET", path, REMOTE_ADDR="203.0.113.9")
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers
    assert api.ask("GET", "/api/hybrid/dashboard/x.js", REMOTE_ADDR="203.0.113.9").json()["code"] == "no_such_file"


def test_what_was_delivered_is_counted_for_each_stream() -> None:
    """Exactly, however a stream was written: among those that keep up, with events of its own between, or alone."""
    with Server("ours") as server, server.opened() as one, server.opened() as two, server.opened("events=b*") as some:
        for step in range(5):
            server.emit("a", n=7)
            server.emit("b", n=2)
            server.emit("mine", n=3, to=one.sid)
            server.emit("b", n=1, to=some.sid)
            with server.opened() as late:  # a newcomer goes alone at first
                server.emit("a", n=10)
                late.wait_for("a", 10)
            one.wait_for("mine", 3 * (step + 1))
        for stream, name, number in ((one, "a", 85), (two, "a", 85), (one, "b", 10), (two, "b", 10), (some, "b", 15)):
            stream.wait_for(name, number)
        def told() -> list[int]:
            rows = {row["sid"]: row["delivered"] for row in listed(server)["clients"]}
            return [rows[stream.sid[:SHOWN] + "…"] for stream in (one, two, some)]

        wait_until(lambda: told() == [110, 95, 15])
