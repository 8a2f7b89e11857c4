"""Who may be a client of Socket.IO: by origin, address, ``Host`` and key, which may come as late as ``CONNECT``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from support.servers import wait_until
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from hakgal_hybrid.errors import AccessDenied, ConfigurationError, Overloaded
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.web.engineio_access import MAX_PROVISIONAL, EngineAccess

KEY = "k3y-of-the-operator"
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}
URL = "/socket.io/?EIO=4&transport=polling"


class Site:
    """A host with one handler, asked without a server.

    :ivar got: what its handler was called with.
    """

    def __init__(self, **config: Any) -> None:
        self.app = Flask("site")
        self.app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True, **config)
        self.socketio = SocketIO(self.app, namespaces=["/"])
        self.socketio.on("say")(self._said)
        self.got: list[Any] = []
        self.transport = self.socketio.transport

    def _said(self, value: Any) -> str:
        self.got.append(value)
        return "heard"

    def ask(self, method: str = "GET", query: str = "", body: str = "", environ: dict[str, str] | None = None,
            **headers: str) -> tuple[int, str]:
        answer = self.app.test_client().open(
            URL + query, method=method, data=body or None, environ_overrides=environ or {},
            headers={name.replace("_", "-"): value for name, value in headers.items()})
        return answer.status_code, answer.get_data(as_text=True)

    def open(self, **request: Any) -> str:
        """Open a session; return the query that names it."""
        status, body = self.ask(**request)
        assert status == 200, body
        return f"&sid={json.loads(body[1:])['sid']}"

    def refusals(self) -> dict[str, int]:
        return self.transport.statistics().refusals


def code(answer: tuple[int, str]) -> tuple[int, int, str]:
    """The status of a refusal, its code by Engine.IO, and ours."""
    problem = json.loads(answer[1])
    return answer[0], problem["code"], problem["message"].partition(":")[0]


def test_a_wrong_key_is_refused_at_every_request() -> None:
    """In the header or the query; also where none is needed, and before the session is looked up."""
    site = Site(HYBRID_API_KEY=KEY)
    for request in ({"query": "&apiKey=guessed"}, {"X_API_Key": "guessed"}, {"query": "&sid=x&apiKey=guessed"},
                    {"query": "&sid=x&apiKey=guessed", "method": "POST", "body": "40"}):
        assert code(site.ask(**request)) == (403, 4, "wrong_key")
    assert site.refusals()["wrong_key"] == 4


def test_a_page_that_has_rebound_its_name_is_refused() -> None:
    """``Host`` must be a name of this machine, as at all our URLs; the key stands for it."""
    site = Site(HYBRID_API_KEY=KEY)
    for query in ("", "&sid=x"):
        assert code(site.ask(query=query, Host="evil.test")) == (403, 4, "foreign_host")
    assert site.ask(query=f"&apiKey={KEY}", Host="evil.test")[0] == 200


def test_a_page_of_a_foreign_origin_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """The operator reads which one it was, and the page why."""
    site = Site()
    for query in ("", "&sid=x"):
        assert code(site.ask(query=query, Origin="https://evil.test")) == (403, 4, "foreign_origin")
    answer = site.app.test_client().get(URL, headers={"Origin": "https://evil.test"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert len([record for record in caplog.records if "'https://evil.test'" in record.message]) == 1


def test_another_machine_without_a_key_that_is_set() -> None:
    """It is refused at every request."""
    site = Site()
    assert code(site.ask(environ=ELSEWHERE)) == (403, 4, "loopback_only")
    sid = site.open()
    assert code(site.ask(query=sid, environ=ELSEWHERE)) == (403, 4, "loopback_only")
    assert site.ask("POST", sid, "40")[0] == 200


@pytest.mark.parametrize("request_", [{"query": f"&apiKey={KEY}"}, {"X_API_Key": KEY}])
def test_another_machine_with_the_key_at_the_handshake(request_: dict[str, str]) -> None:
    """It is a client like any other; its next requests are known by the session's id."""
    site = Site(HYBRID_API_KEY=KEY)
    sid = site.open(environ=ELSEWHERE, **request_)
    assert site.ask("POST", sid, '40\x1e420["say",1]', ELSEWHERE) == (200, "ok")
    wait_until(lambda: site.got == [1], what="the handler runs")


@pytest.mark.parametrize(("auth", "refusal"), [
    ("", "key_required"), ('{"apiKey":"guessed"}', "wrong_key"), ('{"apiKey":7}', "key_required")])
def test_another_machine_that_does_not_show_the_key(auth: str, refusal: str) -> None:
    """It may open a session, and is told when it asks for a namespace; nothing is delivered to it meanwhile."""
    site = Site(HYBRID_API_KEY=KEY)
    sid = site.open(environ=ELSEWHERE)
    site.socketio.emit("secret", 1)
    assert site.ask("POST", sid, "40" + auth, ELSEWHERE) == (200, "ok")
    status, body = site.ask(query=sid, environ=ELSEWHERE)
    assert (status, body[:2]) == (200, "44")
    assert json.loads(body[2:])["data"]["code"] == refusal
    assert site.refusals() == {refusal: 1}
    # What it sends besides ends the session.
    assert site.ask("POST", sid, '42["say",1]', ELSEWHERE)[0] == 400
    assert code(site.ask("POST", sid, "3", ELSEWHERE))[1] == 1
    assert site.got == []


def test_another_machine_that_shows_the_key_when_it_connects() -> None:
    """From then on it is a client like any other, in other namespaces too."""
    site = Site(HYBRID_API_KEY=KEY)
    sid = site.open(environ=ELSEWHERE)
    assert site.ask("POST", sid, f'40{{"apiKey":"{KEY}"}}', ELSEWHERE) == (200, "ok")
    assert site.ask(query=sid, environ=ELSEWHERE)[1].startswith('40{"sid":"')
    assert site.ask("POST", sid, '420["say",1]\x1e40/other', ELSEWHERE) == (200, "ok")
    assert site.ask(query=sid, environ=ELSEWHERE)[1].startswith('430["heard"]')
    assert site.got == [1]


def test_a_client_that_still_has_to_show_the_key_cannot_send_much() -> None:
    """What it asks a namespace with is bounded."""
    site = Site(HYBRID_API_KEY=KEY)
    sid = site.open(environ=ELSEWHERE)
    assert site.ask("POST", sid, '40{"apiKey":"' + "x" * 20_000 + '"}', ELSEWHERE)[0] == 400


def test_the_sessions_of_clients_that_still_have_to_show_the_key_are_few() -> None:
    """One more is refused until one has shown it or is gone; others get in meanwhile."""
    site = Site(HYBRID_API_KEY=KEY)
    sids = [site.open(environ=ELSEWHERE) for _ in range(MAX_PROVISIONAL)]
    assert code(site.ask(environ=ELSEWHERE)) == (403, 4, "too_many_without_key")
    assert site.ask(environ=ELSEWHERE, query=f"&apiKey={KEY}")[0] == 200
    assert site.ask()[0] == 200
    assert site.ask("POST", sids[0], "1", ELSEWHERE) == (200, "ok")
    sids[0] = site.open(environ=ELSEWHERE)
    assert site.ask("POST", sids[0], f'40{{"apiKey":"{KEY}"}}', ELSEWHERE) == (200, "ok")
    site.ask(query=sids[0], environ=ELSEWHERE)
    site.open(environ=ELSEWHERE)
    assert code(site.ask(environ=ELSEWHERE)) == (403, 4, "too_many_without_key")
    assert site.refusals() == {"too_many_without_key": 2}


def test_a_place_is_given_back_where_there_is_no_stream() -> None:
    """A session that could not begin has none."""
    site = Site(HYBRID_API_KEY=KEY, HYBRID_MAX_STREAMS=0)
    for _ in range(MAX_PROVISIONAL + 1):
        assert code(site.ask(environ=ELSEWHERE)) == (403, 4, "too_many_streams")


def test_this_machine_without_the_key_listens(caplog: pytest.LogCaptureFixture) -> None:
    """With a key set, its events are not carried out, and get no acknowledgement. That is counted, and said once."""
    site = Site(HYBRID_API_KEY=KEY)
    for _ in range(2):
        sid = site.open()
        assert site.ask("POST", sid, '40\x1e420["say",1]') == (200, "ok")
        assert site.ask(query=sid)[1].startswith('40{"sid":"')
        site.socketio.emit("news", 1)
        assert site.ask(query=sid)[1] == '42["news",1]'
    wait_until(lambda: site.refusals() == {"key_required": 2}, what="both are counted")
    assert site.got == []
    assert [record.message for record in caplog.records if "HAKGAL_API_KEY" in record.message] == [
        "a client of Socket.IO on this machine has not shown HAKGAL_API_KEY: it may listen, and nothing that it sends "
        "is carried out; it can show the key as auth.apiKey, as apiKey in its query or in the header X-API-Key"]
    sid = site.open()
    assert site.ask("POST", sid, f'40{{"apiKey":"{KEY}"}}\x1e420["say",2]') == (200, "ok")
    wait_until(lambda: site.got == [2], what="with the key it is carried out")


@pytest.mark.parametrize("key", [{}, {"HYBRID_API_KEY": KEY}])
def test_where_the_app_decides_everybody_may_be_a_client(key: dict[str, str]) -> None:
    """With ``HYBRID_ACCESS=app``, from anywhere and without the key; a wrong one is refused all the same."""
    site = Site(HYBRID_ACCESS="app", **key)
    sid = site.open(environ=ELSEWHERE, Host="app.example.com")
    assert site.ask("POST", sid, '40{"apiKey":"of the app"}\x1e420["say",1]', ELSEWHERE) == (200, "ok")
    wait_until(lambda: site.got == [1], what="the handler runs")
    if key:
        assert code(site.ask(query="&apiKey=guessed", environ=ELSEWHERE)) == (403, 4, "wrong_key")


def test_the_application_decides_about_streams_too() -> None:
    """What it refuses as ``stream`` is refused in the answer to ``CONNECT``."""
    site = Site()
    actions: list[str] = []

    def decide(asked: Any) -> bool:
        actions.append(asked.action)
        return bool(asked.action != "stream")

    site.transport.authorize(decide)
    sid = site.open()
    site.ask("POST", sid, "40")
    assert json.loads(site.ask(query=sid)[1][2:])["data"]["code"] == "not_authorized"
    assert actions == ["stream"]


def test_the_bound_is_the_makers() -> None:
    """The number of sessions without a key is handed in."""
    site = Site(HYBRID_API_KEY=KEY)
    judge = EngineAccess(site.app.extensions["hakgal_hybrid"].state.services, max_provisional=1)
    with site.app.test_request_context(URL, environ_overrides=ELSEWHERE) as context:
        admission = judge.admit(context.request.environ, None)
        assert admission.provisional
        with pytest.raises(Overloaded):
            judge.admit(context.request.environ, None)
        with pytest.raises(AccessDenied):
            admission.connect(None)
        admission.end()
        admission.end()
        assert judge.provisional == 0


# -- what else serves the URL ------------------------------------------------------------------------------------


def served(*, prepare: Callable[[Flask], object], **options: Any) -> None:
    """Have a host do something of its own, and check it as :meth:`.SocketIO.run` does."""
    app = Flask("site", static_folder=None)
    app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True)
    socketio = SocketIO(app, **options)
    prepare(app)
    socketio.transport.refuse_conflicts()


def beside(app: Flask) -> None:
    """Put python-socketio's own server around an app, as Flask-SocketIO does."""
    package = pytest.importorskip("socketio")
    app.wsgi_app = package.WSGIApp(package.Server(async_mode="threading"), app.wsgi_app)


def mounted(app: Flask) -> None:
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/socket.io": Flask("other")})  # type: ignore[method-assign]


def behind_a_proxy(app: Flask) -> None:
    beside(app)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]


@pytest.mark.parametrize(("prepare", "what"), [
    (lambda app: app.add_url_rule("/socket.io/", "mine", lambda: ""), "the host's endpoint 'mine'"),
    (lambda app: app.add_url_rule("/socket.io", "mine", lambda: ""), "the host's endpoint 'mine'"),
    (beside, "a server of python-socketio's (socketio.middleware.WSGIApp)"),
    (behind_a_proxy, "a server of python-socketio's (socketio.middleware.WSGIApp)"),
    (mounted, "an app that is mounted there by DispatcherMiddleware"),
])
def test_something_else_at_the_url_is_refused_at_the_start(prepare: Callable[[Flask], object], what: str) -> None:
    """The error says what it is and what can be done; with another path, both are served."""
    with pytest.raises(ConfigurationError, match=re.escape(f"{what} owns /socket.io/, ")) as caught:
        served(prepare=prepare)
    assert "ENABLE_WS_SPECIAL=false" in str(caught.value)
    served(prepare=prepare, path="live")


def test_files_below_the_url_are_the_hosts() -> None:
    """Clients of Socket.IO never ask for them."""
    served(prepare=lambda app: app.add_url_rule("/socket.io/<path:name>", "files", lambda name: name))
