"""Our URLs and the host's requests: nothing that a host does to its own requests changes ours, and nothing of ours
changes the host's.

Every kind of host is tried through Flask's test client and behind our own server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask, Response, abort, current_app, has_request_context, session
from flask.json.provider import DefaultJSONProvider
from flask_wtf.csrf import CSRFProtect
from support.hosts import serving
from support.servers import Answer, Api, Http, InProcess, Stream
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server

from hakgal_hybrid import ConfigurationError, HybridTransport
from hakgal_hybrid.web.urls import ROUTES

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
REMOTE = {"REMOTE_ADDR": "203.0.113.9"}


# -- hosts -------------------------------------------------------------------------------------------------------


def catches_all(folder: Path) -> Flask:
    """Has a view for every path and method."""
    host = Flask("host")

    @host.route("/", defaults={"path": ""}, methods=METHODS)
    @host.route("/<path:path>", methods=METHODS)
    def anything(path: str) -> Response:
        return Response("the host's", 418)

    return host


def serves_files_from_the_root(folder: Path) -> Flask:
    """Serves files under every path."""
    (folder / "api" / "hybrid").mkdir(parents=True)
    (folder / "api" / "hybrid" / "status").write_text("the host's")
    return Flask("host", static_folder=str(folder), static_url_path="")


def protects_from_csrf(folder: Path) -> Flask:
    """Refuses every POST without a token of Flask-WTF."""
    host = Flask("host")
    host.config["SECRET_KEY"] = "only for tests"
    CSRFProtect(host)
    return host


def guards_logins(folder: Path) -> Flask:
    """Lets nobody in who has not logged in."""
    host = Flask("host")
    host.before_request(lambda: abort(401))
    return host


def limits(folder: Path) -> Flask:
    """Answers no request: too many of them."""
    host = Flask("host")
    host.before_request(lambda: ("slow down", 429))
    return host


def rewrites(folder: Path) -> Flask:
    """Replaces body, status and headers of every answer."""
    host = Flask("host")

    @host.after_request
    def rewrite(response: Response) -> Response:
        return Response("rewritten", 203, {"Access-Control-Allow-Origin": "*"})

    return host


def matches_hosts(folder: Path) -> Flask:
    """Has routes for one host only."""
    host = Flask("host", host_matching=True, static_host="app.test")
    host.add_url_rule("/own", "own", lambda: "own", host="app.test")
    return host


def has_a_name(folder: Path) -> Flask:
    """Is served under another name than it is asked by."""
    host = Flask("host", subdomain_matching=True)
    host.config["SERVER_NAME"] = "app.test:5000"
    return host


def trusts_few_hosts(folder: Path) -> Flask:
    """Trusts one host name, which is not the one it is asked by (from Flask 3.1 on)."""
    host = Flask("host")
    host.config["TRUSTED_HOSTS"] = ["app.test"]
    return host


def takes_small_bodies(folder: Path) -> Flask:
    """Takes bodies of one byte."""
    host = Flask("host")
    host.config.update(MAX_CONTENT_LENGTH=1, MAX_FORM_MEMORY_SIZE=1, MAX_FORM_PARTS=1)
    return host


def answers_errors(folder: Path) -> Flask:
    """Has handlers for all errors."""
    host = Flask("host")
    host.register_error_handler(Exception, lambda error: ("the host's", 418))
    return host


def keeps_sessions(folder: Path) -> Flask:
    """Sends its session with every answer."""
    host = Flask("host")
    host.config.update(SECRET_KEY="only for tests", SESSION_REFRESH_EACH_REQUEST=True)

    @host.before_request
    def visit() -> None:
        session.permanent = True
        session["visits"] = session.get("visits", 0) + 1

    return host


def debugs(folder: Path) -> Flask:
    """Is being developed."""
    host = Flask("host")
    host.config.update(DEBUG=True, TESTING=True, TRAP_HTTP_EXCEPTIONS=True, PROPAGATE_EXCEPTIONS=True)
    return host


class OwnJson(DefaultJSONProvider):
    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return '"the host\'s"' if has_request_context() else super().dumps(obj, **kwargs)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return "the host's"


def writes_json_its_own_way(folder: Path) -> Flask:
    """Has a JSON provider of its own, which our answers do not go through."""
    host = Flask("host")
    host.json = OwnJson(host)
    return host


def is_a_mess(folder: Path) -> Flask:
    """Does much of it at once."""
    host = Flask("host", static_folder=str(folder), static_url_path="", host_matching=True, static_host="app.test")
    host.config.update(SECRET_KEY="only for tests", MAX_CONTENT_LENGTH=1, SERVER_NAME="app.test")
    CSRFProtect(host)
    host.before_request(lambda: abort(401))
    host.after_request(lambda response: Response("rewritten", 203))
    host.register_error_handler(Exception, lambda error: ("the host's", 418))
    host.url_map.strict_slashes = False
    host.add_url_rule("/<path:path>", "anything", lambda path: "the host's", methods=METHODS, host="<name>")
    return host


HOSTS = [catches_all, serves_files_from_the_root, protects_from_csrf, guards_logins, limits, rewrites, matches_hosts,
         has_a_name, trusts_few_hosts, takes_small_bodies, answers_errors, keeps_sessions, debugs,
         writes_json_its_own_way, is_a_mess]


# -- how they are asked ------------------------------------------------------------------------------------------


class AtPort(Api):
    """A server of this process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        with Http(self.port) as http:
            return http.ask(method, path, body, {"Connection": "close", **(headers or {})})

    def stream(self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        return Stream(self.port, query, headers, **options)


@contextmanager
def reached(app: Flask, transport: HybridTransport, how: str) -> Iterator[Api]:
    """Ask an app by Flask's test client, or behind our server, or behind Werkzeug's."""
    if how == "client":
        yield InProcess(app)
    elif how == "server":
        with serving(transport.socketio, app, use_reloader=False) as port:
            yield AtPort(port)
    else:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield AtPort(server.port)
        finally:
            transport.stop()
            server.shutdown()
            server.server_close()
            thread.join(30)


def all_of_ours_answer(api: Api, transport: HybridTransport) -> None:
    """Ask every kind of URL of ours."""
    status = api.ask("GET", "/api/hybrid/status")
    assert (status.status, status.headers["content-type"]) == (200, "application/json")
    assert status.json()["profile"] == "HYBRID"
    page = api.ask("GET", "/api/hybrid/")
    assert page.status == 200
    assert b"<!doctype html>" in page.body.lower()
    assert api.ask("GET", "/api/hybrid/dashboard/dashboard.js").status == 200
    assert api.ask("GET", "/api/hybrid/client.classic.js").body.endswith(b"globalThis.io = io;\n})();\n")
    assert api.ask("OPTIONS", "/api/events/emit").headers["allow"] == "POST, OPTIONS"
    wrong = api.ask("DELETE", "/api/events/emit")
    assert (wrong.status, wrong.headers["content-type"]) == (405, "application/problem+json")
    assert wrong.headers["allow"] == "POST, OPTIONS"
    unknown = api.ask("POST", "/api/events/emit", {"event": "nobody knows", "padding": "x" * 1000})
    assert (unknown.status, unknown.json()["code"]) == (404, "unknown_event")
    foreign = api.ask("GET", "/api/hybrid/status", headers={"Origin": "https://evil.test"})
    assert (foreign.status, foreign.json()["code"]) == (403, "foreign_origin")
    assert api.ask("POST", "/api/governor/control", {"action": "status"}).json()["code"] == "no_governor"
    with api.opened() as stream:
        proof = {"X-Hybrid-Token": stream.open["token"]}
        answer = api.ask("POST", "/api/events/emit", {"event": "hello", "args": ["x"], "sid": stream.sid}, proof)
        assert (answer.status, answer.json()) == (200, {"ack": ["x", "host"]})
        transport.emit("news", 1)
        assert stream.wait_for("news") == [1]
        for asked in (status, page, wrong, unknown, foreign, answer):
            assert "set-cookie" not in asked.headers
            assert asked.headers.get("access-control-allow-origin") == ("*" if asked is foreign else None)
        assert api.ask("POST", "/api/events/disconnect", {"sid": stream.sid}, proof).json() == {}


@pytest.mark.filterwarnings("ignore:Current server name:UserWarning")  # Werkzeug's, of a host with another name
@pytest.mark.parametrize("how", ["client", "server"])
@pytest.mark.parametrize("make", HOSTS)
def test_host_changes_nothing_of_ours(make: Callable[[Path], Flask], how: str, tmp_path: Path) -> None:
    """Whatever a host does to its requests, our URLs answer, and its handlers run in its own context."""
    host = make(tmp_path)
    transport = HybridTransport(host)

    @transport.socketio.on("hello")
    def hello(word: str) -> tuple[str, str]:
        assert current_app == host
        return word, current_app.name

    with reached(host, transport, how) as api:
        all_of_ours_answer(api, transport)


@pytest.mark.parametrize("make", HOSTS)
def test_host_answers_as_it_does_alone(make: Callable[[Path], Flask], tmp_path: Path) -> None:
    """What the host answers, to URLs of its own and to those that nobody has, is the same with us and without us."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone, beside = make(tmp_path / "one"), make(tmp_path / "two")
    HybridTransport(beside)
    assert list(map(str, beside.url_map.iter_rules())) == list(map(str, alone.url_map.iter_rules()))
    assert list(beside.view_functions) == list(alone.view_functions)
    assert str(beside.error_handler_spec).count("function") == str(alone.error_handler_spec).count("function")
    assert not beside.blueprints
    for method, path in (("GET", "/own"), ("POST", "/own"), ("OPTIONS", "/x"), ("GET", "/api/hybrid"),
                         ("GET", "/api/events/strea"), ("GET", "/api/events/stream/x"), ("PUT", "/")):
        answers = []
        for host in (alone, beside):
            try:
                answer = host.test_client().open(path, method=method, data=b"xx")
                answers.append((answer.status_code, answer.get_data()))
            except Exception as error:  # a host in debug mode lets them out
                answers.append((type(error), str(error).encode()))
        assert answers[0] == answers[1]


@pytest.mark.parametrize("how", ["client", "server", "werkzeug"])
def test_no_hook_of_the_hosts_runs_for_ours(how: str) -> None:
    """Neither hooks of the host's app nor receivers of the signals that Flask sends around a request."""
    host, met = Flask("host"), []
    for hook in (host.before_request, host.after_request, host.teardown_request, host.url_value_preprocessor):
        hook(lambda *args, hook=hook.__name__: met.append(hook) or (args[0] if hook == "after_request" else None))
    for signal in (flask.request_started, flask.request_finished, flask.got_request_exception):
        signal.connect(lambda *args, name=signal.name, **values: met.append(name), weak=False)
    transport = HybridTransport(host)
    with reached(host, transport, how) as api:
        met.clear()
        assert api.ask("GET", "/api/hybrid/status").status == 200
        assert api.ask("POST", "/api/events/emit", {"event": "unknown"}).status == 404
        assert api.ask("POST", "/api/events/emit", b"nonsense", {"Content-Type": "application/json"}).status == 400
    assert met == []


def test_failure_of_ours_is_a_problem_document(monkeypatch: pytest.MonkeyPatch,
                                               caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody expected is logged and answered with 500, also in the host's debug mode."""
    host = debugs(Path())
    transport = HybridTransport(host)
    monkeypatch.setattr(transport.services.samples, "statistics", lambda: 1 / 0, raising=True)
    answer = host.test_client().get("/api/hybrid/history", headers={"Origin": "http://localhost:3000"})
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_error")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert "ZeroDivisionError" in caplog.text


# -- conflicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["/api/events/stream", "/api/governor/control/<name>", "/api/hybrid/",
                                  "/api/hybrid/dashboard/mine.js"])
def test_route_of_the_hosts_that_we_would_hide_is_refused(rule: str) -> None:
    """It is named, with its URL, before anything is served; whenever it was added."""
    early, late = Flask("early"), Flask("late")
    early.add_url_rule(rule, "mine", lambda **values: "mine", methods=["PUT"])
    with pytest.raises(ConfigurationError, match=f"'mine' owns {rule}"):
        HybridTransport(early)
    transport = HybridTransport(late)
    late.add_url_rule(rule, "mine", lambda **values: "mine", methods=["PUT"])
    with pytest.raises(ConfigurationError, match=f"'mine' owns {rule}"):
        transport.refuse_conflicts()


@pytest.mark.parametrize("rule", ["/<path:path>", "/api/<path:path>", "/api/events/<name>", "/<a>/<b>/<c>",
                                  "/api/hybrid", "/api/events/ws", "/api/governor/<verb>"])
def test_other_routes_are_no_conflict(rule: str) -> None:
    """Not those with variables where ours have none, nor those of URLs that the settings leave out."""
    host = Flask("host")
    host.add_url_rule(rule, "mine", lambda **values: "mine", methods=METHODS)
    HybridTransport(host)
    assert host.test_client().get("/api/hybrid/status").get_json()["profile"] == "HYBRID"


def test_routes_are_those_that_the_settings_ask_for() -> None:
    """The transport tells which URLs it answers."""
    everything = HybridTransport(Flask("one"), enable_ws_special=True)
    assert [route.rule for route in everything.routes()] == list(ROUTES)
    less = {route.rule for route in HybridTransport(Flask("two"), enable_sse=False,
                                                    enable_control_http=False).routes()}
    assert "/api/hybrid/status" in less
    assert not [rule for rule in less if rule.startswith(("/api/events/", "/api/governor/"))]


# -- mounts and proxies ------------------------------------------------------------------------------------------


def test_mounted_below_a_path() -> None:
    """Under a dispatcher our URLs are those below the mount."""
    host = Flask("host")
    transport = HybridTransport(host)
    transport.socketio.on("where")(lambda: flask.request.script_root)
    outer = Flask("outer")
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/mount": host})  # type: ignore[method-assign]
    client = outer.test_client()
    assert client.get("/mount/api/hybrid/status").get_json()["profile"] == "HYBRID"
    assert client.get("/api/hybrid/status").status_code == 404
    assert client.post("/mount/api/events/emit", json={"event": "where"}).get_json()["ack"] == "/mount"


@pytest.mark.parametrize("first", ["dispatcher", "transport"])
def test_dispatcher_inside_or_outside(first: str) -> None:
    """An app that is mounted beside ours keeps its URLs; ours go before it if they are in front of it."""
    host, other = Flask("host"), Flask("other")
    other.add_url_rule("/<path:path>", "anything", lambda path: f"other's {path}")

    def mount() -> None:
        host.wsgi_app = DispatcherMiddleware(host.wsgi_app, {"/api": other})  # type: ignore[method-assign]

    if first == "dispatcher":
        mount()
    HybridTransport(host)
    if first == "transport":
        mount()
    client = host.test_client()
    assert client.get("/api/x").text == "other's x"
    assert ("profile" in client.get("/api/hybrid/status").text) is (first == "dispatcher")


@pytest.mark.parametrize("first", ["ProxyFix", "transport"])
@pytest.mark.parametrize("how", ["client", "server"])
def test_handlers_see_what_proxyfix_says(first: str, how: str) -> None:
    """It may be put around the app before us or after: handlers see the client's address."""
    host = Flask("host")

    def fix() -> None:
        host.wsgi_app = ProxyFix(host.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]

    if first == "ProxyFix":
        fix()
    transport = HybridTransport(host, api_key="k")
    if first == "transport":
        fix()
    transport.socketio.on("who")(lambda: [flask.request.remote_addr, flask.request.scheme])
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    with reached(host, transport, how) as api:
        assert api.ask("GET", "/api/hybrid/status", headers=headers).json()["code"] == "key_required"
        answer = api.ask("POST", "/api/events/emit", {"event": "who"}, {**headers, "X-API-Key": "k"})
        assert answer.json()["ack"] == ["203.0.113.9", "https"]


def test_context_of_the_tests_stays_the_hosts() -> None:
    """``with client:`` keeps the context of the host's request, and none of ours."""
    host = Flask("host")
    host.add_url_rule("/own", "own", lambda: "own")
    HybridTransport(host)
    with host.test_client() as client:
        client.get("/own?x=1")
        assert flask.request.args["x"] == "1"
        client.get("/api/hybrid/status")
        assert not flask.has_request_context() or current_app == host
