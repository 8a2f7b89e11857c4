"""What pages of other origins can do to us in a real browser: nothing but be refused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from support import browsers
from support.attacks import counted
from support.servers import Server, wait_until

browser = browsers.browser

pytestmark = pytest.mark.once

#: Tries everything a page can try against ``target``; returns what it could read or have done.
ATTACK = """async target => {
  const got = {};
  const attempt = async (name, action) => {
    try { got[name] = await Promise.race([action(), new Promise(done => setTimeout(done, 3000, "silence"))]); }
    catch (error) { got[name] = "refused"; } };
  const json = {method: "POST", body: JSON.stringify({event: "echo", args: ["evil"], action: "start"})};
  for (const path of ["hybrid/status", "events/stream", "governor/control/x"]) {
    await attempt("read " + path, async () => (await fetch(`${target}/api/${path}`)).status);
    await attempt("opaque " + path, async () => (await fetch(`${target}/api/${path}`, {mode: "no-cors"})).type); }
  for (const path of ["events/emit", "events/connect", "events/ticket", "governor/control"]) {
    const url = `${target}/api/${path}`;
    await attempt("json " + path, async () =>
      (await fetch(url, {...json, headers: {"Content-Type": "application/json"}})).status);
    await attempt("text " + path, async () => (await fetch(url, {...json, mode: "no-cors"})).type);
    await attempt("beacon " + path, async () => navigator.sendBeacon(url, json.body) && "sent");
    await attempt("credentials " + path, async () => (await fetch(url, {...json, credentials: "include"})).status); }
  await attempt("EventSource", () => new Promise((open, fail) => {
    const source = new EventSource(`${target}/api/events/stream`);
    source.addEventListener("hybrid_open", () => open("open")); source.onerror = () => { source.close(); fail(); }; }));
  await attempt("WebSocket", () => new Promise((open, fail) => {
    const socket = new WebSocket(`${target.replace("http", "ws")}/api/events/ws`);
    socket.onopen = () => open("open"); socket.onerror = fail; }));
  const load = (tag, more) => new Promise((done, fail) => {
    const element = Object.assign(document.createElement(tag), more);
    element.onload = () => done("loaded"); element.onerror = fail; document.body.append(element); });
  await attempt("image", () => load("img", {src: `${target}/api/events/stream`}));
  await attempt("script", () => load("script", {src: `${target}/api/hybrid/status`}));
  await attempt("module", () => load("script", {src: `${target}/api/hybrid/client.js`, type: "module"}));
  return got; }"""

FORM = """([target, type]) => new Promise(done => {
  const frame = Object.assign(document.createElement("iframe"), {name: "into"});
  document.body.append(frame);
  const form = Object.assign(document.createElement("form"),
    {method: "post", action: `${target}/api/governor/control`, enctype: type, target: "into"});
  form.append(Object.assign(document.createElement("input"), {name: '{"action": "start", "x": "', value: '"}'}));
  document.body.append(form);
  frame.onload = () => done("loaded");
  form.submit(); })"""


class Page(BaseHTTPRequestHandler):
    """The attacker's page: empty, what it does is put into it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def evil() -> Iterator[int]:
    """The port of the attacker's own server."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield httpd.server_address[1]
    httpd.shutdown()
    thread.join(30)
    httpd.server_close()


#: The server that the tests here share.
SERVER = {"ENABLE_WS_SPECIAL": 1, "HYBRID_HEARTBEAT_S": 0.5}


@contextlib.contextmanager
def page_at(browser: Any, url: str) -> Iterator[Any]:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    try:
        page.goto(url)
        yield page
    finally:
        page.close()


def orders(server: Server) -> list[str]:
    """What the governor was really told."""
    answer = server.ask("POST", "/api/governor/control", {"action": "status"})
    at = answer.headers.get("location")  # there is one if it took longer than is waited for
    wait_until(lambda: "result" in answer.json() or (at and "result" in server.ask("GET", at).json()))
    done = server.ask("GET", at) if at else answer
    return list(done.json()["result"]["calls"])


def harmless(name: str, outcome: Any) -> bool:
    """True if what a page got is nothing: refused, why it is, an answer it cannot read, a beacon that nobody took."""
    return outcome in ("refused", 403) or (name.startswith(("opaque", "text")) and outcome == "opaque") or (
        name.startswith("beacon") and outcome == "sent")


def test_a_page_of_another_origin_can_do_nothing(browser: Any, server: Server, evil: int) -> None:
    """Reading, posting, streams, sockets, images, scripts: each is refused, no client appears, nothing is commanded."""
    before, connected = orders(server), len(server.notes()["connected"])
    with counted(server, "foreign_origin", 10), page_at(browser, f"http://evil.test:{evil}/") as page:
        got = page.evaluate(ATTACK, f"http://127.0.0.1:{server.port}")
    assert len(got) == 27
    assert {name: outcome for name, outcome in got.items() if not harmless(name, outcome)} == {}
    assert orders(server) == before
    assert len(server.notes()["connected"]) == connected
    assert server.status()["clients"] == 0


def test_dns_rebinding(browser: Any, server: Server) -> None:
    """A page whose own name has come to lead to us is of the same origin to its browser, and foreign to us."""
    before, connected = orders(server), len(server.notes()["connected"])
    target = f"http://rebound.test:{server.port}"
    with counted(server, "foreign_host", 10), page_at(browser, f"{target}/health") as page:
        got = page.evaluate(ATTACK, target)
    # Of the same origin it can read that it is refused.
    open_ = {name: outcome for name, outcome in got.items()
             if not (harmless(name, outcome) or outcome in (403, 415) or name == "module"
                     or (name.startswith(("opaque", "text")) and outcome == "basic"))}
    assert open_ == {}
    assert orders(server) == before
    assert len(server.notes()["connected"]) == connected


@pytest.mark.parametrize("enctype", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_origin_commands_nothing(browser: Any, server: Server, evil: int, enctype: str) -> None:
    """A form needs no CORS; as text/plain its body could even be JSON."""
    before = orders(server)
    with counted(server, "foreign_origin"), page_at(browser, f"http://evil.test:{evil}/") as page:
        page.evaluate(FORM, [f"http://127.0.0.1:{server.port}", enctype])
    assert orders(server) == before


def test_a_form_of_our_own_origin_commands_nothing(browser: Any, server: Server) -> None:
    """Nor does one that got into a page of the host itself: it cannot be JSON by its type."""
    before = orders(server)
    with counted(server, "not_json"), page_at(browser, f"http://127.0.0.1:{server.port}/health") as page:
        page.evaluate(FORM, [f"http://127.0.0.1:{server.port}", "text/plain"])
    assert orders(server) == before


def test_the_same_page_of_an_allowed_origin_can(browser: Any, server: Server) -> None:
    """The attack is a real one: from this machine's own origin it gets through."""
    before = len(orders(server))
    target = f"http://127.0.0.1:{server.port}"
    with page_at(browser, f"{target}/health") as page:
        got = page.evaluate(ATTACK, target)
    assert got["read hybrid/status"] == got["json events/emit"] == got["json events/connect"] == 200
    assert got["EventSource"] == got["WebSocket"] == "open"
    assert len(orders(server)) > before
    wait_until(lambda: server.status()["streams"] == 0, what="the page's streams to end")
