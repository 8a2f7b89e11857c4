"""The host's context in what it registers with us: its request, session and user; and what is never saved of them."""

from __future__ import annotations

from typing import Any

import flask
import flask_login
import flask_session
import pytest
from cachelib import SimpleCache
from flask import Flask, current_app, g, session
from flask.testing import FlaskClient

from hakgal_hybrid import HybridTransport, signals
from hakgal_hybrid.socketio import Namespace
from hakgal_hybrid.testing import open_stream


class User(flask_login.UserMixin):
    def __init__(self, id: str) -> None:
        self.id = id


@pytest.fixture(params=["cookies", "server-side"])
def host(request: pytest.FixtureRequest) -> Flask:
    """A host with users, whose sessions are permanent: Flask saves these with every answer."""
    host = Flask("host")
    host.config.update(SECRET_KEY="only for tests", SESSION_REFRESH_EACH_REQUEST=True)
    if request.param == "server-side":
        host.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
        flask_session.Session(host)
    flask_login.LoginManager(host).user_loader(User)

    @host.post("/login/<name>")
    def login(name: str) -> str:
        session.permanent = True
        flask_login.login_user(User(name))
        session["colour"] = "red"
        return "in"

    @host.post("/logout")
    def logout() -> str:
        flask_login.logout_user()
        session.clear()
        return "out"

    order = host.extensions["order"] = []
    host.teardown_request(lambda error: order.append("teardown"))

    @host.get("/me")
    def me() -> dict[str, Any]:
        return {"user": flask_login.current_user.get_id(), "session": dict(session)}

    return host


@pytest.fixture
def browser(host: Flask) -> FlaskClient:
    """A visitor who has logged in as Ann."""
    browser = host.test_client()
    browser.post("/login/ann")
    return browser


def seen() -> dict[str, Any]:
    """Return what code of the host's sees."""
    return {"app": current_app.name, "user": flask_login.current_user.get_id(), "colour": session.get("colour"),
            "agent": flask.request.headers.get("X-Agent")}


def test_whatever_the_host_registers_sees_its_own_context(host: Flask, browser: FlaskClient) -> None:
    """Handlers, namespaces of its own kind, the function that authorizes, callbacks."""
    transport = HybridTransport(host, governor=type("Governor", (), {"get_status": lambda self: {}})())
    found: dict[str, Any] = {}
    ours = {"app": "host", "user": "ann", "colour": "red", "agent": "x"}

    class Own(Namespace):
        def trigger_event(self, event: str, *args: Any) -> Any:
            found[f"class {event}"] = seen()
            return super().trigger_event(event, *args)

        def on_ask(self) -> None:
            found["method"] = seen()

    @transport.authorize
    def decide(access: Any) -> bool:
        found[access.action] = seen()
        assert access.request is None or access.request.headers["X-Agent"] == "x"
        if access.action == "command":
            assert access.request.get_json()["action"] == "status"
        return True

    socketio = transport.socketio
    socketio.on("connect")(lambda: found.update({"handler connect": seen()}))
    socketio.on("ask")(lambda: found.update(handler=seen()))
    socketio.on_namespace(Own("/own"))

    def sent(sender: Flask, event: Any, event_id: str) -> None:
        acks.append(event.ack)

    headers, acks = {"X-Agent": "x"}, []
    with signals.event_emitted.connected_to(sent, sender=host), \
            open_stream(browser, headers=headers) as stream, \
            open_stream(browser, headers=headers, namespace="/own") as own:
        for opened, namespace in ((stream, "/"), (own, "/own")):
            answer = browser.post("/api/events/emit", headers={**headers, "X-Hybrid-Token": opened.open["token"]},
                                  json={"event": "ask", "sid": opened.open["sid"], "namespace": namespace})
            assert answer.status_code == 200, answer.get_json()
        assert browser.post("/api/governor/control", json={"action": "status"}, headers=headers).status_code == 200
        transport.emit("question", to=stream.open["sid"], callback=lambda: found.update(callback=seen()))
        assert browser.post("/api/events/ack", json={"sid": stream.open["sid"], "ack": acks[-1]},
                            headers={**headers, "X-Hybrid-Token": stream.open["token"]}).status_code == 200
    assert found == dict.fromkeys(found, ours)
    assert set(found) >= {"stream", "connect", "emit", "command", "handler connect", "handler", "class connect",
                          "class ask", "method", "callback"}


def test_context_of_the_host_is_the_handlers_alone(host: Flask, browser: FlaskClient) -> None:
    """What one handler leaves in ``g`` the next does not find, and teardown functions run when a handler has ended."""
    transport, order = HybridTransport(host), host.extensions["order"]

    @transport.socketio.on("keep")
    def keep() -> bool:
        order.append("handler")
        known = "kept" in g
        g.kept = True
        return known

    order.clear()
    for _ in range(2):
        assert browser.post("/api/events/emit", json={"event": "keep"}).get_json()["ack"] is False
    assert order == ["handler", "teardown"] * 2


@pytest.mark.parametrize("manage_session", [True, False])
def test_no_answer_of_ours_carries_the_session(host: Flask, browser: FlaskClient, manage_session: bool) -> None:
    """Nor does one change the session, permanent or not, unless a handler does that where the app's own is shared."""
    transport = HybridTransport(host)
    transport.socketio.handlers.manage_session = manage_session
    transport.socketio.on("look")(lambda: session.get("colour"))
    before = browser.get("/me").get_json()
    for answer in (browser.get("/api/hybrid/status"), browser.get("/api/hybrid/client.classic.js"),
                   browser.post("/api/events/connect", json={}), browser.post("/api/events/emit", json={"event": "no"}),
                   browser.post("/api/events/emit", json={"event": "look"}), browser.head("/api/events/stream")):
        assert "Set-Cookie" not in answer.headers
    assert browser.get("/me").get_json() == before


@pytest.mark.parametrize("manage_session", [True, False])
@pytest.mark.parametrize("event", ["look", "connect"])
@pytest.mark.parametrize("paints", [False, True])
def test_logout_during_a_handler_stays_a_logout(host: Flask, browser: FlaskClient, manage_session: bool,
                                                event: str, paints: bool) -> None:
    """The session that was open as a handler began does not come back when the handler's answer is sent."""
    transport = HybridTransport(host)
    transport.socketio.handlers.manage_session = manage_session
    other = host.test_client()
    cookie = browser.get_cookie("session")
    assert cookie is not None

    @transport.socketio.on(event)
    def slow() -> None:
        assert session["colour"] == "red"
        other.set_cookie("session", cookie.value)
        left = other.post("/logout")
        browser.set_cookie("session", "")
        for name, value in left.headers:
            if name == "Set-Cookie":
                browser.set_cookie("session", value.split(";")[0].partition("=")[2])
        if paints:
            session["colour"] = "blue"

    if event == "connect":
        answer = browser.post("/api/events/connect", json={})
    else:
        answer = browser.post("/api/events/emit", json={"event": "look"})
    assert answer.status_code == 200, answer.get_json()
    assert "Set-Cookie" not in answer.headers
    assert browser.get("/me").get_json()["user"] is None
    browser.set_cookie("session", cookie.value)
    known = browser.get("/me").get_json()["user"]
    assert known == ("ann" if host.config.get("SESSION_TYPE") is None else None)


def test_shared_session_is_saved_as_flask_socketio_saves_it(host: Flask, browser: FlaskClient) -> None:
    """With ``manage_session=False`` and sessions kept by the server, what a handler changes is there for requests."""
    transport = HybridTransport(host)
    transport.socketio.handlers.manage_session = False

    @transport.socketio.on("paint")
    def paint() -> None:
        session["colour"] = "blue"

    assert "Set-Cookie" not in browser.post("/api/events/emit", json={"event": "paint"}).headers
    expected = "red" if host.config.get("SESSION_TYPE") is None else "blue"
    assert browser.get("/me").get_json()["session"]["colour"] == expected


@pytest.mark.parametrize("manage_session", [True, False])
def test_managed_session_stays_with_the_client(host: Flask, browser: FlaskClient, manage_session: bool) -> None:
    """With ``manage_session=True`` the handlers of one client share a copy, which requests do not see."""
    transport = HybridTransport(host)
    transport.socketio.handlers.manage_session = manage_session
    transport.socketio.on("paint")(lambda: session.__setitem__("colour", "blue"))
    transport.socketio.on("look")(lambda: session["colour"])
    with open_stream(browser) as stream:
        def emit(event: str) -> Any:
            answer = browser.post("/api/events/emit", json={"event": event, "sid": stream.open["sid"]},
                                  headers={"X-Hybrid-Token": stream.open["token"]})
            return answer.get_json()["ack"]
        emit("paint")
        shared = not manage_session and host.config.get("SESSION_TYPE") is not None
        assert emit("look") == ("blue" if manage_session or shared else "red")
    assert browser.get("/me").get_json()["session"]["colour"] == ("blue" if shared else "red")
