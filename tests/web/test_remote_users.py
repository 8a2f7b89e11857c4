"""With ``HYBRID_ACCESS=app`` the app decides who may be its client, from wherever; its operator's URLs stay closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from support.elsewhere import elsewhere
from support.servers import EMIT, SOON, Answer, Http, Server, Stream

from hakgal_hybrid.web.urls import ROUTES, WEBSOCKET, Access, Route

KEY = "k3y-of-the-operator"
HOST, FOREIGN = elsewhere()
REFUSALS = ("key_required", "wrong_key", "loopback_only", "foreign_origin", "foreign_host")
#: What is sent to URLs that would do nothing with an empty object.
BODIES: dict[str, Any] = {"/api/events/emit": {"event": "echo"}, "/api/events/publish": {"event": "echo"},
                          "/api/governor/control": {"action": "status"}, "/api/hybrid/stacks": {"seconds": 0.05}}
PAGE = Path(__file__).parents[2] / "docs" / "remote_users.md"


def start(**settings: str) -> Server:
    """A server that listens for other machines."""
    return Server("ours", "--host", "0.0.0.0", ENABLE_WS_SPECIAL="true", **settings)


@pytest.fixture(scope="module", params=["app", "app with a key", "local", "local with a key"])
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str, bool]]:
    """A server, its ``HYBRID_ACCESS``, and whether it has a key."""
    access, _, key = request.param.partition(" with a ")
    with start(HYBRID_ACCESS=access, **({"HAKGAL_API_KEY": KEY} if key else {})) as server:
        yield server, access, bool(key)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of the mode ``app``, with a key."""
    with start(HYBRID_ACCESS="app", HAKGAL_API_KEY=KEY) as running:
        yield running


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Ask from another machine."""
    with Http(server.port, host=HOST) as http:
        http.request(method, path, body, {"Host": f"{HOST}:{server.port}", "Connection": "close", **FOREIGN, **headers})
        status, fields = http.head()
        if status == 200 and fields.get("content-type", "").startswith("text/event-stream"):
            return Answer(status, fields, b"")
        length = int(fields.get("content-length", 0))
        return Answer(status, fields, http._exactly(length) if method != "HEAD" and length else b"")


def code_of(answer: Answer) -> str:
    """The code of a refusal; an empty text for what was let in."""
    is_problem = answer.headers.get("content-type") == "application/problem+json"
    code = str(answer.json()["code"]) if is_problem else ""
    return code if code in REFUSALS else ""


def try_out(server: Server, route: Route, **headers: str) -> str:
    """Ask a URL by its first method; return the code of the refusal, if it was one by address, key or origin."""
    method = route.methods.split(", ")[0]
    path = route.rule.replace("<id>", "x").replace("<file>", "dashboard.js")
    return code_of(ask(server, method, path, BODIES.get(route.rule, {}) if method == "POST" else None, **headers))


def connect(server: Server, **body: Any) -> dict[str, Any]:
    """Become a client from another machine."""
    answer = ask(server, "POST", "/api/events/connect", body)
    assert answer.status == 200, answer
    return dict(answer.json())


# -- who may use a URL -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.rule)
def test_who_may_use_a_url_from_another_machine(case: tuple[Server, str, bool], route: Route) -> None:
    """Every URL: what the app's clients use is open in the mode ``app`` only, the operator's needs the key in both."""
    server, access, key = case
    refusal = "key_required" if key else "loopback_only"
    is_open = route.access is Access.PUBLIC or (access == "app" and route.clients and route.rule != EMIT)
    assert try_out(server, route) == ("" if is_open else refusal)
    if key:
        assert try_out(server, route, **{"X-API-Key": KEY}) == ""
        assert try_out(server, route, **{"X-API-Key": "guessed"}) == (
            "" if route.access is Access.PUBLIC else "wrong_key")
    evil = "" if route.access is Access.PUBLIC else "foreign_origin"
    assert try_out(server, route, Origin="https://evil.test", **{"X-API-Key": KEY}) == evil


def test_the_page_lists_every_url() -> None:
    """The table of the page says of each URL who may use it in either mode."""
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")]
            for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `/api/")]
    words = {Access.PUBLIC: "everybody", Access.READ: "readers", Access.TICKET: "readers, tickets",
             Access.COMMAND: "operator"}
    assert {row[0]: tuple(row[1:3]) for row in rows} == {
        rule: (words[route.access], "clients" if route.clients and route.access is not Access.PUBLIC
               else words[route.access])
        for rule, route in ROUTES.items()}


@pytest.mark.parametrize(("access", "key", "sentence"), [
    ("app", "", "HYBRID_ACCESS=app: everybody may become a client"),
    ("local", KEY, "HYBRID_ACCESS=local: clients on other machines need HAKGAL_API_KEY or a ticket"),
    ("local", "", "only this machine is served, because HAKGAL_API_KEY is not set"),
])
@pytest.mark.parametrize("kind", ["ours", "werkzeug"])
def test_the_start_says_who_is_served(kind: str, access: str, key: str, sentence: str) -> None:
    """One line says what the mode means."""
    with Server(kind, HYBRID_ACCESS=access, HAKGAL_API_KEY=key) as server:
        lines = [line for line in server.log().splitlines() if "HYBRID_ACCESS" in line]
        assert len(lines) == 1
        assert sentence in lines[0]


# -- a client --------------------------------------------------------------------------------------------------------

def test_a_client_from_another_machine(server: Server) -> None:
    """It connects, reads, sends, acknowledges and leaves, without the key."""
    client = connect(server)
    proof = {"X-Hybrid-Token": client["token"]}
    query = f"ticket={client['ticket']}&envelope=1"
    with Stream(server.port, query, {**FOREIGN, "Host": HOST}, host=HOST) as stream:
        assert stream.status == 200
        body = {"event": "echo", "args": [1, "two"], "sid": client["sid"]}
        assert ask(server, "POST", EMIT, body, **proof).json()["ack"] == [1, "two"]
        server.ask("POST", "/ask", {"event": "question", "to": client["sid"]})

        def question(stream: Stream) -> Any:
            frames = [json.loads(message.data) for message in stream.messages]
            return next((frame for frame in frames if frame["event"] == "question"), None)

        number = stream.read_until(question)["ack"]
        ack = {"sid": client["sid"], "ack": number, "args": ["answer"]}
        assert ask(server, "POST", "/api/events/ack", ack, **proof).status == 200
        assert server.notes()["acks"][-1] == ["answer"]
        assert ask(server, "POST", "/api/events/disconnect", {"sid": client["sid"]}, **proof).status == 200
        stream.read_to_end()
    assert client["sid"] in server.notes()["disconnected"]


def test_the_connect_handler_decides(server: Server) -> None:
    """Whom it refuses is no client, by POST and by a bare stream."""
    answer = ask(server, "POST", "/api/events/connect", {"auth": {"refuse": ["not you"]}})
    assert (answer.status, answer.json()["message"]) == (403, "not you")
    assert ask(server, "GET", "/api/events/stream?refuse=1").status == 403
    assert ask(server, "GET", "/api/events/stream").status == 200


def test_an_event_needs_a_client(server: Server) -> None:
    """Nobody has let in who sends an event without ``sid``: that needs the key. With one, it needs its token."""
    body = {"event": "echo", "args": [1]}
    assert code_of(ask(server, "POST", EMIT, body)) == "key_required"
    assert ask(server, "POST", EMIT, body, **{"X-API-Key": KEY}).json()["ack"] == [1]
    answer = ask(server, "POST", EMIT, {**body, "sid": connect(server)["sid"]}, **{"X-Hybrid-Token": "guessed"})
    assert (answer.status, answer.json()["code"]) == (403, "bad_token")


def test_a_websocket_from_another_machine(server: Server) -> None:
    """It carries the events of its client; commands for the governor need the key there, too."""
    ws = websocket.create_connection(f"ws://{HOST}:{server.port}{WEBSOCKET}", timeout=SOON, header=FOREIGN,
                                     suppress_origin=True)
    try:
        def reply(message: dict[str, Any]) -> dict[str, Any]:
            ws.send(json.dumps({**message, "ref": 1}))
            while "reply" not in (frame := json.loads(ws.recv())):
                pass
            return dict(frame)

        assert reply({"do": "emit", "event": "echo", "args": [1, 2]})["body"] == {"ack": [1, 2]}
        refused = reply({"do": "control", "action": "status"})
        assert (refused["status"], refused["body"]["code"]) == (401, "key_required")
    finally:
        ws.close()
