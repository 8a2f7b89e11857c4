"""Whose pages may be clients: ``cors_allowed_origins`` of the app, where ``HYBRID_ORIGINS`` is not set."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.settings import load_settings
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.web.origins import Origins
from hakgal_hybrid.web.urls import ROUTES

NAMED, OTHER = "https://dash.example", "https://evil.example"
LOCAL = "http://localhost:5173"
CLIENTS = [route.rule for route in ROUTES.values() if route.clients and "POST" in route.methods]


def app_with(given: Any, *, made: str = "first", **config: Any) -> Flask:
    """An app whose SocketIO was given ``cors_allowed_origins``."""
    app = Flask("site")
    app.config.update(config)
    if made == "after the transport":
        HybridTransport(app)
    if made == "init_app":
        SocketIO().init_app(app, cors_allowed_origins=given)
    else:
        SocketIO(app, cors_allowed_origins=given)
    return app


def connects(app: Flask, origin: str) -> bool:
    """Whether a page of an origin may become a client, and read that it did."""
    answer = app.test_client().post("/api/events/connect", json={}, headers={"Origin": origin})
    allowed = answer.headers.get("Access-Control-Allow-Origin") == origin
    assert allowed is (answer.status_code == 200)
    assert answer.headers.get("Access-Control-Allow-Credentials") == ("true" if allowed else None)
    return allowed


def commands(app: Flask, origin: str) -> bool:
    """Whether a page of an origin may use what is the operator's."""
    client, headers = app.test_client(), {"Origin": origin}
    status = client.get("/api/hybrid/status", headers=headers).status_code
    published = client.post("/api/events/publish", json={"event": "news"}, headers=headers).status_code
    unproven = client.post("/api/events/emit", json={"event": "nobody"}, headers=headers).status_code
    assert (status, published) in ((200, 200), (403, 403))
    assert unproven in (404, 403)
    return status == 200


@pytest.mark.parametrize("made", ["first", "after the transport", "init_app"])
@pytest.mark.parametrize(("given", "named", "other", "operator"), [
    (None, False, False, False), (NAMED, True, False, True), ([NAMED], True, False, True),
    ((NAMED,), True, False, True), (lambda origin: None, False, False, False),
    (f"{NAMED}, https://b.example", True, False, True), (NAMED.upper(), True, False, True), ("*", True, True, False),
    (["*"], True, True, False), ([NAMED, "*"], True, True, True), ("", False, False, False), ((), False, False, False),
    (lambda origin: origin == NAMED, True, False, False), (lambda origin, environ: origin == NAMED, True, False, False),
    (lambda origin, environ: environ["PATH_INFO"] == "/api/events/connect", True, True, False),
    (lambda origin: 1 / 0, False, False, False), (f"{NAMED}/", False, False, False),
    (["https://*.example"], False, False, False),
], ids=lambda value: "function" if callable(value) else repr(value))
def test_origins_of_the_app_are_taken_over(made: str, given: Any, named: bool, other: bool, operator: bool) -> None:
    """Each form of Flask-SocketIO allows the same pages; only origins that are named may use what is the operator's."""
    app = app_with(given, made=made)
    assert (connects(app, NAMED), connects(app, OTHER), commands(app, NAMED)) == (named, other, operator)
    assert not commands(app, OTHER)
    assert connects(app, LOCAL)
    assert commands(app, LOCAL)


@pytest.mark.parametrize(("named", "host", "origin", "allowed"), [
    ("https://a.example:443", "b.example", "https://a.example", True),
    ("https://a.example", "b.example", "https://a.example:443", True),
    ("http://a.example:80", "b.example", "http://a.example", True),
    ("https://a.example:80", "b.example", "https://a.example", False),
    ("", "a.example:443", "https://a.example", True), ("", "A.example:80", "http://a.example", True),
    ("", "a.example", "https://a.example:443", True), ("", "a.example:80", "https://a.example", False),
    ("", "a.example:8443", "https://a.example", False), ("", "[2001:db8::80]:80", "http://[2001:db8::80]", True),
])
def test_the_default_port_makes_no_other_origin(named: str, host: str, origin: str, allowed: bool) -> None:
    """Browsers leave it out, settings may name it, and so does a proxy that passes ``$host:$server_port`` on."""
    app = app_with(None, HYBRID_ORIGINS=named)
    answer = app.test_client().options("/api/events/connect", headers={"Host": host, "Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else "*")


@pytest.mark.parametrize("given", ["*", [], NAMED, lambda origin: True])
def test_a_setting_wins(given: Any) -> None:
    """``HYBRID_ORIGINS`` alone counts where it is set, even if it names none."""
    assert not connects(app_with(given, HYBRID_ORIGINS=""), NAMED)
    app = app_with(given, HYBRID_ORIGINS="https://only.example")
    assert connects(app, "https://only.example")
    assert not connects(app, NAMED)


def test_every_origin_by_setting() -> None:
    """``HYBRID_ORIGINS="*"`` opens the clients' URLs to every page, and no other."""
    app = app_with(None, HYBRID_ORIGINS="*")
    assert connects(app, OTHER)
    assert not commands(app, OTHER)
    assert load_settings({}, {"HYBRID_ORIGINS": "*"}).origins == ("*",)


def test_an_empty_list_leaves_origins_alone() -> None:
    """``[]``: nobody is refused for his origin at a client's URL, and no CORS header is sent; a form cannot post."""
    app = app_with([])
    client = app.test_client()
    answer = client.post("/api/events/connect", json={}, headers={"Origin": OTHER})
    assert answer.status_code == 200
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    assert client.post("/api/events/connect", data="{}", content_type="text/plain",
                       headers={"Origin": OTHER}).status_code == 415
    for rule in CLIENTS:
        preflight = client.options(rule, headers={"Origin": OTHER, "Access-Control-Request-Method": "POST"})
        assert preflight.status_code == 204
        assert not [name for name, _ in preflight.headers if name.startswith("Access-Control")]
    assert not commands(app, OTHER)


@pytest.mark.parametrize(("given", "warning"), [
    ("*", "cors_allowed_origins='*': a page of any site"), ([], "cors_allowed_origins=[]: the origins of clients"),
    (f"{NAMED}/", "is no origin such as"), (NAMED, ""), (None, ""), (lambda origin: True, "")])
def test_what_is_open_is_said(given: Any, warning: str, caplog: pytest.LogCaptureFixture) -> None:
    """A warning says what the app has opened to every page, and what of its value means nothing."""
    with caplog.at_level(logging.WARNING):
        app_with(given)
    said = [record.getMessage() for record in caplog.records if "cors_allowed_origins" in record.getMessage()]
    assert len(said) == (1 if warning else 0)
    assert warning in "".join(said)


def test_preflights_of_every_page() -> None:
    """With ``"*"`` a page may send to each URL of clients what its preflight asks for."""
    client = app_with("*").test_client()
    for rule in CLIENTS:
        answer = client.options(rule, headers={"Origin": OTHER, "Access-Control-Request-Method": "POST",
                                               "Access-Control-Request-Headers": "x-made-up"})
        assert answer.headers["Access-Control-Allow-Origin"] == OTHER, rule
        assert "x-made-up" in answer.headers["Access-Control-Allow-Headers"]


def test_the_loop_never_asks_the_app() -> None:
    """Whether a body is worth reading is said without the function of the app: it may take its time."""
    asked: list[int] = []

    def allowed(origin: str) -> bool:
        asked.append(threading.get_ident())
        return False

    app = app_with(allowed)
    refuses: Callable[[dict[str, Any]], bool] = HybridTransport.of(app).state.refuses
    environ = {"PATH_INFO": "/api/events/connect", "REQUEST_METHOD": "POST", "REMOTE_ADDR": "127.0.0.1",
               "CONTENT_TYPE": "application/json", "HTTP_HOST": "localhost", "HTTP_ORIGIN": OTHER}
    assert not refuses(environ)
    assert not asked
    assert not connects(app, OTHER)
    assert asked


def test_an_embedded_stream_of_another_site() -> None:
    """What a page of another site loads without ``Origin`` is refused, unless every page is allowed."""
    environ = {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "no-cors"}
    with pytest.raises(Exception, match="another site"):
        Origins((NAMED,)).check(environ, client=True)
    Origins(("*",)).check(environ, client=True)
    with pytest.raises(Exception, match="another site"):
        Origins(("*",)).check(environ, client=False)
