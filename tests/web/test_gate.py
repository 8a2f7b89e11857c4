"""What stands in front of our URLs: nothing goes round it, and no stream is touched by what is behind."""

from __future__ import annotations

import gc
import gzip
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.testing import open_stream
from hakgal_hybrid.web.urls import ROUTES, Paths

REMOTE = {"REMOTE_ADDR": "203.0.113.9"}


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.url_map.strict_slashes = False
    return app


@pytest.mark.parametrize("path", ["/api/governor/control", "//api/governor/control", "///api/governor/control",
                                  "/api/governor/control/", "//api/events/emit", "/api/events/emit/",
                                  "//api/hybrid/status", "/api/hybrid/status/", "//api/events/stream",
                                  "/api/events/stream/", "/api//events/stream", "/./api/events/stream"])
def test_no_spelling_of_a_url_goes_round_the_guard(app: Flask, path: str) -> None:
    """However routing reads a path, a request from another machine reaches none of our views."""
    transport = HybridTransport(app)
    transport.socketio.on("hello")(lambda: pytest.fail("the handler ran"))
    client = app.test_client()
    for method, body in (("GET", None), ("POST", {"event": "hello", "action": "start"})):
        answer = client.open("/", method=method, json=body, environ_overrides={**REMOTE, "PATH_INFO": path})
        assert answer.status_code in (308, 403, 404, 405), answer.get_data(as_text=True)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert transport.statistics().streams == 0


def test_url_stays_guarded(app: Flask) -> None:
    """Every request for a URL of ours is judged, and answered, like the first."""
    HybridTransport(app)
    client = app.test_client()
    for _ in range(3):
        assert client.get("/api/hybrid/status").status_code == 200
        assert client.get("/api/hybrid/status", environ_overrides=REMOTE).status_code == 403
        assert client.get("/api/events/ws").status_code == 404  # it is not served, and may be the host's


def test_a_url_that_begins_with_several_slashes_is_ours_for_this_machine(app: Flask) -> None:
    """Werkzeug takes them for one, and so do we: guarded like the plain one, and answered."""
    HybridTransport(app)
    answer = app.test_client().get("/", environ_overrides={"PATH_INFO": "//api/hybrid/status"})
    assert answer.status_code == 200


def _read(response: Response) -> Response:
    assert isinstance(response.get_data(), bytes)
    return response


def _tag(response: Response) -> Response:
    response.add_etag()
    return response


def _compress(response: Response) -> Response:
    response.set_data(gzip.compress(response.get_data()))
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Type"] = "application/gzip"
    return response


@pytest.mark.parametrize("after_request", [_read, _tag, _compress])
def test_what_after_request_does_to_a_response_does_not_reach_the_stream(app: Flask, after_request) -> None:
    """Hosts log, tag and compress their responses; a stream leaves as the format has it."""
    transport = HybridTransport(app)
    app.after_request(after_request)
    with open_stream(app.test_client()) as stream:
        transport.emit("note", 1)
        assert stream.next().event == "note"
        headers = stream.response.headers
    assert headers["Content-Type"] == "text/event-stream"
    assert not {"Content-Encoding", "Content-Length", "ETag"} & set(headers.keys())


@pytest.mark.parametrize("raises", [False, True])
def test_stream_refused_on_its_way_leaves_no_client(app: Flask, raises: bool) -> None:
    """Where a middleware around the app gives another answer than ours, or raises, the client is forgotten."""
    transport = HybridTransport(app)
    inner = app.wsgi_app

    def refuse(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        chunks = inner(environ, lambda status, headers, exc_info=None: None)
        if raises:
            raise RuntimeError("middleware")
        chunks.close()
        start_response("418 I'm a teapot", [])
        return [b"no"]

    app.wsgi_app = refuse  # type: ignore[method-assign]
    if raises:
        with pytest.raises(RuntimeError, match="middleware"):
            app.test_client().get("/api/events/stream")
        gc.collect()
    else:
        assert app.test_client().get("/api/events/stream").status_code == 418
    assert transport.statistics().streams == 0


def test_the_name_the_operator_gave_the_server_is_a_good_host(app: Flask) -> None:
    """``SERVER_NAME`` is the operator's word: a request addressed to it from this machine is let through."""
    app.config["SERVER_NAME"] = "backend.test:5001"
    HybridTransport(app)
    client = app.test_client()
    assert client.get("/api/hybrid/status").status_code == 200
    assert client.get("/api/hybrid/status", headers={"Host": "evil.test"}).status_code in (403, 404)


def test_what_was_emitted_before_a_disconnect_arrives(app: Flask) -> None:
    """A handler may tell a client why before it ends the client's stream."""
    transport = HybridTransport(app)
    with open_stream(app.test_client()) as stream:
        transport.emit("kicked", "why", to=stream.open["sid"])
        transport.socketio.server.disconnect(stream.open["sid"])
        assert stream.json(stream.next()) == "why"


def test_an_event_the_handler_cannot_emit_is_not_the_clients_fault(app: Flask) -> None:
    """A handler whose emit is refused has failed: 500, not an answer that blames what the client sent."""
    transport = HybridTransport(app)
    transport.socketio.on("ask")(lambda: transport.emit("answer", object()))
    answer = app.test_client().post("/api/events/emit", json={"event": "ask"})
    assert (answer.status_code, answer.get_json()["code"]) == (500, "handler_failed")


@pytest.mark.parametrize("route", ROUTES)
def test_slashes_that_count_as_one_change_no_threads(route: str) -> None:
    """A URL that begins with several slashes is served by the same threads as with one."""
    paths = Paths("")
    assert paths.lane_of("//" + route) == paths.lane_of(route)
