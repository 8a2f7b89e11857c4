"""The table of our URLs is true: who may use each, where a token is needed, what the application is asked."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.web.urls import ROUTES, WEBSOCKET, Access, Route


def bodies(route: Route) -> dict[str, Any]:
    """Return a body that the view of a route takes."""
    return {"/api/events/emit": {"event": "hello"}, "/api/events/publish": {"event": "hello"},
            "/api/governor/control": {"action": "status"},
            "/api/hybrid/stacks": {"seconds": 0.05}}.get(route.rule, {})


def ask(client: Any, route: Route, address: str = "127.0.0.1", **options: Any) -> Any:
    """Ask a URL with its first method."""
    path = route.rule.replace("<id>", "x").replace("<file>", "dashboard.js")
    method = route.methods.split(", ")[0]
    body = {"json": {**bodies(route), **options.pop("body", {})}} if method == "POST" else {}
    return client.open(path, method=method, environ_overrides={"REMOTE_ADDR": address}, **body, **options)


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.rule)
def test_table_says_who_may_use_a_url(route: Route) -> None:
    """With a key set: the public, this machine, ticket holders, and whoever has the key."""
    host = Flask("host")
    transport = HybridTransport(host, api_key="k", enable_ws_special=True, governor=object())
    transport.socketio.on("hello")(lambda *args: None)
    client, evil, key = host.test_client(), {"Origin": "https://evil.test"}, {"X-API-Key": "k"}
    public, command = route.access is Access.PUBLIC, route.access is Access.COMMAND

    def admitted(answer: Any) -> bool:
        with answer:
            return (answer.get_json(silent=True) or {}).get("code") not in (
                "key_required", "wrong_key", "loopback_only", "foreign_origin")

    assert admitted(ask(client, route, headers=key))
    assert admitted(ask(client, route, "203.0.113.9", headers=key))
    assert admitted(ask(client, route)) is not command
    assert admitted(ask(client, route, "203.0.113.9")) is public
    assert admitted(ask(client, route, headers={**evil, **key})) is public
    ticket = client.post("/api/events/ticket", json={}, headers=key).get_json()["ticket"]
    holder = ask(client, route, "203.0.113.9", query_string={"ticket": ticket})
    assert admitted(holder) is (public or route.access is Access.TICKET)


@pytest.mark.parametrize("route", [route for route in ROUTES.values() if "POST" in route.methods],
                         ids=lambda route: route.rule)
def test_table_says_where_a_sid_needs_its_token(route: Route) -> None:
    """A body that names somebody else's ``sid`` is refused there, and only there."""
    host = Flask("host")
    transport = HybridTransport(host, governor=object())
    transport.socketio.on("hello")(lambda *args: None)
    client = host.test_client()
    sid = client.post("/api/events/connect", json={}).get_json()["sid"]
    answer = ask(client, route, body={"sid": sid}, headers={"X-Hybrid-Token": "guessed"})
    assert (answer.status_code == 403 and answer.get_json()["code"] == "bad_token") is route.token


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: route.rule)
def test_table_says_what_the_application_is_asked(route: Route) -> None:
    """The function of ``authorize`` is asked about these actions, in this order, and about no other."""
    host = Flask("host")
    transport = HybridTransport(host, governor=object())
    transport.socketio.on("hello")(lambda *args: None)
    asked: list[str] = []
    transport.authorize(lambda access: asked.append(access.action) or True)
    ask(host.test_client(), route).close()
    expected = route.actions if route.rule != WEBSOCKET else ()  # no WebSocket comes through the test client
    assert tuple(asked) == expected
