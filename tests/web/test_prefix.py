"""Below a path, seen from inside: where the prefix comes from, what is ours there, what answers name."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from flask import Flask, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.errors import ConfigurationError
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.testing import open_stream
from hakgal_hybrid.tools.commands.group import flask_group
from hakgal_hybrid.web.urls import CONTROL, ROUTES, STATUS, Paths, find


class Governor:
    """One that starts when it may."""

    def __init__(self) -> None:
        self.may_start = threading.Event()

    def start(self) -> bool:
        """Wait until it may start."""
        return self.may_start.wait(30)


def served_below(app: Flask, prefix: str) -> bool:
    """Whether our URLs are below a prefix, and nowhere else."""
    client = app.test_client()
    assert prefix == "" or client.get(STATUS).status_code == 404
    return bool(client.get(prefix + STATUS).status_code == 200)


# -- where it comes from ---------------------------------------------------------------------------------------------

def test_the_keyword_wins_over_the_config_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with every setting; what the app gives its SocketIO comes last."""
    monkeypatch.setenv("HYBRID_PREFIX", "/environment")
    app = Flask("site")
    SocketIO(app, path="/app/socket.io")
    assert served_below(app, "/environment")
    app = Flask("site")
    app.config["HYBRID_PREFIX"] = "/config"
    SocketIO(app, resource="app")
    assert served_below(app, "/config")
    app.extensions.clear()
    app = Flask("site")
    app.config["HYBRID_PREFIX"] = "/config"
    HybridTransport(app, url_prefix="/keyword")
    assert served_below(app, "/keyword")
    assert HybridTransport(url_prefix="/a")._apps.settings == HybridTransport(prefix="/a")._apps.settings


@pytest.mark.parametrize(("options", "prefix"), [
    ({}, ""), ({"path": None}, ""), ({"path": "socket.io"}, ""), ({"path": "/socket.io"}, ""), ({"path": "/"}, ""),
    ({"path": "/live/socket.io"}, "/live"), ({"resource": "live/socket.io"}, "/live"), ({"path": "live"}, "/live"),
    ({"path": "/a/b/socket.io/"}, "/a/b"), ({"path": "/live", "resource": "/other"}, "/live"),
])
@pytest.mark.parametrize("later", [False, True])
def test_the_path_of_the_app_is_the_prefix(options: dict[str, Any], prefix: str, later: bool) -> None:
    """``path`` and ``resource`` count as for Flask-SocketIO, without Socket.IO's own part, given at either place."""
    app = Flask("site")
    if later:
        SocketIO().init_app(app, **options)
    else:
        SocketIO(app, **options)
    assert served_below(app, prefix)
    assert app.test_client().get(prefix + STATUS).get_json()["prefix"] == prefix


def test_a_path_that_comes_too_late_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The URLs of a transport that is there already stay where they are, and a warning says so."""
    app = Flask("site")
    HybridTransport(app)
    SocketIO(app, path="/live/socket.io")
    assert served_below(app, "")
    assert "HYBRID_PREFIX=/live" in caplog.text
    caplog.clear()
    app = Flask("site")
    HybridTransport(app, url_prefix="/live")
    with caplog.at_level(logging.WARNING):
        SocketIO(app, path="/live/socket.io")
    assert "path" not in caplog.text


@pytest.mark.parametrize("path", ["/a b", "/ä", "/a/../b", "/a//b", "/<x>", "/.", "/a?b"])
def test_a_prefix_that_is_no_path_is_refused(path: str) -> None:
    """By name and value, wherever it comes from."""
    with pytest.raises(ConfigurationError, match="HYBRID_PREFIX"):
        HybridTransport(Flask("site")).init_app(_configured(path))
    with pytest.raises(ConfigurationError, match="prefix"):
        HybridTransport(Flask("site"), url_prefix=path)
    with pytest.raises(ConfigurationError, match="path"):
        SocketIO(Flask("site"), path=path)


def _configured(prefix: str) -> Flask:
    app = Flask("site")
    app.config["HYBRID_PREFIX"] = prefix
    HybridTransport(app)
    return app


# -- what is ours there ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", ROUTES)
def test_every_url_is_below_the_prefix(rule: str) -> None:
    """It is found there, with any number of slashes in front, and not beside it."""
    route = ROUTES[rule]
    for path in (f"/live{rule}", f"//live{rule}"):
        assert find(path, "/live") is route
    for path in (rule, f"/lively{rule}", f"/x/live{rule}", f"/live/live{rule}", f"/live{rule.lstrip('/')}"):
        assert find(path, "/live") is None


def test_the_host_keeps_what_is_not_below_the_prefix() -> None:
    """A route of the host that has the name of one of ours is no conflict then; one below the prefix is."""
    app = Flask("site")
    app.add_url_rule(STATUS, "own", lambda: "own")
    transport = HybridTransport(app, url_prefix="/live")
    client = app.test_client()
    assert client.get(STATUS).text == "own"
    assert client.get(f"/live{STATUS}").get_json()["prefix"] == "/live"
    assert {route.rule for route in transport.routes()} <= {f"/live{rule}" for rule in ROUTES}
    app = Flask("site")
    app.add_url_rule(f"/live{STATUS}", "own", lambda: "own")
    with pytest.raises(ConfigurationError, match=f"owns /live{STATUS}"):
        HybridTransport(app, url_prefix="/live")


def test_the_rules_hold_below_the_prefix() -> None:
    """Another machine, a foreign page and a wrong method are refused as ever."""
    app = Flask("site")
    HybridTransport(app, url_prefix="/live")
    client = app.test_client()
    remote = {"environ_overrides": {"REMOTE_ADDR": "203.0.113.9"}}
    assert client.get(f"/live{STATUS}", **remote).get_json()["code"] == "loopback_only"
    assert client.get(f"/live{STATUS}", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.delete(f"/live{STATUS}").status_code == 405


def test_streams_of_tests_find_the_prefix() -> None:
    """The test helper opens the stream of the app's own prefix."""
    app = Flask("site")
    transport = HybridTransport(app, url_prefix="/live")
    with open_stream(app.test_client()) as stream:
        transport.emit("news", 1)
        assert stream.json(stream.until("news")) == 1


def test_the_apps_own_commands_know_the_prefix() -> None:
    """``flask hybrid routes`` lists the URLs with it, and the others ask below it."""
    app = Flask("site")
    HybridTransport(app, url_prefix="/live", port=1)
    done = app.test_cli_runner().invoke(flask_group, ["routes"])
    assert f"/live{STATUS}" in done.output
    done = app.test_cli_runner().invoke(flask_group, ["status"])
    assert "http://127.0.0.1:1/live does not answer" in done.output


def test_paths_learn_mounts() -> None:
    """What the app is mounted at counts in front of the prefix, for a few mounts."""
    paths = Paths("/live")
    assert paths.lane_of(f"/live{STATUS}") == "control"
    assert paths.lane_of(f"/site/live{STATUS}") == "host"
    paths.learn(f"/site/live{STATUS}", f"/live{STATUS}")
    assert paths.lane_of(f"/site/live{STATUS}") == "control"
    assert paths.is_stream("/site/live/api/events/stream")
    assert paths.is_ours("/site/live/api/events/emit")
    assert not paths.is_ours("/site/api/events/emit")
    for number in range(100):
        paths.learn(f"/{number}/live{STATUS}", f"/live{STATUS}")
    assert paths.is_ours(f"/0/live{STATUS}")
    assert not paths.is_ours(f"/99/live{STATUS}")


# -- what answers name -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("inside", [True, False])
def test_locations_below_mounts_and_proxies(inside: bool) -> None:
    """``Location`` leads to the outcome as its client sees it: below a proxy's path, a mount and the prefix."""
    app = Flask("site")
    governor = Governor()

    def fix() -> None:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]

    if inside:
        fix()
    transport = HybridTransport(app, url_prefix="/live", governor=governor, api_key="k")
    if not inside:
        fix()
    client, key = Client(DispatcherMiddleware(Flask("root"), {"/mount": app})), {"X-API-Key": "k"}
    for headers, root in (({}, "/mount"), ({"X-Forwarded-Prefix": "/outer path"}, "/outer%20path")):
        document = client.get("/mount/live/api/hybrid/openapi.json", headers={**key, **headers}).json
        assert document["servers"] == [{"url": f"{root}/live"}]
        answer = client.post(f"/mount/live{CONTROL}", json={"action": "start"}, headers={**key, **headers})
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"{root}/live{CONTROL}/{answer.json['id']}"
    outcome = client.get(f"/mount/live{CONTROL}/{answer.json['id']}", headers=key)
    governor.may_start.set()
    assert (outcome.status_code, outcome.json["status"]) == (200, "accepted")
    transport.stop()


def test_the_origin_is_compared_with_the_host_that_proxyfix_sees() -> None:
    """A proxy that changes ``Host`` and says so: a ProxyFix counts on either side of us."""
    for inside in (True, False):
        app = Flask("site")

        def fix(app: Flask = app) -> None:
            app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]

        if inside:
            fix()
        HybridTransport(app, access="app")
        if not inside:
            fix()
        headers = {"Host": "upstream", "Origin": "https://site.example", "X-Forwarded-Host": "site.example"}
        client = app.test_client()
        assert client.post("/api/events/connect", json={}, headers=headers).status_code == 200
        headers["X-Forwarded-Host"] = "other.example"
        assert client.post("/api/events/connect", json={}, headers=headers).status_code == 403


def test_a_visitor_cannot_claim_a_loopback_host() -> None:
    """The name that the request itself asks for counts too: a page that has rebound its name can send any header."""
    app = Flask("site")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]
    HybridTransport(app)
    client = app.test_client()
    claims = {"X-Forwarded-Host": "localhost", "X-Forwarded-For": "127.0.0.1"}
    assert client.get(STATUS, headers={**claims, "Host": "evil.example"}).get_json()["code"] == "foreign_host"
    assert client.get(STATUS, headers={**claims, "Host": "localhost"}).status_code == 200


def test_handlers_see_the_path_of_their_request() -> None:
    """Below a prefix the app's own URLs are where they were: a handler builds them as ever."""
    app = Flask("site")
    transport = HybridTransport(app, url_prefix="/live")
    transport.socketio.on("where")(lambda: [request.script_root, request.path])
    answer = app.test_client().post("/live/api/events/emit", json={"event": "where"})
    assert answer.get_json()["ack"] == ["", "/live/api/events/emit"]


def test_the_control_url_is_the_prefixes() -> None:
    """It stands in the list of what is served."""
    app = Flask("site")
    assert f"/live{CONTROL}" in {route.rule for route in HybridTransport(app, url_prefix="/live").routes()}
