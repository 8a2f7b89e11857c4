"""The pages of Flask-SocketIO apps in Chromium, unmodified: on the app as it is, and on the one that is swapped.

They are served by the app itself and load socket.io-client from the URL that they name. With its default options it
begins with polling and goes on with a WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import browsers
from support.hosts import EXEC, Running, free_port, running, until
from support.npm import install, packaged
from support.socketio_apps import APPS, STARTS, UNMODIFIED, variables

browser = browsers.browser

pytest.importorskip("flask_socketio", reason="the apps are written against Flask-SocketIO")

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of npm."""
    return install(APPS.parents[1] / "socketio" / "transcripts", tmp_path_factory.mktemp("modules"))


class Tabs:
    """Pages of one app, each in a browser of its own; none may have anything to complain about."""

    def __init__(self, browser: Any, server: Running, modules: Path) -> None:
        self._browser, self.server, self._modules = browser, server, modules
        self.complaints: list[str] = []
        self.sockets: list[str] = []

    def open(self, path: str = "/") -> Any:
        page = self._browser.new_context().new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("websocket", lambda websocket: self.sockets.append(websocket.url))
        page.route("**/favicon.ico", lambda route: route.fulfill(body=""))
        page.route(re.compile("^https:"), lambda route: route.fulfill(
            body=packaged(route.request.url, self._modules), content_type="text/javascript"))
        page.goto(f"http://127.0.0.1:{self.server.port}{path}")
        return page

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()


@pytest.fixture(params=[UNMODIFIED, pytest.param("WEBSOCKET", marks=pytest.mark.long)])
def way(request: pytest.FixtureRequest) -> str:
    """How the app is served: swapped, or as it is."""
    return str(request.param)


@pytest.fixture
def tabs(request: pytest.FixtureRequest, browser: Any, modules: Path, tmp_path: Path, way: str) -> Iterator[Tabs]:
    """What opens pages of the app that the test names."""
    name, port = request.param, free_port()
    command = [word.format(port=port) for word in STARTS[name].command.split()]
    with running(tmp_path, [*EXEC, *command], port, cwd=APPS, PYTHONDONTWRITEBYTECODE="1", **variables(way)) as server:
        opened = Tabs(browser, server, modules)
        yield opened
        opened.close()
    assert opened.complaints == []


@pytest.mark.parametrize("tabs", ["chat"], indirect=True)
def test_a_chat(tabs: Tabs) -> None:
    """Two browsers log in, talk in their room and see each other leave; a request's broadcast reaches both."""
    pages = {}
    for name in ("ann", "bob"):
        page = pages[name] = tabs.open()
        page.get_by_label("Name").fill(name)
        page.get_by_label("Room").fill("hall")
        page.get_by_role("button", name="Enter").click()
        until(lambda page=page, name=name: f"<{name} has entered the room.>" in said(page), "it is connected")
    until(lambda: len(tabs.sockets) == 2, "both have a WebSocket")
    assert all("/socket.io/?EIO=4&transport=websocket&sid=" in url for url in tabs.sockets)
    for number in range(20):
        name = "ann" if number % 2 else "bob"
        pages[name].get_by_label("Text").fill(f"line {number}")
        pages[name].get_by_role("button", name="Say").click()
        until(lambda name=name, number=number: said(pages[name])[-1] == f"{name}:line {number}", "it is said")
    assert tabs.server.post("/announce", {"msg": "closing"}).status == 204
    pages["bob"].get_by_role("button", name="Leave").click()
    told = [f"{'ann' if number % 2 else 'bob'}:line {number}" for number in range(20)]
    until(lambda: said(pages["ann"])[-1] == "<bob has left the room.>", "the other is told")
    assert said(pages["ann"]) == ["<ann has entered the room.>", "<bob has entered the room.>", *told, "*** closing",
                                  "<bob has left the room.>"]
    pages["bob"].get_by_label("Name").wait_for()


@pytest.mark.long
@pytest.mark.parametrize("tabs", ["ticker"], indirect=True)
def test_a_page_of_a_ticker(tabs: Tabs) -> None:
    """It counts events, measures the latency, has its echo, and ends by the server once it has acknowledged that."""
    page = tabs.open()
    until(lambda: page.locator("#transport").inner_text() == "websocket", "it goes on with a WebSocket")
    for text in ("x", "y"):
        page.get_by_label("Message").fill(text)
        page.get_by_role("button", name="Echo").click()
    until(lambda: lines(page)[-1] == "2: y", "the echo comes")
    # Flask-SocketIO sends what the connect handler emits before it tells the client that it is connected.
    assert sorted(lines(page)[:2]) == ["0: Connected", "connected"]
    assert lines(page)[2:] == ["1: x", "2: y"]
    until(lambda: page.locator("#latency").inner_text(), "the latency is measured")
    first = int(page.locator("#count").inner_text())
    until(lambda: int(page.locator("#count").inner_text()) > first + 3, "it goes on counting")
    page.get_by_role("button", name="Disconnect").click()
    until(lambda: lines(page)[-1].startswith("disconnected"), "the server ends it")
    assert lines(page)[-2:] == ["0: Disconnected!", "disconnected: io server disconnect"]


def said(page: Any) -> list[str]:
    """The lines of a chat."""
    return str(page.locator("#chat").input_value()).splitlines() if page.locator("#chat").count() else []


def lines(page: Any) -> list[str]:
    """The lines of the ticker's log."""
    return [str(text) for text in page.locator("#log li").all_inner_texts()]
