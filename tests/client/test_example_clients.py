"""The page and the script of the example host, as they are: on the host as it is, and on the one that is swapped.

Neither knows of this package: the page has socket.io-client from the URL that it names, the script python-socketio.
They run by polling, by a WebSocket and by both, through the end of a host that is killed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import browsers
from support.hosts import EXEC, REPOSITORY, SRC, START, Running, environment, free_port, running, until
from support.npm import install, packaged
from support.proxies import nginx
from support.socketio_apps import UNMODIFIED, variables
from support.websites import served

browser = browsers.browser

pytest.importorskip("flask_socketio", reason="the host is written against Flask-SocketIO")
pytest.importorskip("websocket", reason="the script's WebSocket needs websocket-client")

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

CLIENTS = REPOSITORY / "examples" / "legacy_backend" / "clients"
#: What each way is called in the page's address and the script's arguments, and where it ends.
WAYS = {"polling": ("polling", "polling"), "websocket": ("websocket", "websocket"), "upgrade": ("", "websocket")}
SEEDED = 3776
#: The environment of the host, by how it is served: with recovery pages are offered to come back as who they were.
SERVED = {
    "as it is": variables("WEBSOCKET"),
    "swapped": variables(UNMODIFIED),
    "dual": variables("DUAL"),
    "recovering": {**variables(UNMODIFIED), "HYBRID_SOCKETIO_RECOVERY": "auto", "HYBRID_RESUME_S": "60"},
}
#: What Chromium itself says of a host that is not there.
NETWORK = re.compile(r"Failed to load resource|WebSocket connection to|net::ERR_")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of npm."""
    return install(REPOSITORY / "tests" / "socketio" / "transcripts", tmp_path_factory.mktemp("modules"))


class Host:
    """The example host, started by its own command, again and again on one port.

    :param way: one of :data:`SERVED`.
    :ivar reached_at: the port that clients use, perhaps of a proxy.
    """

    def __init__(self, folder: Path, way: str) -> None:
        self.port, self._folder, self._variables = free_port(), folder, dict(SERVED[way])
        if way == "recovering":
            self._variables["HYBRID_JOURNAL"] = str(folder / "journal")
        self._prefix, self._push = ([] if way == "as it is" else EXEC), way in ("as it is", "dual")
        self.reached_at = self.port

    @contextmanager
    def started(self) -> Iterator[Running]:
        start = START.format(src=SRC, push=self._push, port=self.port, extra="")
        python = "python" if self._prefix else sys.executable
        with running(self._folder, [*self._prefix, python, "-c", start], self.port, **self._variables) as host:
            yield host


class Page:
    """The page as its visitor sees it."""

    def __init__(self, browser: Any, website: int, host: Host, transport: str, modules: Path) -> None:
        self.page = browser.new_page()
        self.complaints: list[str] = []
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.route(re.compile("^https:"), lambda route: route.fulfill(
            body=packaged(route.request.url, modules), content_type="text/javascript",
            headers={"Access-Control-Allow-Origin": "*"}))
        query = f"&transport={transport}" if transport else ""
        self.page.goto(f"http://127.0.0.1:{website}/page.html?api=http://127.0.0.1:{host.reached_at}{query}")

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not NETWORK.search(message.text):
            self.complaints.append(message.text)

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""
        until(lambda: self.page.locator(selector).inner_text() == text, f"{selector} shows {text}", 30)

    def events(self, name: str) -> list[str]:
        """What the page says of the events with a name."""
        return [str(text) for text in self.page.locator(f'#log [data-event="{name}"]').all_inner_texts()]

    def send(self, label: str, text: str, button: str) -> None:
        """Fill in a form."""
        self.page.get_by_label(label).fill(text)
        self.page.get_by_role("button", name=button).click()


class Script:
    """The script, in a process of its own."""

    def __init__(self, folder: Path, name: str, host: Host, transport: str) -> None:
        self._log = folder / f"script-{name}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, CLIENTS / "watch.py", f"http://127.0.0.1:{host.reached_at}", *transport.split()],
                env=environment(folder), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def lines(self, start: str = "") -> list[str]:
        """What it has printed, of the lines that begin so."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        assert self._process.poll() is None, lines
        return [line for line in lines if line.startswith(start)]

    def says(self, line: str, times: int = 1) -> None:
        """Wait until it has printed a line so often."""
        until(lambda: self.lines().count(line) >= times, f"the script prints {line!r}: {self.lines()}", 30)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.mark.parametrize(("way", "proxied"), [
    pytest.param("swapped", False, id="swapped"),
    pytest.param("swapped", True, id="swapped, behind nginx", marks=pytest.mark.long),
    pytest.param("dual", False, id="in DUAL", marks=pytest.mark.long),
    pytest.param("recovering", False, id="swapped, with recovery", marks=pytest.mark.long),
    pytest.param("as it is", False, id="as it is", marks=pytest.mark.long)])
def test_page_and_script_run_through_a_kill(way: str, proxied: bool, browser: Any, modules: Path,
                                            tmp_path: Path) -> None:
    """In each way both get every fact once, are answered, see that the host is gone, and come back to the next one.

    While it is gone, nginx answers 502 without the headers that a page of another origin needs to read that.
    """
    host, facts = Host(tmp_path, way), ["Likes(Ann, Tea).", "Likes(Bob, Tea)."]
    with ExitStack() as ends:
        if proxied:
            host.reached_at = ends.enter_context(nginx(tmp_path, host.port, socketio=True)).port
        website = ends.enter_context(served(CLIENTS))
        with host.started() as first:
            pages = {name: Page(browser, website, host, by, modules) for name, (by, _) in WAYS.items()}
            for page in pages.values():
                ends.callback(page.page.close)
            scripts = {name: Script(tmp_path, name, host, by) for name, (by, _) in WAYS.items()}
            for script in scripts.values():
                ends.callback(script.stop)
            all_are_connected(pages, scripts, SEEDED)
            if way != "as it is":
                assert first.get("/api/hybrid/status").body["transport"] == "sse+socketio"
            pages["polling"].send("Fact", facts[0], "Add")
            all_have(pages, scripts, facts[:1])
            for name, page in pages.items():
                page.send("Question", f"Xyzzy({name}, Plugh).", "Ask")
            for name, page in pages.items():
                page.shows("#answer", f"Xyzzy({name}, Plugh). 0 %")
            first.process.kill()
            for page in pages.values():
                until(lambda page=page: page.page.locator("#state").inner_text().startswith("away: "), "it is gone", 30)
            for script in scripts.values():
                until(lambda script=script: script.lines("disconnected"), "it is gone", 30)
        with host.started():
            all_are_connected(pages, scripts, SEEDED + 1, times=2)
            pages["websocket"].send("Fact", facts[1], "Add")
            all_have(pages, scripts, facts)
        complaints = [text for page in pages.values() for text in page.complaints]
        assert [text for text in complaints if not (proxied and "blocked by CORS policy" in text)] == []


def all_are_connected(pages: dict[str, Page], scripts: dict[str, Script], facts: int, times: int = 1) -> None:
    """Wait until each client is connected, in the way it is to end in, and has its first data."""
    for way, (_, transport) in WAYS.items():
        pages[way].shows("#state", "connected")
        pages[way].shows("#transport", transport)
        pages[way].shows("#count", str(facts))
        scripts[way].says(f"there are {facts} facts; connected by {transport}")
        assert len(set(scripts[way].lines("connected "))) == times


def all_have(pages: dict[str, Page], scripts: dict[str, Script], facts: list[str]) -> None:
    """Wait until each client has the newest fact; then it has all of them, once and in order."""
    for way, page in pages.items():
        page.shows("#facts li:first-child", facts[-1])
        page.shows("#count", str(SEEDED + len(facts)))
        told = page.events("fact_added")
        assert [fact in line for fact, line in zip(facts, told, strict=True)] == [True] * len(facts)
        scripts[way].says(f"added {facts[-1]}")
        assert scripts[way].lines("added ") == [f"added {fact}" for fact in facts]
        until(lambda way=way: len(scripts[way].lines("confidence ")) == len(facts), "the script is answered", 30)
