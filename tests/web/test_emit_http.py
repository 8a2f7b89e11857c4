"""``POST /api/events/emit``: the host's own handlers, run for what clients send.

Every test runs twice: through Flask's test client, and against our server.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from support.app import create_app
from support.servers import (
    EMIT,
    SOON,
    STREAM,
    Answer,
    Api,
    Events,
    InProcess,
    Server,
    wait_until,
)

#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": 0.1, "HYBRID_RESUME_S": 0}


def say(api: Api, event: Any, *args: Any, stream: Events | None = None, headers: dict[str, str] | None = None,
        **message: Any) -> Answer:
    """Send an event, in the name of ``stream`` if one is given."""
    if args:
        message["args"] = list(args)
    headers = dict(headers or {})
    if stream is not None:
        message.setdefault("sid", stream.sid)
        headers.setdefault("X-Hybrid-Token", stream.open["token"])
    return api.ask("POST", EMIT, {"event": event, **message}, headers)


def ack(answer: Answer) -> Any:
    """Return what a handler acknowledged."""
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
    return answer.json()["ack"]


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document with this status and code; return it."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    return problem


# -- arguments and answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "expected"), [
    ({}, []), ({"data": None}, []), ({"data": 0}, [0]), ({"data": False}, [False]), ({"data": ""}, [""]),
    ({"data": [1, 2]}, [[1, 2]]), ({"data": {"a": [None]}}, [{"a": [None]}]), ({"args": []}, []),
    ({"args": [None]}, [None]), ({"args": [1, "two", {"three": 3}]}, [1, "two", {"three": 3}]),
    ({"args": [[1, 2]]}, [[1, 2]]), ({"args": [1], "data": 2}, [1]),
    ({"data": "Grüße \U0001f600"}, ["Grüße \U0001f600"]),
])
def test_forms_of_arguments(api: Api, message: dict[str, Any], expected: list[Any]) -> None:
    """``args`` are the arguments, ``data`` is the only one; a handler's tuple comes back as an array."""
    assert ack(say(api, "echo", **message)) == expected


def test_answers(api: Api) -> None:
    """What a handler returns is the acknowledgement: an object, or ``null`` for nothing."""
    assert ack(say(api, "single", 5)) == {"type": "int", "value": 5}
    assert ack(say(api, "join", "somewhere")) is None


def test_an_answer_json_cannot_hold(api: Api) -> None:
    """A handler that returns what nothing can write as JSON is a failure that says so, not the value's repr."""
    with api.opened() as stream:
        for answer in say(api, "odd"), say(api, "odd", stream=stream), say(api, "odd", stream=stream, number=1):
            problem = refused(answer, 500, "handler_failed")
            assert "'odd' ran" in problem["detail"]
            assert "Object of type object" in problem["detail"]
            assert "<object object" not in problem["detail"]


def test_binary(api: Api) -> None:
    """``{"$binary": …}`` reaches the handler as bytes, and bytes come back as that; such a key is escaped."""
    assert ack(say(api, "reverse", {"$binary": "AAEC"})) == {"$binary": "AgEA"}
    assert ack(say(api, "single", {"picture": {"$binary": ""}})) == {
        "type": "dict", "value": {"picture": {"$binary": ""}}}
    assert ack(say(api, "single", {"$$binary": "text"})) == {"type": "dict", "value": {"$$binary": "text"}}
    with api.opened() as stream:
        assert ack(say(api, "reverse", stream=stream, data={"$binary": "AAEC"})) == {"$binary": "AgEA"}
    for nonsense in ("not base64!", 5, None, "AAE"):
        refused(say(api, "reverse", {"$binary": nonsense}), 422, "bad_payload")


def test_odd_values_are_taken(api: Api) -> None:
    """What JSON allows is answered with JSON: a lone surrogate, a huge number."""
    for value in (b'"\\ud800"', b"9" * 1000, b"-1e300"):
        answer = api.ask("POST", EMIT, b'{"event": "single", "args": [' + value + b"]}",
                         {"Content-Type": "application/json"})
        assert answer.status == 200, answer
        json.loads(answer.body, parse_constant=pytest.fail)


def test_numbers_that_json_does_not_know(api: Api) -> None:
    """Python's JSON would read NaN and Infinity, and could not send them on."""
    for value in (b"NaN", b"1e999", b"-Infinity", b'{"a": NaN}'):
        answer = api.ask("POST", EMIT, b'{"event": "single", "args": [' + value + b"]}",
                         {"Content-Type": "application/json"})
        refused(answer, 400, "bad_json")


# -- refusals ------------------------------------------------------------------------------------------------------


def test_unknown_events(api: Api) -> None:
    """An event without a handler is not found, and those that have one are named."""
    problem = refused(say(api, "nothing"), 404, "unknown_event")
    assert problem["accepted"] == ["ask", "boom", "count", "echo", "hold", "join", "leave", "odd", "reverse", "shout",
                                   "single", "whoami"]
    assert refused(say(api, "ask", namespace="/chat"), 404, "unknown_event")["accepted"] == ["echo"]
    assert refused(say(api, "echo", namespace="/nowhere"), 404, "unknown_event")["accepted"] == []


def test_connecting_is_no_event(api: Api) -> None:
    """Nobody can call the ``connect`` and ``disconnect`` handlers."""
    before = api.notes()
    with api.opened() as stream:
        for name in ("connect", "disconnect"):
            refused(say(api, name), 404, "unknown_event")
            refused(say(api, name, "reason"), 404, "unknown_event")
            refused(say(api, name, stream=stream), 404, "unknown_event")
        assert api.notes()["disconnected"] == before["disconnected"]
        assert api.notes()["connected"] == [*before["connected"], stream.sid]


@pytest.mark.parametrize("event", [None, "", 5, ["echo"], {}, "a\nb", "a\rb", "a\0b", "x" * 257, "hybrid_open"])
def test_names_that_are_none(api: Api, event: Any) -> None:
    """The event's name must be one that could be emitted."""
    refused(say(api, event), 422, "bad_event_name")


def test_wrong_arguments(api: Api) -> None:
    """Arguments that the handler does not take are the caller's fault, and never reach it."""
    refused(say(api, "single"), 422, "bad_arguments")
    refused(say(api, "single", 1, 2), 422, "bad_arguments")
    refused(say(api, "count", 1), 422, "bad_arguments")
    for args in ("text", {"a": 1}, 5, None):
        refused(api.ask("POST", EMIT, {"event": "echo", "args": args}), 422, "bad_arguments")


@pytest.mark.parametrize("namespace", ["chat", "", None, 5, ["/"]])
def test_namespaces_that_are_none(api: Api, namespace: Any) -> None:
    """A namespace begins with a slash."""
    refused(say(api, "echo", namespace=namespace), 422, "bad_namespace")


def test_a_handler_that_raises(api: Api) -> None:
    """A handler that raises is answered with 500, without its traceback, and costs nobody else anything."""
    with api.opened() as stream:
        for answer in (say(api, "boom"), say(api, "boom", stream=stream)):
            problem = refused(answer, 500, "handler_failed")
            assert "LookupError" in problem["detail"]
            assert b"Traceback" not in answer.body
            assert b"this handler fails" not in answer.body
        assert ack(say(api, "echo", 1, stream=stream)) == [1]
        api.emit("end")
        stream.wait_for("end")


def test_the_traceback_of_a_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What went wrong in a handler stands in the log, once."""
    say(InProcess(create_app()), "boom")
    assert caplog.text.count("LookupError: this handler fails") == 1
    assert "'boom'" in caplog.text


# -- in the name of a client ---------------------------------------------------------------------------------------


def test_a_handler_sees_its_client(api: Api) -> None:
    """A handler runs in a request context with the client's ``sid`` and the request that opened its stream."""
    headers = {"User-Agent": "tab/1", "Cookie": "flavour=oatmeal"}
    with api.opened("tab=7", headers) as stream:
        assert ack(say(api, "whoami", stream=stream, headers={"User-Agent": "poster"})) == {
            "sid": stream.sid, "namespace": "/", "event": "whoami", "tab": "7", "agent": "tab/1", "cookie": "oatmeal",
            "user": None, "rooms": [stream.sid]}


def test_a_handler_without_a_client_sees_its_caller(api: Api) -> None:
    """Without a ``sid`` the handler sees the posting request, under a ``sid`` of its own."""
    answer = api.ask("POST", f"{EMIT}?tab=8", {"event": "whoami"}, {"User-Agent": "poster"})
    told = ack(answer)
    assert (told["tab"], told["agent"], told["namespace"]) == ("8", "poster", "/")
    assert told["sid"]
    assert told["sid"] != ack(say(api, "whoami"))["sid"]


def test_the_session_is_forked(api: Api) -> None:
    """Handlers share the session of the request that opened their client: theirs from then on, kept between them."""
    cookie = api.ask("GET", "/login?user=ada").headers["set-cookie"].split(";")[0]
    with api.opened(headers={"Cookie": cookie}) as ada, api.opened(headers={"Cookie": ""}) as nobody:
        assert ack(say(api, "whoami", stream=ada))["user"] == "ada"
        assert [ack(say(api, "count", stream=ada)) for _ in range(3)] == [1, 2, 3]
        assert ack(say(api, "count", stream=nobody)) == 1
        assert ack(say(api, "count", stream=ada)) == 4
        with api.opened(headers={"Cookie": cookie}) as again:
            assert ack(say(api, "count", stream=again)) == 1
            assert ack(say(api, "whoami", stream=again))["user"] == "ada"
    assert "set-cookie" not in say(api, "count").headers


def test_nobody_speaks_as_somebody_else(api: Api) -> None:
    """A ``sid`` needs its own token; that it exists is not told."""
    with api.opened() as stream, api.opened() as other:
        unknown = refused(say(api, "echo", stream=stream, sid="unknown"), 403, "bad_token")
        for headers in ({"X-Hybrid-Token": "wrong"}, {"X-Hybrid-Token": ""}, {"X-Hybrid-Token": other.open["token"]},
                        {"X-Hybrid-Token": stream.open["token"] + "x"}, {"X-Hybrid-Token": "gr\u00fcn"}):
            assert refused(say(api, "count", stream=stream, headers=headers), 403, "bad_token") == unknown
        refused(api.ask("POST", EMIT, {"event": "count", "sid": stream.sid}), 403, "bad_token")
        for sid in (5, ["x"], {}, True, ""):
            refused(say(api, "count", stream=stream, sid=sid), 403, "bad_token")
        assert ack(say(api, "count", stream=stream)) == 1


def test_a_token_ends_with_its_stream(api: Api) -> None:
    """Nobody speaks as a client that is gone."""
    with api.opened() as stream:
        assert ack(say(api, "count", stream=stream)) == 1
    wait_until(lambda: say(api, "count", stream=stream).status == 403)
    refused(say(api, "count", stream=stream), 403, "bad_token")


def test_namespace_of_a_client(api: Api) -> None:
    """A client speaks in the namespace of its stream, and in no other."""
    with api.opened("namespace=/chat") as chat, api.opened() as default:
        assert ack(say(api, "echo", "hi", stream=chat)) == "chat: hi"
        assert ack(say(api, "echo", "hi", stream=chat, namespace="/chat")) == "chat: hi"
        assert ack(say(api, "echo", "hi", stream=default)) == ["hi"]
        refused(say(api, "echo", "hi", stream=chat, namespace="/"), 422, "bad_namespace")
        refused(say(api, "echo", "hi", stream=default, namespace="/chat"), 422, "bad_namespace")
    assert ack(say(api, "echo", "hi", namespace="/chat")) == "chat: hi"


# -- what handlers emit --------------------------------------------------------------------------------------------


def test_what_a_handler_emits_to_its_caller(api: Api) -> None:
    """``emit`` in a handler goes to the stream of its client and nobody else."""
    with api.opened() as stream, api.opened() as other:
        answer = say(api, "ask", {"q": 1}, stream=stream)
        assert answer.json() == {"ack": None}
        assert stream.wait_for("answer", 2) == [{"to": {"q": 1}}, [1, 2]]
        api.emit("end")
        other.wait_for("end")
        assert [message.event for message in other.messages] == ["hybrid_open", "end"]


def test_what_a_handler_emits_to_a_caller_without_a_stream(api: Api) -> None:
    """Without a ``sid``, what is emitted to the caller comes back in the answer, and goes to no stream."""
    with api.opened() as stream:
        before = api.status()["log"]["appended"]
        assert say(api, "ask", {"q": 1}).json() == {
            "ack": None,
            "events": [{"event": "answer", "data": {"to": {"q": 1}}, "args": [{"to": {"q": 1}}]},
                       {"event": "answer", "data": [1, 2], "args": [1, 2]}]}
        assert api.status()["log"]["appended"] == before
        assert say(api, "echo", 1).json() == {"ack": [1], "events": []}
        api.emit("end")
        stream.wait_for("end")
        assert [message.event for message in stream.messages] == ["hybrid_open", "end"]


def test_what_a_handler_broadcasts(api: Api) -> None:
    """A broadcast reaches every stream, but its own with ``include_self=False``."""
    with api.opened() as speaker, api.opened() as listener:
        assert ack(say(api, "shout", "Hello", stream=speaker)) == "shouted"
        assert listener.wait_for("heard") == [{"text": "Hello"}]
        assert say(api, "shout", "from nowhere").json() == {"ack": "shouted", "events": []}
        assert listener.wait_for("heard", 2)[1] == {"text": "from nowhere"}
        assert speaker.wait_for("heard") == [{"text": "from nowhere"}]


def test_rooms(api: Api) -> None:
    """Rooms that handlers join and leave are the client's own."""
    with api.opened() as one, api.opened() as two:
        assert ack(say(api, "join", "club", stream=one)) is None
        assert sorted(ack(say(api, "whoami", stream=one))["rooms"]) == sorted(["club", one.sid])
        assert ack(say(api, "whoami", stream=two))["rooms"] == [two.sid]
        api.emit("members", to="club")
        say(api, "leave", "club", stream=one)
        api.emit("members", to="club")
        api.emit("end")
        one.wait_for("end")
        two.wait_for("end")
        assert [message.event for message in one.messages] == ["hybrid_open", "members", "end"]
        assert [message.event for message in two.messages] == ["hybrid_open", "end"]


# -- many at once --------------------------------------------------------------------------------------------------


def test_a_repeated_number_runs_once(api: Api) -> None:
    """A numbered event that is sent again is answered as before, and not run again."""
    with api.opened() as stream:
        assert [ack(say(api, "count", stream=stream, number=number)) for number in (1, 1, 2, 1, 2, 3)] == [
            1, 1, 2, 1, 2, 3]
        assert ack(say(api, "count", stream=stream)) == 4
        refused(say(api, "boom", stream=stream, number=4), 500, "handler_failed")
        refused(say(api, "boom", stream=stream, number=4), 500, "handler_failed")
        assert ack(say(api, "count", stream=stream, number=5)) == 5


def test_numbered_events_wait_for_those_before_them(api: Api) -> None:
    """Numbered events that overtook each other on the way wait for the ones before them; each is run once."""
    with api.opened() as stream:
        answers: dict[int, Any] = {}
        client = stream.sid, stream.open["token"]

        def post(number: int) -> None:
            answers[number] = api.ask("POST", EMIT, {"event": "count", "sid": client[0], "number": number},
                                      {"X-Hybrid-Token": client[1]})

        late = [threading.Thread(target=post, args=(number,)) for number in (4, 3, 2)]
        for thread in late:
            thread.start()
        assert ack(say(api, "count", stream=stream)) == 1  # none of them has run
        assert answers == {}
        post(1)
        for thread in late:
            thread.join(SOON)
        assert sorted(ack(answer) for answer in answers.values()) == [2, 3, 4, 5]


@pytest.mark.parametrize("number", [0, -1, 1.5, "1", True, [1]])
def test_numbers_that_are_none(api: Api, number: Any) -> None:
    """Numbers count from 1."""
    with api.opened() as stream:
        refused(say(api, "count", stream=stream, number=number), 422, "bad_number")


def test_a_handler_that_takes_long_holds_up_nobody(running: Server) -> None:
    """While one client's handler runs, other clients' handlers and requests are served."""
    with running.opened() as stream, running.connect() as http:
        held = running.notes()["counts"].get("held", 0)
        http.request("POST", EMIT, {"event": "hold", "sid": stream.sid}, {"X-Hybrid-Token": stream.open["token"]})
        wait_until(lambda: running.notes()["counts"].get("held", 0) == held + 1)
        assert ack(say(running, "echo", 1)) == [1]
        assert ack(say(running, "echo", 1, stream=stream)) == [1]
        running.ask("POST", "/api/governor/control", {"action": "set_mode", "mode": "release"})
        assert ack(http.answer()) is None


def test_posts_in_parallel(running: Server) -> None:
    """Many events at once, from many clients, are each answered to whom sent them."""
    with running.opened() as stream:
        answers: list[tuple[int, Any]] = []

        def post(start: int) -> None:
            with running.connect() as http:
                for number in range(start, start + 20):
                    answer = http.ask("POST", EMIT, {"event": "echo", "data": number, "sid": stream_id},
                                      {"X-Hybrid-Token": token})
                    answers.append((number, ack(answer)))

        stream_id, token = stream.sid, stream.open["token"]
        threads = [threading.Thread(target=post, args=(start,)) for start in range(0, 160, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert sorted(answers) == [(number, [number]) for number in range(160)]


def test_the_connect_handler_refuses_with_an_odd_reason(api: Api) -> None:
    """A reason that JSON cannot hold is told as well as it can be."""
    answer = api.ask("GET", f"{STREAM}?explain=odd", headers={"Accept": "text/event-stream"})
    problem = refused(answer, 403, "connection_refused")
    assert "object object" in json.dumps(problem["reason"])
