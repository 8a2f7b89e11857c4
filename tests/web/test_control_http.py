"""``POST /api/governor/control``: commands in order, answered at once, whatever the governor does.

Every test runs twice: through Flask's test client, and against our server.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.app import create_app
from support.servers import (
    CONTROL,
    EMIT,
    STATUS,
    STREAM,
    Answer,
    Api,
    InProcess,
    Server,
    milliseconds,
    shown_on_failure,
    wait_until,
)

from hakgal_hybrid import HybridTransport, signals

#: What the contract promises for every answer, in milliseconds.
PROMISED_MS = 50.0


#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": 0.1}


@pytest.fixture(params=["client", "server"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The app with a governor that is not running, in mode ``fast``."""
    if request.param == "client":
        yield request.getfixturevalue("client")
        return
    with shown_on_failure(request.getfixturevalue("running")) as server:
        yield server
    settle(server)


@pytest.fixture
def client() -> Iterator[InProcess]:
    """The app in this process."""
    api = InProcess(create_app(heartbeat_s=0.05))
    yield api
    settle(api)


def settle(api: Api) -> None:
    """Have the governor finish what it was told, stop, and be fast again."""
    api.ask("POST", "/governor/may-stop", {})
    order(api, "set_mode", mode="fast")
    command = order(api, "stop").json()
    wait_until(lambda: outcome(api, command["id"])["status"] == "done")
    api.ask("POST", "/governor/reset", {})


def order(api: Api, action: Any, headers: dict[str, str] | None = None, **arguments: Any) -> Answer:
    return api.ask("POST", CONTROL, {"action": action, **arguments}, headers)


def outcome(api: Api, command_id: str) -> dict[str, Any]:
    answer = api.ask("GET", f"{CONTROL}/{command_id}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


def finished(api: Api, command_id: str) -> dict[str, Any]:
    """Wait until a command has ended; return its outcome."""
    return wait_until(lambda: report if (report := outcome(api, command_id))["status"] in ("done", "failed") else None)


def prompt(api: Api, action: str, headers: dict[str, str] | None = None, **arguments: Any) -> Answer:
    """Order something until it is answered at once: on a busy machine even what is quick may take its grace time."""
    return wait_until(lambda: answer if (answer := order(api, action, headers, **arguments)).status != 202 else None)


def status(api: Api) -> dict[str, Any]:
    """Return the governor's status."""
    found: dict[str, Any] = prompt(api, "status").json()["result"]
    return found


def calls(api: Api) -> list[str]:
    found: list[str] = status(api)["calls"]
    return found


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document with this status and code; return it."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"] == "about:blank"
    return problem


# -- orders --------------------------------------------------------------------------------------------------------


def test_start_and_stop(api: Api) -> None:
    """Starting the governor really starts a process, stopping it ends that; both are answered with the result."""
    answer = order(api, "start")
    assert answer.status in (200, 202)  # to start a process may take longer than an answer waits
    assert finished(api, answer.json()["id"])["result"] is True
    told = status(api)
    assert told["running"] is True
    assert "Popen" in told["process"]  # what JSON cannot hold is told as its repr
    command = order(api, "stop").json()
    assert finished(api, command["id"])["result"] is True
    assert status(api)["running"] is False
    assert calls(api) == ["start", "stop"]


def test_an_order_that_is_done_at_once(api: Api) -> None:
    """What the governor does within the grace time is answered with 200 and the result."""
    answer = prompt(api, "set_mode", mode="fast")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json()
    assert outcome(api, told["id"]) == told
    assert told.pop("id")
    assert told == {"status": "done", "action": "set_mode", "result": True}
    assert answer.headers["cache-control"] == "no-store"
    assert "location" not in answer.headers


def test_an_order_that_takes_long(api: Api) -> None:
    """What takes longer is accepted with 202 and a place where its outcome can be had later."""
    order(api, "set_mode", mode="slow")
    answer = order(api, "stop")
    told = answer.json()
    assert answer.status == 202
    assert told == {"status": "accepted", "id": told["id"], "action": "stop"}
    assert answer.headers["location"] == f"{CONTROL}/{told['id']}"
    assert outcome(api, told["id"])["status"] in ("accepted", "running")
    assert "result" not in outcome(api, told["id"])
    api.ask("POST", "/governor/may-stop", {})
    assert finished(api, told["id"]) == {"status": "done", "id": told["id"], "action": "stop", "result": True}


@pytest.mark.quiet
def test_answers_come_within_50_ms_while_stop_blocks(api: Api) -> None:
    """While ``stop()`` blocks for seconds, every action is answered within 50 ms."""
    order(api, "set_mode", mode="slow")
    assert order(api, "stop").status == 202
    for action in ("stop", "start", "set_mode", "status"):
        statuses: list[int] = []

        def ask(action: str = action, statuses: list[int] = statuses) -> None:
            statuses.append(order(api, action, mode="fast").status)

        assert statistics.median(milliseconds(ask) for _ in range(7)) < PROMISED_MS, action
        assert statistics.median(statuses) == (200 if action == "status" else 202)


def test_status_while_stop_blocks(api: Api) -> None:
    """``status`` waits for nobody: it tells the truth while an order is being carried out."""
    started = order(api, "start").json()
    finished(api, started["id"])
    order(api, "set_mode", mode="slow")
    stopping = order(api, "stop").json()
    told = status(api)
    assert told["running"] is True
    assert told["calls"][-1] == "stop"
    api.ask("POST", "/governor/may-stop", {})
    finished(api, stopping["id"])
    assert status(api)["running"] is False


def test_orders_are_carried_out_in_order(api: Api) -> None:
    """Orders that wait are carried out one after the other, as they came."""
    order(api, "set_mode", mode="slow")
    assert order(api, "stop").status == 202
    for number in range(10):
        assert order(api, "set_mode", mode=f"mode {number}").status == 202
    last = order(api, "set_mode", mode="fast").json()
    assert api.status()["commands_waiting"] == 11
    assert calls(api) == ["set_mode slow", "stop"]
    api.ask("POST", "/governor/may-stop", {})
    finished(api, last["id"])
    assert calls(api) == ["set_mode slow", "stop", *(f"set_mode mode {number}" for number in range(10)),
                          "set_mode fast"]
    assert api.status()["commands_waiting"] == 0


def test_the_outcome_is_also_an_event(api: Api) -> None:
    """What became of an order, and the governor's status after it, go out to every stream, in this order."""
    with api.opened() as stream:
        command = order(api, "start").json()
        stream.wait_for("governor_update")
        assert [message.event for message in stream.messages] == ["hybrid_open", "control_result", "governor_update"]
        assert stream.payloads("control_result") == [
            {"status": "done", "id": command["id"], "action": "start", "result": True}]
        update = stream.payloads("governor_update")[0]
        assert update["running"] is True
        assert "Popen" in update["process"]


def test_asking_for_the_status_emits_nothing(api: Api) -> None:
    """``status`` is a question, no news."""
    with api.opened() as stream:
        order(api, "status")
        api.emit("end")
        stream.wait_for("end")
        assert [message.event for message in stream.messages] == ["hybrid_open", "end"]


def test_a_governor_that_fails(api: Api) -> None:
    """An order that raises is answered with 500, told as an event, remembered, and costs the next one nothing."""
    with api.opened() as stream:
        problem = refused(prompt(api, "set_mode", mode="explosive"), 500, "governor_failed")
        assert "no such mode" in problem["detail"]
        report = outcome(api, problem["id"])
        assert report == {"status": "failed", "id": problem["id"], "action": "set_mode",
                          "error": "RuntimeError: no such mode"}
        stream.read_until(lambda stream: report in stream.payloads("control_result"))
        stream.wait_for("governor_update")
    assert prompt(api, "set_mode", mode="fast").status == 200


def test_idempotency_key(api: Api) -> None:
    """An order repeated under its key is the same order: carried out once, answered alike, marked as a replay."""
    key = {"Idempotency-Key": f"key {id(api)}"}
    first = order(api, "set_mode", key, mode="fast")
    finished(api, first.json()["id"])
    second = order(api, "set_mode", key, mode="fast")
    assert second.json() == outcome(api, first.json()["id"])
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert calls(api) == ["set_mode fast"]
    refused(order(api, "set_mode", key, mode="other"), 422, "idempotency_key_reused")
    refused(order(api, "stop", key), 422, "idempotency_key_reused")
    third = order(api, "set_mode", {"Idempotency-Key": f"another {id(api)}"}, mode="fast")
    assert third.json()["id"] != first.json()["id"]


def test_a_repeated_order_that_still_waits(api: Api) -> None:
    """An order repeated while it is being carried out is answered with the same id, and not queued again."""
    key = {"Idempotency-Key": f"stop {id(api)}"}
    order(api, "set_mode", mode="slow")
    first, second = order(api, "stop", key), order(api, "stop", key)
    assert (first.status, second.status) == (202, 202)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    api.ask("POST", "/governor/may-stop", {})
    finished(api, first.json()["id"])
    third = order(api, "stop", key)
    assert (third.status, third.json()["result"]) == (200, True)
    assert calls(api).count("stop") == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_bad_idempotency_keys(api: Api, key: str) -> None:
    """A key that is empty or too long is refused, not ignored."""
    refused(order(api, "set_mode", {"Idempotency-Key": key}, mode="fast"), 422, "bad_idempotency_key")


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["explode", "", None, 5, ["start"], {"start": 1}, "Start", "get_status", "__init__"])
def test_unknown_actions(api: Api, action: Any) -> None:
    """An action that does not exist is refused, and those that do are named."""
    problem = refused(order(api, action), 422, "unknown_action")
    assert problem["accepted"] == ["start", "stop", "status", "set_mode"]
    assert calls(api) == []


@pytest.mark.parametrize("mode", [None, "", 5, ["fast"]])
def test_a_mode_that_is_none(api: Api, mode: Any) -> None:
    """``set_mode`` needs a mode, which is a text."""
    refused(order(api, "set_mode", mode=mode), 422, "missing_argument")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'"start"', b"null", b"[" * 100_000, b'{"action"}'])
def test_bodies_that_are_no_json_object(api: Api, body: bytes) -> None:
    """A body that is not a JSON object is refused."""
    for path in (CONTROL, EMIT):
        refused(api.ask("POST", path, body, {"Content-Type": "application/json"}), 400, "bad_json")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
                                          "application/jsonx", "text/plain; application/json"])
def test_only_json_is_taken(api: Api, content_type: str) -> None:
    """A body that a cross-site form could send is refused unread."""
    for path in (CONTROL, EMIT):
        refused(api.ask("POST", path, b'{"action": "start"}', {"Content-Type": content_type}), 415, "not_json")
    assert calls(api) == []


def test_json_with_a_charset_is_json(api: Api) -> None:
    """Parameters of the content type do not matter."""
    answer = api.ask("POST", CONTROL, b'{"action": "status"}', {"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status in (200, 202)


def test_unknown_commands(api: Api) -> None:
    """An outcome that nobody ordered, or that is forgotten, is not found."""
    refused(api.ask("GET", f"{CONTROL}/nothing"), 404, "unknown_command")


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("GET", CONTROL, "POST"), ("PUT", CONTROL, "POST"), ("DELETE", CONTROL + "/x", "GET"), ("GET", EMIT, "POST"),
    ("POST", STREAM, "GET"), ("POST", STATUS, "GET"),
])
def test_methods_that_are_not_there(api: Api, method: str, path: str, allowed: str) -> None:
    """Another method is refused as a problem document that names what can be asked."""
    body = {} if method in ("POST", "PUT") else None
    answer = api.ask(method, path, body)
    refused(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["allow"]


def test_no_governor() -> None:
    """Without a governor there is nothing to command: 409."""
    app = Flask("without_governor")
    HybridTransport(app)
    api = InProcess(app)
    for action in ("start", "stop", "status"):
        refused(order(api, action), 409, "no_governor")
    refused(order(api, "explode"), 422, "unknown_action")


def test_too_many_orders() -> None:
    """More orders than may wait are refused with 429 and ``Retry-After``; the status can still be asked for."""
    with Server("ours", HYBRID_COMMAND_QUEUE=2) as server:
        order(server, "set_mode", mode="slow")
        order(server, "stop")
        assert [order(server, "start").status for _ in range(2)] == [202, 202]
        answer = order(server, "start", {"Idempotency-Key": "refused"})
        refused(answer, 429, "command_queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert prompt(server, "status").status == 200
        last = server.ask("GET", STATUS).json()["commands_waiting"]
        assert last == 2
        server.ask("POST", "/governor/may-stop", {})
        wait_until(lambda: server.status()["commands_waiting"] == 0)
        # What was refused was not remembered: its key is free.
        wait_until(lambda: order(server, "start", {"Idempotency-Key": "refused"}).status in (200, 202))


def test_old_outcomes_are_forgotten() -> None:
    """Only so many outcomes are remembered; the oldest go first."""
    app = create_app(command_results=2)
    api = InProcess(app)
    ids = [order(api, "set_mode", mode="fast").json()["id"] for _ in range(3)]
    refused(api.ask("GET", f"{CONTROL}/{ids[0]}"), 404, "unknown_command")
    assert [finished(api, command_id)["status"] for command_id in ids[1:]] == ["done", "done"]


def test_control_can_be_left_out() -> None:
    """With ``ENABLE_CONTROL_HTTP`` false the command routes are not there, the stream is."""
    api = InProcess(create_app(enable_control_http=False, heartbeat_s=0.05))
    assert api.ask("POST", CONTROL, {"action": "status"}).status == 404
    assert api.ask("POST", EMIT, {"event": "echo"}).status == 404
    with api.opened() as stream:
        assert stream.status == 200


def test_the_stream_can_be_left_out() -> None:
    """With ``ENABLE_SSE`` false there is no stream; commands are there, and what they emit goes into the log."""
    api = InProcess(create_app(enable_sse=False))
    assert api.ask("GET", STREAM).status == 404
    assert order(api, "set_mode", mode="fast").status in (200, 202)
    wait_until(lambda: api.status()["log"]["appended"] == 2)


# -- who may -------------------------------------------------------------------------------------------------------

KEY = "correct horse battery staple"


@pytest.fixture(params=["client", "server"])
def locked(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The app with a key."""
    if request.param == "client":
        yield InProcess(create_app(api_key=KEY, heartbeat_s=0.05))
    else:
        with Server("ours", HAKGAL_API_KEY=KEY) as server:
            yield server


def test_commands_need_the_key(locked: Api) -> None:
    """With a key set, every command needs it, from this machine too; looking does not."""
    for path, body in ((CONTROL, {"action": "status"}), (EMIT, {"event": "echo", "data": 1})):
        refused(locked.ask("POST", path, body), 401, "key_required")
        for wrong in ("wrong", "", KEY + "x", KEY[:-1], "gr\u00fcn"):
            refused(locked.ask("POST", path, body, {"X-API-Key": wrong}), 401, "wrong_key")
        assert locked.ask("POST", path, body, {"X-API-Key": KEY}).status in (200, 202)
    refused(locked.ask("GET", f"{CONTROL}/nothing"), 401, "key_required")
    refused(locked.ask("GET", f"{CONTROL}/nothing", headers={"X-API-Key": KEY}), 404, "unknown_command")
    assert locked.ask("GET", STATUS).status == 200
    with locked.opened() as stream:
        assert stream.status == 200
    refused(locked.ask("GET", STREAM, headers={"X-API-Key": "wrong"}), 401, "wrong_key")


def test_a_key_does_not_open_the_door_to_foreign_pages(locked: Api) -> None:
    """A page of a foreign origin may not command, even with the key."""
    answer = locked.ask("POST", CONTROL, {"action": "status"}, {"X-API-Key": KEY, "Origin": "https://evil.example"})
    refused(answer, 403, "foreign_origin")
    assert "access-control-allow-credentials" not in answer.headers


def test_from_another_machine() -> None:
    """From another machine nothing is possible without a key, and everything with it."""
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    api = InProcess(create_app(heartbeat_s=0.05))
    for method, path, body in (("POST", CONTROL, {"action": "status"}), ("GET", STREAM, None), ("GET", STATUS, None),
                               ("POST", EMIT, {"event": "echo"})):
        refused(api.ask(method, path, body, **elsewhere), 403, "loopback_only")
    locked = InProcess(create_app(api_key=KEY, heartbeat_s=0.05))
    key = {"X-API-Key": KEY, "Host": "hakgal.example"}
    refused(locked.ask("GET", STATUS, **elsewhere), 401, "key_required")
    assert locked.ask("GET", STATUS, headers=key, **elsewhere).status == 200
    assert locked.ask("POST", CONTROL, {"action": "status"}, key, **elsewhere).status in (200, 202)
    with locked.opened(headers=key, environ_overrides=elsewhere) as stream:
        assert stream.status == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_addresses_of_this_machine(client: InProcess, address: str) -> None:
    """Every loopback address is this machine."""
    assert client.ask("POST", CONTROL, {"action": "status"}, REMOTE_ADDR=address).status in (200, 202)


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:5001"}, {"Host": "192.0.2.7"},
    {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "127.0.0.1, 192.0.2.7"}, {"X-Real-IP": "192.0.2.7"},
    {"Forwarded": "for=192.0.2.7;proto=https"}, {"X-Forwarded-For": "nonsense"},
    {"X-Forwarded-For": "192.0.2.7, ::1"}, {"X-Forwarded-Proto": "https"}, {"Via": "1.1 proxy"},
])
def test_requests_that_only_seem_to_be_local(api: Api, headers: dict[str, str]) -> None:
    """DNS rebinding and a proxy on this machine make nobody local."""
    code = "foreign_host" if "Host" in headers else "loopback_only"
    for method, path, body in (("POST", CONTROL, {"action": "start"}), ("GET", STREAM, None), ("GET", STATUS, None)):
        refused(api.ask(method, path, body, headers), 403, code)
    assert calls(api) == []


@pytest.mark.parametrize("headers", [
    {"Host": "localhost:5001"}, {"Host": "[::1]:5001"}, {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "127.0.0.2, ::1", "X-Forwarded-Proto": "https"}, {"Forwarded": 'for="[::1]:4711"'},
    {"Origin": "http://localhost:3000"}, {"Origin": "http://127.0.0.1"},
])
def test_requests_that_are_local(api: Api, headers: dict[str, str]) -> None:
    """Loopback names, loopback origins and a proxy that was asked from this machine are local."""
    answer = api.ask("POST", CONTROL, {"action": "status"}, headers)
    assert answer.status in (200, 202)
    assert answer.headers.get("access-control-allow-origin") == headers.get("Origin")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_pages_of_foreign_origins_may_not_command(api: Api, origin: str) -> None:
    """A web page of a foreign origin can neither command nor ask whether it could."""
    for method, body in (("POST", {"action": "start"}), ("OPTIONS", None)):
        answer = api.ask(method, CONTROL, body, {"Origin": origin, "Access-Control-Request-Method": "POST"})
        refused(answer, 403, "foreign_origin")
        assert "access-control-allow-methods" not in answer.headers
    assert calls(api) == []


def test_a_page_of_a_foreign_origin_may_read_why_it_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Its developer finds the reason in the answer, and the operator in the log: once, however often it asks."""
    api = InProcess(create_app())
    for _ in range(3):
        answer = api.ask("POST", CONTROL, {"action": "status"}, {"Origin": "https://evil.example"})
        refused(answer, 403, "foreign_origin")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "HYBRID_ORIGINS" in answer.json()["detail"]
    assert [record.getMessage() for record in caplog.records if "https://evil.example" in record.getMessage()] == [
        "refused a page of the origin 'https://evil.example'; HYBRID_ORIGINS names the origins that are allowed"]


def test_a_preflight_allows_what_it_asks_for(api: Api) -> None:
    """A page of an allowed origin may send any header; what is no name of one is left out."""
    answer = api.ask("OPTIONS", CONTROL, headers={
        "Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-request-id, no name, <script>"})
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "x-request-id"} <= set(allowed)
    assert not {"no name", "<script>"} & set(allowed)


def test_preflight(api: Api) -> None:
    """A page of an allowed origin learns that it may post JSON, with our headers."""
    for path in (CONTROL, EMIT):
        answer = api.ask("OPTIONS", path, headers={
            "Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-api-key,x-hybrid-token,idempotency-key"})
        assert answer.status in (200, 204)
        assert "POST" in answer.headers["access-control-allow-methods"]
        allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
        assert {"content-type", "x-api-key", "x-hybrid-token", "idempotency-key"} <= allowed


def test_the_host_does_not_open_our_routes() -> None:
    """A host that opens CORS for everybody opens its own routes only, and its hooks are not asked about refusals."""
    app = create_app()
    asked: list[str] = []

    @app.before_request
    def ask_host() -> None:
        asked.append("before")

    @app.after_request
    def open_everything(response: Any) -> Any:
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Allow-Headers"] = "*"
        return response

    api = InProcess(app)
    assert api.ask("GET", "/health").headers["access-control-allow-origin"] == "*"
    answer = api.ask("POST", CONTROL, {"action": "status"})
    assert answer.status in (200, 202)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked.clear()
    refused(api.ask("POST", CONTROL, {"action": "status"}, {"Origin": "https://evil.example"}), 403, "foreign_origin")
    assert asked == []


# -- signals -------------------------------------------------------------------------------------------------------


def test_signals_of_a_command(client: InProcess) -> None:
    """``command_received`` and ``command_finished`` tell of every command, with the real app as sender."""
    told: list[tuple[str, Any, Any]] = []

    def received(sender: Any, command: Any) -> None:
        told.append(("received", sender, command.action))

    def done(sender: Any, command: Any) -> None:
        told.append(("finished", sender, (command.action, command.status)))

    with signals.command_received.connected_to(received), signals.command_finished.connected_to(done):
        order(client, "set_mode", mode="fast")
        order(client, "status")
        wait_until(lambda: len(told) == 4)
    assert told == [("received", client.app, "set_mode"), ("finished", client.app, ("set_mode", "done")),
                    ("received", client.app, "status"), ("finished", client.app, ("status", "done"))]
