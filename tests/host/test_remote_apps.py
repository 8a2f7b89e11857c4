"""The same apps for users of other machines: started with ``HYBRID_ACCESS=app``, used by their pages.

A page is loaded from the app's address as another machine has it, and imports ``socket.io-client``. In profile HYBRID
its bundler's alias gives it our client, in profile WEBSOCKET the client of npm, and with ``ENABLE_WS_SPECIAL=true`` the
same on our transport: what the page does is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import browsers
from support.elsewhere import elsewhere
from support.hosts import EXEC, free_port, running
from support.npm import install
from support.socketio_apps import APPS, STARTS, SWAPPED, UNMODIFIED, variables

import hakgal_hybrid

browser = browsers.browser

pytestmark = pytest.mark.once

HOST, FOREIGN = elsewhere()
OURS = Path(hakgal_hybrid.__file__).parent / "web" / "static" / "client" / "client.js"
TRANSCRIPTS = Path(__file__).parents[1] / "socketio" / "transcripts"

#: What the bundle of a page is made of; ``first`` waits for an event, for its arguments.
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"socket.io-client": "/of-the-bundle.js"}}</script>
<script type="module">
import { io } from "socket.io-client";
const post = (path, body) => fetch(path, { method: "POST", ...body });
const form = (path, fields) => post(path, { body: new URLSearchParams(fields) });
const headers = { "Content-Type": "application/json" };
const json = (path, value) => post(path, { body: JSON.stringify(value), headers });
const open = (nsp, options) => {
  const socket = io(nsp, { transports: ["polling"], reconnection: false, ...options });
  const came = [], waiting = [];
  socket.onAny((event, ...args) => {
    came.push([event, args]);
    for (const look of [...waiting]) look();
  });
  socket.first = (name, having = () => true) => new Promise(done => {
    const look = () => {
      const found = came.find(([event, args]) => event === name && having(...args));
      if (found) done(found[1][0]);
    };
    waiting.push(look);
    look();
  });
  socket.refused = new Promise(done => socket.on("connect_error", error => done(error.message)));
  return socket;
};
(async () => {
  window.result = await (%s)();
})().catch(error => { window.result = `${error}`; });
</script>"""


class Scenario(NamedTuple):
    """What a page does, and what comes of it; how its app is started, if not as on this machine."""

    does: str
    expected: Any
    command: str = ""


SCENARIOS = {
    "chat": Scenario("""async () => {
      await form("/", { name: "ann", room: "hall" });
      const socket = open("/chat");
      socket.emit("joined", {});
      const status = await socket.first("status");
      socket.emit("text", { msg: "hello" });
      return [status, await socket.first("message")];
    }""", [{"msg": "ann has entered the room."}, {"msg": "ann:hello"}]),
    "classes": Scenario("""async () => {
      const stranger = open("/game", { auth: {}, forceNew: true });
      const socket = open("/game", { auth: { name: "page" } });
      return [await stranger.refused, await socket.first("welcome"), await socket.emitWithAck("enter", "table 1")];
    }""", ["no name", "page", ["table 1"]]),
    "login": Scenario("""async () => {
      const stranger = await open("/", { forceNew: true }).refused;
      await form("/login", { name: "ann" });
      const socket = open("/");
      return [stranger !== "", await socket.first("my response"), await socket.emitWithAck("whoami")];
    }""", [True, {"message": "ann has joined"}, "ann"], "flask --app login run --host 0.0.0.0 --port {port}"),
    "sessions": Scenario("""async () => {
      await json("/session", { value: "by request" });
      const socket = open("/");
      socket.emit("get-session");
      const shown = await socket.first("refresh-session");
      await new Promise(done => { socket.emit("set-session", { value: "by event" }); setTimeout(done, 500); });
      return [shown, await (await fetch("/session")).json()];
    }""", [{"session": "by request", "events": 1}, {"session": "by event", "events": 1}]),
    "todo": Scenario("""async () => {
      await json("/items", { title: "wash up" });
      const socket = open("/");
      const items = await socket.first("items");
      return [items.length, await socket.emitWithAck("finish", 1), await socket.first("item_changed")];
    }""", [1, {"ok": True}, {"id": 1, "title": "wash up", "done": True}],
                     "gunicorn -k gthread --threads 16 --graceful-timeout 2 -b 0.0.0.0:{port} todo:create_app()"),
    "todo by name": Scenario("""async () => {
      await json("/items", { title: "cook" });
      const socket = open("/");
      return [(await socket.first("items")).length, await socket.emitWithAck("finish", 9)];
    }""", [1, {"error": "no such item"}], "todo:create_app --host 0.0.0.0 --port {port}"),
    "ticker": Scenario("""async () => {
      const socket = open("/");
      socket.emit("my_event", { data: "x" });
      const echo = await socket.first("my_echo", data => data.data === "x");
      return [echo, (await socket.first("my_response", data => data.count >= 3)).data];
    }""", [{"data": "x", "count": 1}, "Server generated event"]),
    "jobs": Scenario("""async () => {
      const socket = open("/");
      await socket.first("tick");
      await post("/work/7");
      const ack = await socket.emitWithAck("later", 0.01);
      return [await socket.first("tick"), await socket.first("finished"), ack, await socket.first("now")];
    }""", [{"every": "0.2 s"}, {"job": 7, "result": 49}, "accepted", {"app": "jobs"}]),
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client of npm, as a page of another machine gets it."""
    modules = install(TRANSCRIPTS, tmp_path_factory.mktemp("client"))
    return modules / "socket.io-client" / "dist" / "socket.io.esm.min.js"


@pytest.fixture
def page(browser) -> Iterator[Any]:
    """A tab of its own profile, seen as of another machine."""
    context = browser.new_context(extra_http_headers=FOREIGN)
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def used_by_its_page(page: Any, origin: str, does: str, client: Path) -> Any:
    """Have a page of an app do something; return what came of it."""
    page.route("**/of-the-bundle.js", lambda route: route.fulfill(
        body=client.read_text(encoding="utf-8"), content_type="text/javascript"))
    page.route("**/of-the-bundle.html", lambda route: route.fulfill(
        body=PAGE.replace("%s", does), content_type="text/html"))
    page.goto(f"{origin}/of-the-bundle.html")
    page.wait_for_function("window.result !== undefined")
    result = page.evaluate("result")
    page.goto("about:blank")
    return result


#: What the short tests have; the long ones have the others.
SHORT = [("login", "HYBRID"), ("login", "WEBSOCKET"), ("login", UNMODIFIED),
         ("todo by name", "HYBRID"), ("todo by name", "WEBSOCKET")]


@pytest.mark.parametrize(("name", "profile"), [
    pytest.param(name, way, marks=[] if (name, way) in SHORT else [pytest.mark.long])
    for name in SCENARIOS for way in ("HYBRID", "WEBSOCKET", UNMODIFIED)])
def test_an_app_for_users_of_other_machines(tmp_path: Path, page: Any, theirs: Path, name: str, profile: str) -> None:
    """Unmodified, by its page, from another machine's address: on our transport, and rolled back by the environment."""
    app, scenario, port = STARTS[name], SCENARIOS[name], free_port()
    pytest.importorskip(app.needs)
    command = [word.format(port=port) for word in (scenario.command or app.command).split()]
    prefix = EXEC if app.prefix == "exec" else [*EXEC[:-2], "run"]
    with running(tmp_path, [*prefix, *command], port, cwd=APPS, HYBRID_ACCESS="app", HOST="0.0.0.0",
                 TODO_DB=str(tmp_path / "todo.db"), PYTHONDONTWRITEBYTECODE="1", **variables(profile)) as server:
        client = OURS if profile == "HYBRID" else theirs
        found = used_by_its_page(page, f"http://{HOST}:{port}", scenario.does, client)
        assert found == scenario.expected, server.text()
        assert server.text().count(SWAPPED) == (0 if profile == "WEBSOCKET" else 1)
        if profile != "WEBSOCKET":
            page.goto(f"http://{HOST}:{port}/api/hybrid/status")
            assert json.loads(page.inner_text("body"))["code"] == "loopback_only"


def test_nobody_else_by_default(tmp_path: Path, page: Any) -> None:
    """Without ``HYBRID_ACCESS=app`` the page learns why it is refused."""
    port = free_port()
    pytest.importorskip("flask_socketio")
    with running(tmp_path, [*EXEC, "python", "ticker.py", str(port)], port, cwd=APPS, HOST="0.0.0.0"):
        reason = used_by_its_page(page, f"http://{HOST}:{port}", 'async () => await open("/").refused', OURS)
    assert "only requests from this machine are accepted" in reason
