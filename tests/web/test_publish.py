"""``POST /api/events/publish``: a program beside the host sends an event to the host's clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from support.servers import Api

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.errors import AccessDenied

PUBLISH = "/api/events/publish"
#: The server that the tests here share.
SERVER = {"HYBRID_HEARTBEAT_S": 0.1, "HYBRID_RESUME_S": 0}


def publish(api: Api, event: Any, **message: Any) -> Any:
    """Publish an event; return its id."""
    answer = api.ask("POST", PUBLISH, {"event": event, **message})
    assert answer.status == 200, answer
    return answer.json()["id"]


def test_everybody_gets_it_with_its_id(api: Api) -> None:
    """It is an event like one that the host emits: in order, with the id that the answer names."""
    with api.opened() as first, api.opened() as second:
        ids = [publish(api, "built", data={"ok": number}) for number in range(3)]
        for stream in (first, second):
            assert stream.wait_for("built", 3) == [{"ok": number} for number in range(3)]
            assert [message.id for message in stream.named("built")] == ids


@pytest.mark.parametrize(("message", "expected"), [
    ({}, None), ({"data": None}, None), ({"data": [1, 2]}, [1, 2]), ({"args": []}, None), ({"args": ["a"]}, "a"),
    ({"args": [1, {"b": 2}]}, [1, {"b": 2}]), ({"data": {"$binary": "AP8="}}, {"$binary": "AP8="}),
], ids=json.dumps)
def test_arguments(api: Api, message: dict[str, Any], expected: Any) -> None:
    """``data`` is the only argument, ``args`` are all of them, as where a client emits."""
    with api.opened() as stream:
        publish(api, "built", **message)
        assert stream.wait_for("built") == [expected]


def test_to_one_client_or_to_all_but_one(api: Api) -> None:
    """``to`` and ``skip`` name rooms, of which each ``sid`` is one."""
    with api.opened() as ann, api.opened() as bob:
        publish(api, "built", data="for ann", to=ann.sid)
        publish(api, "built", data="not for ann", skip=[ann.sid])
        publish(api, "built", data="for both", to=[ann.sid, bob.sid])
        assert ann.wait_for("built", 2) == ["for ann", "for both"]
        assert bob.wait_for("built", 2) == ["not for ann", "for both"]


def test_to_a_namespace(api: Api) -> None:
    """Clients of other namespaces do not get it."""
    with api.opened("namespace=/chat") as chat, api.opened() as other:
        publish(api, "built", data=1, namespace="/chat")
        publish(api, "built", data=2)
        assert chat.wait_for("built") == [1]
        assert other.wait_for("built") == [2]


@pytest.mark.parametrize(("message", "code"), [
    ({}, "bad_event_name"), ({"event": ""}, "bad_event_name"), ({"event": 5}, "bad_event_name"),
    ({"event": "a\nb"}, "bad_event_name"), ({"event": "hybrid_open"}, "bad_event_name"),
    ({"event": "e", "args": {}}, "bad_arguments"), ({"event": "e", "data": {"$binary": "?"}}, "bad_payload"),
    ({"event": "e", "data": "\ud800"}, "bad_payload"), ({"event": "e", "namespace": "chat"}, "bad_namespace"),
    ({"event": "e", "to": 5}, "bad_room"), ({"event": "e", "to": []}, "bad_room"),
    ({"event": "e", "to": [1]}, "bad_room"),
    ({"event": "e", "skip": {"a": 1}}, "bad_room"),
    ({"event": "e", "skip": [[]]}, "bad_room"),
], ids=str)
def test_what_makes_no_sense_is_refused(api: Api, message: dict[str, Any], code: str) -> None:
    """With 422 and a code, and nobody gets anything."""
    with api.opened() as stream:
        answer = api.ask("POST", PUBLISH, message)
        assert (answer.status, answer.json()["code"]) == (422, code)
        publish(api, "marker")
        assert stream.wait_for("marker")
        assert not stream.named("e")


def test_an_event_that_is_too_large() -> None:
    """413, as the host is told where it emits such an event."""
    app = Flask(__name__)
    HybridTransport(app, max_event_bytes=1000)
    answer = app.test_client().post(PUBLISH, json={"event": "e", "data": "x" * 1000})
    assert (answer.status_code, answer.get_json()["code"]) == (413, "event_too_large")


def test_the_application_is_asked() -> None:
    """The function of ``authorize`` sees name, namespace and arguments, and what it refuses reaches nobody."""
    app = Flask(__name__)
    transport = HybridTransport(app)
    asked = []

    def decide(wanted: Any) -> bool:
        asked.append((wanted.action, wanted.namespace, wanted.event, wanted.data))
        if wanted.event == "secret":
            raise AccessDenied("no secrets here", code="not_authorized")
        return True

    transport.authorize(decide)
    client = app.test_client()
    assert client.post(PUBLISH, json={"event": "news", "args": [1, 2], "namespace": "/x"}).status_code == 200
    answer = client.post(PUBLISH, json={"event": "secret"})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "not_authorized")
    assert asked == [("publish", "/x", "news", [1, 2]), ("publish", "/", "secret", [])]
    assert transport.statistics().log.appended == 1


def test_so_many_a_second() -> None:
    """Publishing counts as a command of its address."""
    app = Flask(__name__)
    HybridTransport(app, command_rate=3)
    client = app.test_client()
    statuses = [client.post(PUBLISH, json={"event": "e"}).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
