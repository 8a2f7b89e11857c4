"""The browser client in Chromium: many tabs on one stream, and whatever may happen to the one that holds it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from support import browsers
from support.servers import SOON, Server, wait_until

browser = browsers.browser

pytestmark = pytest.mark.once

#: Connects one socket and notes what it is told; ``told`` holds the client's own events, ``seen`` those of the host.
START = """options => {
  window.seen = []; window.told = [];
  const socket = window.socket = io(options.url, options);
  for (const name of ["connect", "disconnect", "connect_error", "gap"])
    socket.on(name, what => told.push([name, what?.message ?? what ?? socket.id]));
  socket.onAny((name, ...args) => seen.push([name, ...args]));
}"""


class ClientServer(Server):
    """A server of ``client.app``."""

    def __init__(self, port: int = 0, **settings: object) -> None:
        super().__init__("client.app", "--port", str(port), **{"HYBRID_HEARTBEAT_S": 1, **settings})

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", kind, *options]

    @property
    def page(self) -> str:
        """URL of a page that has loaded the client."""
        return f"http://127.0.0.1:{self.port}/page"

    def notes(self, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what happened in the app."""
        return dict(self.ask("GET", "/notes", headers=headers).json())

    def do(self, event: str, **wish: Any) -> None:
        """Have the app emit."""
        assert self.ask("POST", "/do", {"event": event, **wish}).status == 200


@pytest.fixture
def context(browser) -> Iterator[Any]:
    """What tabs of one browser share."""
    context = browser.new_context()
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def server() -> Iterator[ClientServer]:
    with ClientServer() as server:
        yield server


def open_tab(context: Any, page_url: str, **options: Any) -> Any:
    """Return a new tab whose socket is about to connect."""
    tab = context.new_page()
    tab.goto(page_url)
    tab.wait_for_function("!!window.io")
    tab.evaluate(START, options)
    return tab


def wait_connected(tab: Any) -> None:
    tab.wait_for_function("socket.connected")


def open_tabs(context: Any, page_url: str, number: int, **options: Any) -> list[Any]:
    """Return so many tabs, all connected."""
    tabs = [open_tab(context, page_url, **options) for _ in range(number)]
    for tab in tabs:
        wait_connected(tab)
    return tabs


def numbers(tab: Any, event: str) -> list[int]:
    """What the tab has got under a name, as it came."""
    return [item[1] for item in tab.evaluate("seen") if item[0] == event]


def wait_for_number(tab: Any, event: str, number: int) -> None:
    tab.wait_for_function("([event, number]) => seen.some(item => item[0] === event && item[1] === number)",
                          arg=[event, number])


def told(tab: Any, name: str) -> list[Any]:
    return [item[1] for item in tab.evaluate("told") if item[0] == name]


@contextmanager
def flowing(server: ClientServer, number: int) -> Iterator[None]:
    """Emit so many events meanwhile, one every few milliseconds."""
    emitter = Thread(target=server.do, args=("news",), kwargs={"n": number, "pause": 0.005})
    emitter.start()
    try:
        yield
    finally:
        emitter.join()


def crash(context: Any, tab: Any) -> None:
    """End the tab's process as the kernel would."""
    cdp = context.new_cdp_session(tab)
    with contextlib.suppress(Exception):  # there is nobody left to answer
        cdp.send("Page.crash", {}, timeout=1000)


def leader_of(tabs: list[Any], seconds: float = SOON) -> Any:
    """The tab that holds the stream."""
    return wait_until(lambda: next((tab for tab in tabs if leads(tab)), None), seconds, "a tab leads")


def leads(tab: Any) -> bool:
    return bool(tab.evaluate("socket.io.link.leading && socket.io.link.up"))


@pytest.mark.long
def test_twenty_tabs_share_one_stream(context, server):
    """One stream for all; every tab gets every event once and in order, and its own events alone."""
    tabs = open_tabs(context, server.page, 20, auth={"welcome": True})
    assert server.status()["streams"] == 1
    sids = [tab.evaluate("socket.id") for tab in tabs]
    assert len(set(sids)) == 20
    server.do("news", n=200)
    for sid in sids:
        server.do("private", to=sid, args=[sid])
    server.do("last")
    for tab, sid in zip(tabs, sids, strict=True):
        wait_for_number(tab, "last", 0)
        assert numbers(tab, "news") == list(range(200))
        assert numbers(tab, "private") == [sid]
        assert numbers(tab, "welcome") == [{"sid": sid}]
    assert server.status()["streams"] == 1


def test_the_leader_closes_while_events_flow(context, server):
    """Another tab takes the stream over: nothing is lost, nothing comes twice, nobody is disconnected."""
    tabs = open_tabs(context, server.page, 5)
    leader = leader_of(tabs)
    with flowing(server, 400):
        wait_for_number(leader, "news", 50)
        leader.close()
    for tab in tabs:
        if tab is not leader:
            wait_for_number(tab, "news", 399)
            assert numbers(tab, "news") == list(range(400))
            assert told(tab, "disconnect") == []
    server.wait_for_streams(1)


@pytest.mark.long
def test_tabs_that_come_while_events_flow(context, server):
    """Each gets everything from its beginning on, without a hole, its welcome first."""
    first = open_tabs(context, server.page, 1)
    with flowing(server, 600):
        later = open_tabs(context, server.page, 4, auth={"welcome": True})
    for tab in [*first, *later]:
        wait_for_number(tab, "news", 599)
        got = numbers(tab, "news")
        assert got == list(range(got[0], 600))
    assert [len(numbers(tab, "welcome")) for tab in later] == [1] * 4
    assert server.status()["streams"] == 1


@pytest.mark.long
def test_a_leader_that_is_about_to_be_frozen(context, server):
    """Browsers freeze pages in the background, and tell them: the tab lets the stream go."""
    tabs = open_tabs(context, server.page, 3)
    leader = leader_of(tabs)
    with flowing(server, 200):
        wait_for_number(leader, "news", 10)
        leader.evaluate("document.dispatchEvent(new Event('freeze')) && null")
    assert not leads(leader)
    leader_of(tabs)
    for tab in tabs:
        wait_for_number(tab, "news", 199)
        assert numbers(tab, "news") == list(range(200))
        assert told(tab, "disconnect") == []
    assert server.status()["streams"] == 1


@pytest.mark.long
def test_a_leader_that_hangs_is_deposed(context, server):
    """It answers nobody, so another tab steals the lock; when it wakes it follows, and has missed nothing."""
    tabs = open_tabs(context, server.page, 3)
    leader = leader_of(tabs)
    rest = [tab for tab in tabs if tab is not leader]
    leader.evaluate("""() => { setTimeout(() => {
      const ends = Date.now() + 60000, request = new XMLHttpRequest();
      while (Date.now() < ends) {  // a synchronous request holds the page as a busy loop would, without the CPU
        request.open("GET", "/held", false); request.send();
        if (request.responseText === "false") break;
      } }); }""")
    leader_of(rest, seconds=30)
    server.do("news", n=50)
    for tab in rest:
        wait_for_number(tab, "news", 49)
    assert server.ask("POST", "/release", {}).status == 200
    server.do("last")
    for tab in tabs:
        wait_for_number(tab, "last", 0)
        assert numbers(tab, "news") == list(range(50))
        assert told(tab, "disconnect") == []
    assert not leads(leader)
    assert server.status()["streams"] == 1


def test_a_tab_that_crashes_is_disconnected(context, server):
    """The leader learns of it by the tab's lock, and ends its client; a new leader that of the old one."""
    tabs = open_tabs(context, server.page, 4)
    for victim in (next(tab for tab in tabs if not leads(tab)), leader_of(tabs)):
        sid = victim.evaluate("socket.id")
        tabs.remove(victim)
        crash(context, victim)
        wait_until(lambda sid=sid: {"sid": sid, "reason": "client disconnect"} in server.notes()["disconnects"])
    server.do("last")
    for tab in tabs:
        wait_for_number(tab, "last", 0)
        assert told(tab, "disconnect") == []
    server.wait_for_streams(1)


def test_a_tab_that_has_said_that_it_leaves_is_ended_once_more(context, server):
    """The others may see that it is gone before they hear that it has left: nobody is refused for that."""
    tabs = open_tabs(context, server.page, 3)
    refused: list[tuple[str, str]] = []
    complaints: list[str] = []
    context.on("response", lambda answer: answer.status >= 400 and refused.append((answer.url, answer.text())))
    context.on("console", lambda message: complaints.append(message.text))
    sid = tabs[0].evaluate("socket.id")
    for tab in tabs[1:]:
        tab.evaluate("""sid => {
          const { link, _post } = socket.io, { heard } = link;
          link.heard = news => news.kind === "mine" && !news.ids.length || heard.call(link, news);
          socket.io._post = async (path, body, ...rest) => {
            const answer = await _post.call(socket.io, path, body, ...rest);
            if (path === "disconnect" && body.sid === sid) window.ended = answer.status;
            return answer;
          };
        }""", sid)
    tabs[0].close()
    for tab in tabs[1:]:
        tab.wait_for_function("window.ended")
        assert tab.evaluate("ended") == 200
    assert (refused, complaints) == ([], [])
    assert [note["reason"] for note in server.notes()["disconnects"] if note["sid"] == sid] == ["client disconnect"]


def test_tabs_that_close_are_disconnected(context, server):
    """Each says so as it goes; with the last one goes the stream."""
    tabs = open_tabs(context, server.page, 3)
    for tab in tabs:
        sid = tab.evaluate("socket.id")
        tab.close()
        wait_until(lambda sid=sid: {"sid": sid, "reason": "client disconnect"} in server.notes()["disconnects"])
    server.wait_for_streams(0)


def test_a_leader_whose_socket_disconnects(context, server):
    """The others keep their stream; the page can connect again and follows."""
    tabs = open_tabs(context, server.page, 3)
    leader = leader_of(tabs)
    leader.evaluate("socket.disconnect()")
    server.do("news", n=10)
    for tab in tabs:
        if tab is not leader:
            wait_for_number(tab, "news", 9)
            assert numbers(tab, "news") == list(range(10))
            assert told(tab, "disconnect") == []
    leader.evaluate("socket.connect()")
    wait_connected(leader)
    server.do("last")
    wait_for_number(leader, "last", 0)
    assert numbers(leader, "news") == []
    assert server.status()["streams"] == 1


def test_the_server_is_killed_and_comes_back(context):
    """All tabs see it go, and come back as new clients on one stream, told of the gap."""
    with ClientServer() as first:
        port = first.port
        tabs = open_tabs(context, first.page, 4, reconnectionDelay=100)
        ids = [tab.evaluate("socket.id") for tab in tabs]
        first.process.kill()
        first.process.wait()
        for tab in tabs:
            tab.wait_for_function("!socket.connected")
    with ClientServer(port) as second:
        for tab, sid in zip(tabs, ids, strict=True):
            wait_connected(tab)
            assert tab.evaluate("socket.recovered") is False
            assert tab.evaluate("socket.id") != sid
            assert [item["reason"] for item in told(tab, "gap")] == ["restarted"]
            assert told(tab, "disconnect") == ["transport close"]
        second.do("news", n=10)
        for tab in tabs:
            wait_for_number(tab, "news", 9)
            assert numbers(tab, "news") == list(range(10))
        assert second.status()["streams"] == 1


def test_a_network_that_goes_and_comes(context, server):
    """Every tab comes back as who it was, with what happened meanwhile."""
    tabs = open_tabs(context, server.page, 3, reconnectionDelay=100)
    ids = [tab.evaluate("socket.id") for tab in tabs]
    context.set_offline(True)
    for tab in tabs:
        tab.wait_for_function("!socket.connected")
    server.do("news", n=20)
    for sid in ids:
        server.do("private", to=sid, args=[sid])
    context.set_offline(False)
    for tab, sid in zip(tabs, ids, strict=True):
        wait_for_number(tab, "private", sid)
        assert tab.evaluate("[socket.id, socket.recovered]") == [sid, True]
        assert numbers(tab, "news") == list(range(20))
        assert numbers(tab, "private") == [sid]
        assert told(tab, "gap") == []
    server.wait_for_streams(1)


def test_a_page_of_another_origin_with_a_key(context):
    """It connects across origins; the key goes in a header, and no URL holds it."""
    with ClientServer() as pages, ClientServer(HAKGAL_API_KEY="the key") as server:
        urls: list[str] = []
        context.on("request", lambda request: urls.append(request.url))
        base = f"http://127.0.0.1:{server.port}"
        tabs = open_tabs(context, pages.page, 2, url=base, auth={"apiKey": "the key"}, withCredentials=True)
        for tab in tabs:
            assert tab.evaluate("socket.emitWithAck('echo', [1, {two: 3}])") == [1, {"two": 3}]
        assert [item["key"] for item in server.notes({"X-API-Key": "the key"})["connects"]] == ["the key"] * 2
        assert not any("the%20key" in url or "the+key" in url for url in urls)
        bad = open_tab(context, pages.page, url=base, auth={"apiKey": "another"})
        bad.wait_for_function("told.length")
        assert told(bad, "connect_error")
        assert bad.evaluate("socket.active") is False


def test_tabs_that_do_not_share(context, server):
    """``shareStream: false`` gives each tab a stream of its own."""
    open_tabs(context, server.page, 2, shareStream=False)
    assert server.status()["streams"] == 2


def test_a_page_that_comes_back_from_the_cache(context, server):
    """Put away by the browser it leaves; shown again it is a new client that knows it missed something."""
    tab = open_tab(context, server.page)
    wait_connected(tab)
    sid = tab.evaluate("socket.id")
    tab.evaluate("""() => {
      window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
      window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })); }""")
    wait_until(lambda: {"sid": sid, "reason": "client disconnect"} in server.notes()["disconnects"])
    wait_connected(tab)
    assert tab.evaluate("socket.id") != sid
    assert told(tab, "disconnect") == ["transport close"]
    assert len(told(tab, "gap")) == 1


def test_the_classic_script(context, server):
    """Loaded by a script element it makes ``io`` global."""
    tab = context.new_page()
    tab.goto(f"http://127.0.0.1:{server.port}/health")
    tab.add_script_tag(url="/api/hybrid/client.classic.js")
    tab.evaluate(START, {})
    wait_connected(tab)
    assert tab.evaluate("[io.Manager, io.Socket, io.connect === io, socket instanceof io.Socket].every(Boolean)")
