"""Clients that stop at a clean end come back after everything that is none: @microsoft/fetch-event-source and httpx.

And event-source-polyfill, which comes back in any case, and says in the query what it has had.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import pytest
from support import browsers
from support.hosts import free_port
from support.npm import install
from support.proxies import nginx
from support.servers import SOON, STREAM, TESTS, Server, wait_until

browser = browsers.browser

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300),
              pytest.mark.skipif(sys.platform == "win32", reason="signals and nginx")]

PACKAGE = "@microsoft/fetch-event-source"

#: With nothing but its defaults, which come back after an error and stop at a clean end.
FOLLOW = """url => {
  window.got = []; window.ends = [];
  fetchEventSource(url, { openWhenHidden: true, onmessage: message => got.push([message.event, message.data]),
                          onclose: () => { ends.push("clean"); }, onerror: error => { ends.push(String(error)); } })
    .then(() => ends.push("stopped"), error => ends.push(`failed: ${error}`));
}"""


#: By the defaults of event-source-polyfill: the id goes into the query, as ``lastEventId``.
POLYFILL = """url => {
  window.got = []; window.ends = [];
  const source = new EventSourcePolyfill(url);
  for (const name of ["hybrid_open", "hybrid_gap", "hybrid_bye", "hybrid_busy", "note"])
    source.addEventListener(name, event => got.push([name, event.data]));
  source.onerror = () => ends.push("error");
}"""


class Relay:
    """Passes connections on to a port, until they are cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._cut = threading.Event()
        self._reset = False
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        with self._listening:
            while True:
                sock = self._listening.accept()[0]
                if not self._to:
                    sock.close()
                    return
                thread = threading.Thread(target=self._pass_on, args=[sock, self._cut])
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, near: socket.socket, cut: threading.Event) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as far:
            while not cut.is_set():
                for sock in select.select([near, far], [], [], 0.02)[0]:
                    data = sock.recv(65536)
                    if not data:
                        return
                    (far if sock is near else near).sendall(data)
            if self._reset:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def cut(self, *, reset: bool = False) -> None:
        """End all connections: as a machine that hangs up in order, or by a reset."""
        self._reset = reset
        cut, self._cut = self._cut, threading.Event()
        cut.set()

    def close(self) -> None:
        self._to = 0
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._accepting.join()
        self.cut()
        for thread in self._threads:
            thread.join()


class Follower:
    """A client that follows the stream.

    :ivar ends: how its connections ended: ``clean``, or an error; at last ``stopped``.
    """

    ends: list[str]

    def events(self) -> list[tuple[str, Any]]:
        """Return the name and the data of all that came."""
        raise NotImplementedError

    def numbers(self) -> list[int]:
        return [data["i"] for name, data in self.events() if name == "note"]

    def wait_for(self, number: int, name: str = "note") -> None:
        """Wait until so many have come."""
        wait_until(lambda: sum(found == name for found, _ in self.events()) >= number, SOON, f"{number} {name}")


class InBrowser(Follower):
    """@microsoft/fetch-event-source, or event-source-polyfill, in Chromium."""

    def __init__(self, page: Any, port: int, modules: Path, *, polyfill: bool = False) -> None:
        self.asked: list[str] = []
        self._page = page
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(f"http://127.0.0.1:{port}/health")
        if polyfill:
            page.add_script_tag(path=modules / "node_modules" / "event-source-polyfill" / "src" / "eventsource.js")
            page.evaluate(POLYFILL, f"http://127.0.0.1:{port}{STREAM}")
            return
        folder = modules / "node_modules" / PACKAGE / "lib" / "cjs"
        parts = {name: (folder / f"{name}.js").read_text() for name in ("parse", "fetch")}
        page.evaluate("""parts => {
          const parse = {}, library = {};
          new Function("exports", parts.parse)(parse);
          new Function("exports", "require", parts.fetch)(library, () => parse);
          window.fetchEventSource = library.fetchEventSource;
        }""", parts)
        page.evaluate(FOLLOW, f"http://127.0.0.1:{port}{STREAM}")

    def events(self) -> list[tuple[str, Any]]:
        return [(name, json.loads(data)) for name, data in self._page.evaluate("got")]

    @property
    def ends(self) -> list[str]:  # type: ignore[override]
        return list(self._page.evaluate("ends"))


class InPython(Follower):
    """httpx, as its users write it: an error is tried again, a clean end is the end."""

    def __init__(self, port: int) -> None:
        self._got: list[tuple[str, Any]] = []
        self.ends: list[str] = []
        self._gone = threading.Event()
        threading.Thread(target=self._follow, args=[f"http://127.0.0.1:{port}{STREAM}"], daemon=True).start()

    def _follow(self, url: str) -> None:
        last = ""
        while not self._gone.wait(0.1):
            try:
                with httpx.Client(timeout=SOON) as client, httpx_sse.connect_sse(
                        client, "GET", url, headers={"Last-Event-ID": last} if last else {}) as source:
                    source.response.raise_for_status()
                    for message in source.iter_sse():
                        last = message.id or last
                        self._got.append((message.event, json.loads(message.data)))
                self.ends += ["clean", "stopped"]
                return
            except (httpx.HTTPError, httpx_sse.SSEError) as error:
                self.ends.append(type(error).__name__)

    def events(self) -> list[tuple[str, Any]]:
        return list(self._got)

    def close(self) -> None:
        self._gone.set()


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that the page loads."""
    return install(TESTS / "client", tmp_path_factory.mktemp("fetch_modules")).parent


@pytest.fixture(params=["fetch-event-source", "httpx"])
def follow(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Follower]]:
    """Return a function that has a client follow the stream at a port."""
    if request.param == "httpx":
        clients: list[InPython] = []

        def python(port: int) -> Follower:
            clients.append(InPython(port))
            return clients[-1]

        yield python
        for client in clients:
            client.close()
        return
    page = request.getfixturevalue("browser").new_page()
    modules = request.getfixturevalue("modules")
    yield lambda port: InBrowser(page, port, modules)
    page.close()


def server(folder: Path, *options: str, **settings: Any) -> Server:
    """A server that keeps its events over a restart."""
    return Server("ours", *options, HYBRID_JOURNAL=folder / "journal.sqlite3", HYBRID_RETRY_MS=200, **settings)


def came_back(client: Follower, total: int, gaps: int = 0) -> None:
    """The client has all numbers, once and in order, and never saw a clean end."""
    client.wait_for(total)
    assert client.numbers() == list(range(total))
    assert sum(name == "hybrid_gap" for name, _ in client.events()) == gaps
    assert client.ends
    assert not {"clean", "stopped"} & set(client.ends), client.ends


@pytest.mark.parametrize(("end", "way"), [
    pytest.param("SIGTERM", "nginx", marks=pytest.mark.long), ("SIGKILL", "direct"),
    pytest.param("SIGTERM", "direct", marks=pytest.mark.long), pytest.param("SIGKILL", "nginx", marks=pytest.mark.long),
])
def test_the_server_ends_and_starts_again(
        tmp_path: Path, follow: Callable[[int], Follower], end: str, way: str) -> None:
    """Stopped in order, with its farewell, or killed: the client comes back and has everything."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(server(tmp_path))
        port = first.port if way == "direct" else stack.enter_context(nginx(tmp_path, first.port)).port
        client = follow(port)
        client.wait_for(1, "hybrid_open")
        first.emit("note", 3)
        client.wait_for(3)
        if end == "SIGTERM":
            first.emit("note", 2, first=3)
            first.process.terminate()
        else:
            wait_until(lambda: first.status()["journal"]["waiting"] == 0, what="the journal to have everything")
            first.process.kill()
        first.ended(SOON)
        second = stack.enter_context(server(tmp_path, "--port", str(first.port)))
        kept = 5 if end == "SIGTERM" else 3
        second.emit("note", 4, first=kept)
        came_back(client, kept + 4, gaps=int(end == "SIGKILL"))
        assert sum(name == "hybrid_bye" for name, _ in client.events()) == int(end == "SIGTERM")


def test_the_proxy_is_started_again(tmp_path: Path, follow: Callable[[int], Follower]) -> None:
    """What is emitted while there is no proxy comes when there is one again."""
    port = free_port()
    with server(tmp_path) as host:
        with nginx(tmp_path, host.port, port=port):
            client = follow(port)
            client.wait_for(1, "hybrid_open")
            host.emit("note", 3)
            client.wait_for(3)
        host.emit("note", 3, first=3)
        with nginx(tmp_path, host.port, port=port):
            host.emit("note", 3, first=6)
            came_back(client, 9)


@pytest.mark.long
def test_the_polyfill_says_in_the_query_what_it_has_had(tmp_path: Path, browser: Any, modules: Path) -> None:
    """``lastEventId`` is as good as the header: nothing is lost, over cuts and a restart."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(server(tmp_path))
        relay = stack.enter_context(contextlib.closing(Relay(first.port)))
        page = stack.enter_context(contextlib.closing(browser.new_page()))
        client = InBrowser(page, relay.port, modules, polyfill=True)
        client.wait_for(1, "hybrid_open")
        for number in range(2):
            first.emit("note", 2, first=2 * number)
            client.wait_for(2 * number + 1)
            relay.cut()
        first.stop()
        second = stack.enter_context(server(tmp_path, "--port", str(first.port)))
        second.emit("note", 2, first=4)
        came_back(client, 6)
        assert any("lastEventId=" in url for url in client.asked)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_the_connection_is_cut(tmp_path: Path, follow: Callable[[int], Follower], reset: bool) -> None:
    """However something on the way hangs up."""
    with server(tmp_path) as host, contextlib.closing(Relay(host.port)) as relay:
        client = follow(relay.port)
        client.wait_for(1, "hybrid_open")
        for number in range(3):
            host.emit("note", 2, first=2 * number)
            client.wait_for(2 * number + 1)
            relay.cut(reset=reset)
        host.emit("note", first=6)
        came_back(client, 7)


@pytest.mark.long
def test_a_client_that_is_shed_comes_back(tmp_path: Path, follow: Callable[[int], Follower]) -> None:
    """``hybrid_busy`` is no clean end either."""
    with server(tmp_path, HYBRID_MAX_STREAMS=1) as host:
        with host.opened():
            client = follow(host.port)
            client.wait_for(1, "hybrid_busy")
        client.wait_for(1, "hybrid_open")
        host.emit("note")
        came_back(client, 1)


def test_a_client_that_the_host_ends_stays_away(tmp_path: Path, follow: Callable[[int], Follower]) -> None:
    """The one clean end there is: the host has ended the client."""
    with server(tmp_path) as host:
        client = follow(host.port)
        client.wait_for(1, "hybrid_open")
        [sid] = [data["sid"] for name, data in client.events() if name == "hybrid_open"]
        host.ask("POST", "/kick", {"sid": sid})
        wait_until(lambda: client.ends == ["clean", "stopped"], SOON, "it to stop")
        assert client.events()[-1][0] == "hybrid_disconnect"
