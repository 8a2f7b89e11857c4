"""Authorizing: the application decides what clients may do, and ends those that may no longer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from support.servers import SOON, wait_until

from hakgal_hybrid import AccessDenied, ConfigurationError, HybridTransport
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.commands.authorization import AuthorizationRequest, Authorizer
from hakgal_hybrid.commands.handlers import Handlers
from hakgal_hybrid.commands.node import Node
from hakgal_hybrid.settings import Settings
from hakgal_hybrid.signals import client_gone
from hakgal_hybrid.socketio import SocketIOTestClient, join_room
from hakgal_hybrid.testing import open_stream


class Governor:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> bool:
        self.calls.append("start")
        return True

    def get_status(self) -> dict[str, Any]:
        return {}


class Gatekeeper:
    """Refuses what is in ``refused``, and remembers what it was asked."""

    def __init__(self) -> None:
        self.refused: list[Callable[[AuthorizationRequest], bool]] = []
        self.asked: list[AuthorizationRequest] = []

    def __call__(self, access: AuthorizationRequest) -> bool:
        self.asked.append(access)
        return not any(refuses(access) for refuses in self.refused)


@pytest.fixture
def governor() -> Governor:
    return Governor()


@pytest.fixture
def transport(governor: Governor) -> HybridTransport:
    app = Flask(__name__)
    app.config["HYBRID_HEARTBEAT_S"] = 0.05
    transport = HybridTransport(app, governor=governor, max_rooms=3)
    on = transport.socketio.on

    @on("join")
    def join(room: str) -> str:
        join_room(room)
        return "joined"

    @on("echo")
    def echo(*args: Any) -> Any:
        return args

    @on("connect", namespace="/lobby")
    def connect(auth: Any = None) -> None:
        join_room("lobby")

    return transport


@pytest.fixture
def keeper(transport: HybridTransport) -> Iterator[Gatekeeper]:
    keeper = Gatekeeper()
    assert transport.authorize(keeper) is keeper
    return keeper


def post(transport: HybridTransport, path: str, body: dict[str, Any], token: str = "") -> tuple[int, dict[str, Any]]:
    answer = transport.app.test_client().post(f"/api/{path}", json=body, headers={"X-Hybrid-Token": token})
    return answer.status_code, answer.get_json()


NOT = (403, "not_authorized")


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1]["code"]


def test_it_is_told_who_wants_what(transport: HybridTransport, keeper: Gatekeeper, governor: Governor) -> None:
    """Each action once, with what there is to judge it by."""
    with open_stream(transport.app.test_client()) as stream:
        sid, token = stream.open["sid"], stream.open["token"]
        post(transport, "events/emit", {"sid": sid, "event": "join", "data": "kitchen"}, token)
    post(transport, "events/emit", {"event": "echo", "args": [1, 2], "namespace": "/"})
    post(transport, "events/connect", {"auth": {"user": "ann"}})
    post(transport, "governor/control", {"action": "start"})
    told = [(access.action, access.namespace, access.room, access.event) for access in keeper.asked]
    assert told == [("stream", "/", None, None), ("connect", "/", None, None), ("emit", "/", None, "join"),
                    ("join", "/", "kitchen", None), ("emit", "/", None, "echo"), ("connect", "/", None, None),
                    ("command", "/", None, "start")]
    assert keeper.asked[4].data == [1, 2]
    assert keeper.asked[5].data == {"user": "ann"}
    assert [access.client is not None and access.client.sid == sid for access in keeper.asked] == [
        False, False, True, True, False, False, False]
    assert all(access.request is not None for access in keeper.asked)
    assert keeper.asked[6].request.path == "/api/governor/control"  # type: ignore[union-attr]
    wait_until(lambda: governor.calls == ["start"], SOON, "the governor to start")


def test_a_stream_is_refused(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """Before any client is made; a namespace can be closed and another one be open."""
    keeper.refused.append(lambda access: access.action == "stream" and access.namespace == "/secret")
    answer = transport.app.test_client().get("/api/events/stream?namespace=/secret")
    assert (answer.status_code, answer.get_json()["code"]) == NOT
    assert answer.get_json()["action"] == "stream"
    assert transport.statistics().clients == 0
    with open_stream(transport.app.test_client()) as stream:
        assert stream.open["sid"]
    assert transport.statistics().refusals == {"not_authorized": 1}


def test_a_resumed_stream_is_asked_about_again(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """By a ticket of either kind: who may no longer read does not come back either."""
    _, connected = post(transport, "events/connect", {})
    tickets = [connected["ticket"], post(transport, "events/ticket", {})[1]["ticket"]]
    client = transport.app.test_client()
    for ticket in tickets:
        with open_stream(client, ticket=ticket) as stream:
            assert stream.open["sid"]
    keeper.refused.append(lambda access: access.action == "stream")
    for ticket in tickets:
        answer = client.get("/api/events/stream", query_string={"ticket": ticket})
        assert (answer.status_code, answer.get_json()["code"]) == NOT
    assert [access.client is not None for access in keeper.asked if access.action == "stream"] == [
        True, False, True, True]


def test_connecting_is_refused(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """No client remains, and the host's connect handler does not run."""
    keeper.refused.append(lambda access: access.action == "connect" and access.data != {"user": "ann"})
    assert code(post(transport, "events/connect", {"auth": {"user": "bob"}})) == NOT
    assert post(transport, "events/connect", {"auth": {"user": "ann"}})[0] == 200
    assert transport.statistics().clients == 1


def test_a_room_is_refused(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """Whoever puts a client into it, its own handler or somebody else in the host; it gets nothing from there."""
    keeper.refused.append(lambda access: access.room in ("cellar", "lobby"))
    with open_stream(transport.app.test_client()) as stream:
        sid, token = stream.open["sid"], stream.open["token"]
        assert code(post(transport, "events/emit", {"sid": sid, "event": "join", "data": "cellar"}, token)) == NOT
        with pytest.raises(AccessDenied, match="join"):
            transport.socketio.server.enter_room(sid, "cellar")
        assert keeper.asked[-1].request is None
        transport.emit("note", "down", to="cellar")
        transport.emit("note", "all")
        assert json.loads(stream.next().data) == "all"
    assert code(post(transport, "events/connect", {"namespace": "/lobby"})) == NOT


def test_an_event_is_refused(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """With a client or without; and it has had its turn."""
    keeper.refused.append(lambda access: access.event == "echo")
    assert code(post(transport, "events/emit", {"event": "echo"})) == NOT
    with open_stream(transport.app.test_client()) as stream:
        sid, token = stream.open["sid"], stream.open["token"]
        assert code(post(transport, "events/emit", {"sid": sid, "event": "echo", "number": 1}, token)) == NOT
        assert post(transport, "events/emit", {"sid": sid, "event": "join", "data": "x", "number": 2}, token)[0] == 200


def test_a_command_is_refused(transport: HybridTransport, keeper: Gatekeeper, governor: Governor) -> None:
    """Before it is queued; asking for the status can be allowed by itself."""
    keeper.refused.append(lambda access: access.action == "command" and access.event != "status")
    assert code(post(transport, "governor/control", {"action": "start"})) == NOT
    assert post(transport, "governor/control", {"action": "status"})[0] in (200, 202)
    assert governor.calls == []


@pytest.mark.parametrize("verdict", [None, False, 0, ""])
def test_what_is_not_allowed_is_refused(transport: HybridTransport, verdict: object) -> None:
    """Who forgets to answer has refused."""
    transport.authorize(lambda access: verdict)
    assert code(post(transport, "events/connect", {})) == NOT


def test_a_function_that_raises_has_refused(transport: HybridTransport, caplog: pytest.LogCaptureFixture) -> None:
    """And its traceback is in the log."""

    @transport.authorize
    def decide(access: AuthorizationRequest) -> bool:
        raise LookupError("the directory is away")

    with caplog.at_level(logging.ERROR):
        assert code(post(transport, "events/connect", {})) == NOT
    assert "the directory is away" in caplog.text


def test_it_may_say_why(transport: HybridTransport) -> None:
    """An ``AccessDenied`` of its own goes out as it is."""

    @transport.authorize
    def decide(access: AuthorizationRequest) -> bool:
        raise AccessDenied("not on Sundays", code="sunday")

    status, problem = post(transport, "events/connect", {})
    assert (status, problem["code"], problem["detail"]) == (403, "sunday", "not on Sundays")


def test_only_one_function_decides(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """A second one is an error at start, not a guess."""
    transport.authorize(keeper)
    with pytest.raises(ConfigurationError, match="decides already"):
        transport.authorize(lambda access: True)


def test_the_test_client_of_hosts_is_asked_about_too(transport: HybridTransport, keeper: Gatekeeper) -> None:
    """Tests of a host see what its clients will see: who may not connect does not, and no event is handled."""
    client: SocketIOTestClient = transport.socketio.test_client(transport.app)
    assert client.emit("echo", 1, callback=True) == 1
    keeper.refused.append(lambda access: access.action in ("connect", "emit"))
    with pytest.raises(AccessDenied):
        client.emit("echo", 1, callback=True)
    assert not transport.socketio.test_client(transport.app).is_connected()


# -- ending clients ------------------------------------------------------------------------------------------------


def test_a_client_is_ended_for_good(transport: HybridTransport) -> None:
    """Its stream ends with a word; neither ticket, nor token, nor the same URL brings it back."""
    client = transport.app.test_client()
    _, connected = post(transport, "events/connect", {})
    with open_stream(client, ticket=connected["ticket"]) as stream:
        transport.emit("note", "before", to=connected["sid"])
        assert transport.disconnect(connected["sid"]) == 1
        assert json.loads(stream.next().data) == "before"
        assert stream.next().event == "hybrid_disconnect"
    assert transport.disconnect(connected["sid"]) == 0
    answer = client.get("/api/events/stream", query_string={"ticket": connected["ticket"]})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "bad_ticket")
    _, again = post(transport, "events/connect", {"sid": connected["sid"], "token": connected["token"]})
    assert again["resumed"] is False


def test_clients_are_ended_by_what_they_are(transport: HybridTransport) -> None:
    """A predicate sees each client, one without a stream too; the host's handlers run."""
    gone: list[str] = []
    transport.socketio.on("disconnect")(gone.append)
    users = [post(transport, "events/connect", {"namespace": "/"})[1] for _ in range(3)]
    transport.hub.client(users[1]["sid"]).store["user"] = "bob"  # type: ignore[union-attr]

    def is_bob(client: Client) -> bool:
        return client.store.get("user") == "bob"

    assert transport.disconnect(is_bob) == 1
    assert transport.disconnect(is_bob) == 0
    wait_until(lambda: gone == ["server disconnect"], SOON)
    assert {client.sid for client in transport.hub.clients()} == {users[0]["sid"], users[2]["sid"]}
    assert transport.disconnect(lambda client: True) == 2


def test_others_on_the_same_stream_go_on(transport: HybridTransport) -> None:
    """A stream ends with its last client."""
    _, first = post(transport, "events/connect", {})
    _, second = post(transport, "events/connect", {"stream": first["ticket"]})
    with open_stream(transport.app.test_client(), ticket=first["ticket"]) as stream:
        assert transport.disconnect(first["sid"]) == 1
        assert stream.next().event == "hybrid_disconnect"
        transport.emit("note", 1, to=second["sid"])
        assert stream.next().event == "note"


# -- what else is bounded ------------------------------------------------------------------------------------------


def test_rooms_of_a_client_are_bounded(transport: HybridTransport) -> None:
    """Its own room counts; to be in one already is no matter."""
    with open_stream(transport.app.test_client()) as stream:
        sid, token = stream.open["sid"], stream.open["token"]

        def join(room: str) -> tuple[int, Any]:
            return post(transport, "events/emit", {"sid": sid, "event": "join", "data": room}, token)

        assert [join(room)[0] for room in ("a", "b", "b")] == [200, 200, 200]
        assert code(join("c")) == (429, "too_many_rooms")
        assert transport.statistics().refusals == {"too_many_rooms": 1}


def test_what_a_handler_emits_to_a_caller_without_a_stream_is_bounded() -> None:
    """The answer holds what fits, says how much did not, and it is counted."""
    transport = HybridTransport(Flask(__name__), max_answer_bytes=1000)

    @transport.socketio.on("flood")
    def flood() -> None:
        from hakgal_hybrid.socketio import emit

        for number in range(1000):
            emit("drop", {"number": number, "padding": "x" * 50})

    status, answer = post(transport, "events/emit", {"event": "flood"})
    assert status == 200
    assert [event["data"]["number"] for event in answer["events"]] == list(range(len(answer["events"])))
    assert 0 < len(answer["events"]) < 20
    assert answer["dropped"] == 1000 - len(answer["events"])
    assert transport.statistics().refusals == {"answer_too_large": 1}


def test_refused_events_are_counted() -> None:
    """Those that the host emits: too large, no name, no JSON."""
    transport = HybridTransport(Flask(__name__), max_event_bytes=100)
    for name, value in (("large", "x" * 200), ("", 1), ("odd", object())):
        with pytest.raises(ValueError, match=r".+"):
            transport.emit(name, value)
    counted = transport.statistics().refusals
    assert counted["event_too_large"] == 1
    assert sum(counted.values()) == 3


def test_what_the_background_drops_is_counted() -> None:
    """A disconnect handler that cannot run any more, and a signal that is not sent."""
    node = Node(Flask(__name__), Settings(), Handlers(), Authorizer(), lambda: None, max_waiting=0)
    receiver = client_gone.connect(lambda sender, **_: None, sender=node.app)
    client = node.lifecycle.open_client(node.app.test_request_context().request.environ, "/")
    assert node.lifecycle.disconnect(client.sid) == 1
    assert receiver is not None
    counted = node.refusals.snapshot()
    assert counted["disconnect_handler_dropped"] == 1
    assert counted["signal_dropped"] >= 1
