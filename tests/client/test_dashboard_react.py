"""The React example in a real browser: the same sources and tests over socket.io-client and over our client.

The build with socket.io-client is also tried on the host that is swapped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import browsers
from support.hosts import EXEC, REPOSITORY, SRC, START, Running, free_port, running, until
from support.needs import missing
from support.socketio_apps import UNMODIFIED, variables
from support.websites import served

browser = browsers.browser

try:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
except ImportError:  # the fixture "browser" says so
    expect = None

pytest.importorskip("flask_socketio", reason="the host is written against Flask-SocketIO")

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

EXAMPLE = REPOSITORY / "examples" / "dashboard_react"
CLIENT = REPOSITORY / "hakgal_hybrid" / "web" / "static" / "client"
SEEDED = 3776
SOON = 30_000
#: What Chromium itself says of a backend that is not there.
NETWORK = re.compile(r"Failed to load resource|WebSocket connection to|net::ERR_|an event was not taken")

#: What npm says where there is no network.
OFFLINE = re.compile(r"^npm error code (EAI_AGAIN|ENOTFOUND|ECONN\w+|E\w*TIMEDOUT|ENETUNREACH)", re.MULTILINE)


# -- what must be there ------------------------------------------------------------------------------------------


def npm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run npm, with the user's own cache."""
    path = shutil.which("npm")
    if path is None or shutil.which("node") is None:
        missing("no Node.js with npm: apt-get install nodejs npm")
    env = {name: value for name, value in os.environ.items() if name not in ("TRANSPORT", "NODE_ENV", "VITE_API")}
    return subprocess.run([path, *arguments], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=280, check=False)


@pytest.fixture(scope="module")
def project(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example beside a copy of our client, as they lie in the repository, with its packages."""
    root = tmp_path_factory.mktemp("frontend")
    copy = root / EXAMPLE.relative_to(REPOSITORY)
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "dist-hybrid"))
    if CLIENT.is_dir():
        shutil.copytree(CLIENT, root / CLIENT.relative_to(REPOSITORY))
    done = npm("ci", "--no-audit", "--no-fund", cwd=copy)
    if OFFLINE.search(done.stdout):
        missing(f"npm cannot reach its registry: {done.stdout[-1000:]}")
    assert done.returncode == 0, done.stdout
    return copy


# -- frontend and backend ----------------------------------------------------------------------------------------


class Side(NamedTuple):
    """A built page, where it is served, and how its backend is run."""

    name: str
    dist: Path
    page: str

    def backend(self, folder: Path, port: int, **env: str) -> AbstractContextManager[Running]:
        """The legacy backend, on native threads in both cases, so that only the transport differs."""
        start = START.format(src=SRC, push=self.name == "socketio", port=port, extra="")
        command = [*EXEC, "python", "-c", f"import sys; sys.modules['eventlet'] = None\n{start}"]
        return running(folder, command, port, **SIDES[self.name], **env)


#: The environment of the backend, by the name of the side.
SIDES = {
    "socketio": variables("WEBSOCKET"),
    "unmodified": variables(UNMODIFIED),
    "hybrid": {**variables("HYBRID"), "HYBRID_RESUME_S": "60"},
}


@pytest.fixture(scope="module", params=[name if name == "hybrid" else pytest.param(name, marks=pytest.mark.long)
                                        for name in SIDES])
def side(request: pytest.FixtureRequest, project: Path) -> Iterator[Side]:
    """Before: socket.io-client and Flask-SocketIO. Between: the host hybridized. After: the alias as well."""
    hybrid = request.param == "hybrid"
    done = npm("run", "build:hybrid" if hybrid else "build", cwd=project)
    assert done.returncode == 0, done.stdout
    dist = project / ("dist-hybrid" if hybrid else "dist")
    with served(dist) as port:
        yield Side(request.param, dist, f"http://127.0.0.1:{port}/")


@pytest.fixture
def backend(side: Side, tmp_path: Path) -> Iterator[Running]:
    """A fresh backend."""
    with side.backend(tmp_path, free_port()) as host:
        yield host


# -- the page ----------------------------------------------------------------------------------------------------


class Dashboard:
    """The page as its user sees it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(SOON)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("console", self._keep)
        page.goto(url)

    def _keep(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    def find(self, name: str) -> Locator:
        """What has this ``data-testid``."""
        return self.page.get_by_test_id(name)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def shows(self, name: str, text: str | re.Pattern[str]) -> None:
        """Wait until an element shows a text."""
        expect(self.find(name)).to_have_text(text, timeout=SOON)

    def connected(self) -> str:
        """Wait until the page is connected and has its first data; return its id."""
        self.shows("connection", "connected")
        self.shows("ready", re.compile(r"^data after \d+ ms$"))
        return self.find("sid").inner_text()

    def events(self, name: str, direction: str = "in") -> Locator:
        """The entries of the log with this event name, newest first."""
        return self.page.locator(f'[data-event="{name}"][data-direction="{direction}"]')

    def payloads(self, name: str) -> list[Any]:
        """The payloads of the logged events with this name, oldest first."""
        texts = self.events(name).locator("pre").evaluate_all("all => all.map(one => one.textContent)")
        return [json.loads(text) for text in reversed(texts)]

    def got(self, name: str, times: int = 1) -> None:
        """Wait until an event has come exactly so often."""
        expect(self.events(name)).to_have_count(times, timeout=SOON)

    def counts(self, facts: int) -> None:
        """Wait until the page counts so many facts."""
        self.shows("fact-count", f"{facts:,}")

    def add_fact(self, statement: str) -> None:
        """Store a fact by the form; wait until the backend has answered."""
        self.page.get_by_label("Add a fact").fill(statement)
        self.button("Add").click()
        self.shows("fact-answer", "Stored.")

    def heard(self, statement: str) -> list[str]:
        """Wait until the event of a fact has come; return the facts of all such events in the log, in order."""
        expect(self.events("fact_added").first.locator("pre")).to_contain_text(statement, timeout=SOON)
        return [fact["statement"] for fact in self.payloads("fact_added")]

    def ask(self, query: str) -> None:
        """Send a question by the form."""
        self.page.get_by_label("How well do the facts support").fill(query)
        self.button("Ask").click()

    def use_key(self, key: str) -> None:
        """Give the page an API key."""
        self.page.get_by_text("API key", exact=True).first.click()
        self.page.get_by_label("API key").fill(key)
        self.button("Use").click()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of its own: pages of one context are tabs that share storage."""
    with browser.new_context() as fresh:
        yield fresh


@pytest.fixture
def visit(context: BrowserContext, side: Side) -> Iterator[Callable[..., Dashboard]]:
    """Open the page for a backend's port. When the test is over no page may have anything to complain about."""
    opened: list[Dashboard] = []

    def visit(port: int, where: BrowserContext = context) -> Dashboard:
        opened.append(Dashboard(where.new_page(), f"{side.page}?api=http://127.0.0.1:{port}"))
        return opened[-1]

    yield visit
    for dashboard in opened:
        if not dashboard.page.is_closed():
            dashboard.page.evaluate("null")  # whatever was said before this has been heard now
    assert [dashboard.complaints for dashboard in opened] == [[]] * len(opened)


@pytest.fixture
def dashboard(backend: Running, visit: Callable[..., Dashboard]) -> Dashboard:
    """The page, connected to a fresh backend."""
    opened = visit(backend.port)
    opened.connected()
    return opened


# -- the same tests, before and after ----------------------------------------------------------------------------


def test_only_the_alias_differs(side: Side) -> None:
    """The build holds one client or the other: Engine.IO's handshake, or our stream."""
    [script] = (side.dist / "assets").glob("*.js")
    text = script.read_text(encoding="utf-8")
    hybrid = side.name == "hybrid"
    assert ("EIO" in text, "/api/events/" in text) == (not hybrid, hybrid)


def test_the_page_connects_and_shows_its_id(dashboard: Dashboard, backend: Running) -> None:
    """The id is the one by which the backend knows this client, and the only one it knows."""
    sid = dashboard.connected()
    [told] = dashboard.payloads("connection_status")
    assert sid == told["sid"]
    assert backend.get("/api/status").body["websocket"]["connected_clients"] == 1


def test_initial_data_arrives(dashboard: Dashboard) -> None:
    """On connecting the page asks once, gets its data once, and shows them."""
    dashboard.counts(SEEDED)
    expect(dashboard.find("latest-facts").locator("li")).to_have_count(5)
    expect(dashboard.events("request_initial_data", "out")).to_have_count(1)
    dashboard.got("initial_data")
    assert dashboard.payloads("initial_data")[0]["metrics"]["fact_count"] == SEEDED


def test_an_added_fact_shows_up(dashboard: Dashboard) -> None:
    """The three events of a stored fact come once each, and fact and number are on the page."""
    dashboard.add_fact("Likes(Ann, Tea).")
    assert dashboard.heard("Likes(Ann, Tea).") == ["Likes(Ann, Tea)."]
    expect(dashboard.find("latest-facts").locator("li").first).to_have_text("Likes(Ann, Tea).")
    dashboard.counts(SEEDED + 1)
    for name in ("fact_added", "kb_update", "kb_metrics"):
        dashboard.got(name)
    assert dashboard.payloads("fact_added")[0]["success"] is True


def test_a_page_is_told_nothing_of_the_past(backend: Running, visit: Callable[..., Dashboard]) -> None:
    """Events from before a page was there do not come to it."""
    for number in range(5):
        assert backend.post("/api/facts", {"statement": f"Counts(Number, N{number})."}).status == 201
    dashboard = visit(backend.port)
    dashboard.connected()
    dashboard.add_fact("Likes(Ann, Tea).")
    assert dashboard.heard("Likes(Ann, Tea).") == ["Likes(Ann, Tea)."]


def test_a_question_is_answered(dashboard: Dashboard) -> None:
    """The answer to a question is shown, and everybody is told that one was given."""
    known = dashboard.find("latest-facts").locator("li").first.inner_text()
    dashboard.ask(known)
    dashboard.shows("reasoning-query", known)
    dashboard.shows("confidence", "100 %")
    dashboard.got("reasoning_complete")
    dashboard.ask("Xyzzy(Plugh, Zorkmid).")
    dashboard.shows("reasoning-query", "Xyzzy(Plugh, Zorkmid).")
    dashboard.got("reasoning_result", 2)


def test_the_governor_starts_and_stops(dashboard: Dashboard, backend: Running) -> None:
    """The buttons start and stop the backend's governor, and the page says so."""
    dashboard.shows("governor-state", "stopped")
    expect(dashboard.button("Stop")).to_be_disabled()
    dashboard.button("Start").click()
    dashboard.shows("governor-state", "running")
    assert backend.get("/api/status").body["governor"]["running"] is True
    dashboard.button("Stop").click()
    dashboard.shows("governor-state", "stopped")
    assert backend.get("/api/status").body["governor"]["running"] is False


def test_events_keep_their_order(dashboard: Dashboard, backend: Running) -> None:
    """A hundred facts of another client arrive once each, in the order in which they were stored."""
    statements = [f"Counts(Number, N{number})." for number in range(100)]
    for statement in statements:
        assert backend.post("/api/facts", {"statement": statement}).status == 201
    told = dashboard.heard(statements[-1])
    assert len(told) > 50, "the log keeps the newest 300 events, and a fact is four"
    assert told == statements[-len(told):]


def test_the_page_leaves_and_comes_back(dashboard: Dashboard, backend: Running) -> None:
    """After disconnect the backend knows the client no more and nothing comes; connect gives a new id."""
    first = dashboard.connected()
    dashboard.button("Disconnect").click()
    dashboard.shows("connection", "disconnected")
    dashboard.shows("reason", "io client disconnect")
    until(lambda: backend.get("/api/status").body["websocket"]["connected_clients"] == 0, "the client is forgotten")
    assert backend.post("/api/facts", {"statement": "Missed(Ann, Tea)."}).status == 201
    dashboard.button("Connect").click()
    assert dashboard.connected() != first
    dashboard.counts(SEEDED + 1)
    dashboard.add_fact("Likes(Ann, Coffee).")
    assert dashboard.heard("Likes(Ann, Coffee).") == ["Likes(Ann, Coffee)."]


@pytest.mark.long
def test_the_page_returns_when_the_backend_is_restarted(side: Side, tmp_path: Path,
                                                        visit: Callable[..., Dashboard]) -> None:
    """While the backend is away the page says so; the next one on the same port has it back with an id of its own."""
    port = free_port()
    with side.backend(tmp_path, port):
        dashboard = visit(port)
        first = dashboard.connected()
        dashboard.add_fact("Likes(Ann, Tea).")
        dashboard.counts(SEEDED + 1)
    dashboard.shows("connection", "reconnecting")
    with side.backend(tmp_path, port) as host:
        assert dashboard.connected() != first
        dashboard.got("initial_data", 2)
        dashboard.add_fact("Likes(Ann, Coffee).")
        assert dashboard.heard("Likes(Ann, Coffee).") == ["Likes(Ann, Tea).", "Likes(Ann, Coffee)."]
        dashboard.counts(SEEDED + 2)
        assert host.get("/api/status").body["websocket"]["connected_clients"] == 1
        dashboard.page.close()
    dashboard.complaints = [text for text in dashboard.complaints if not NETWORK.search(text)]


@pytest.mark.parametrize("apart", [False, True], ids=["tabs", "browsers"])
@pytest.mark.long
def test_two_pages_get_the_same_events(dashboard: Dashboard, backend: Running, browser: Browser, apart: bool,
                                       context: BrowserContext, visit: Callable[..., Dashboard]) -> None:
    """What is for everybody comes to both pages once; an answer comes to the page that asked."""
    with browser.new_context() if apart else nothing(context) as where:
        second = visit(backend.port, where)
        assert second.connected() != dashboard.connected()
        assert backend.get("/api/status").body["websocket"]["connected_clients"] == 2
        dashboard.add_fact("Likes(Ann, Tea).")
        second.add_fact("Likes(Bob, Tea).")
        second.ask("Likes(Ann, Tea).")
        second.shows("confidence", "100 %")
        for page in (dashboard, second):
            page.counts(SEEDED + 2)
            page.got("reasoning_complete")
        for name in ("fact_added", "kb_update", "reasoning_complete"):
            assert dashboard.payloads(name) == second.payloads(name)
        assert second.heard("Likes(Bob, Tea).") == ["Likes(Ann, Tea).", "Likes(Bob, Tea)."]
        expect(second.events("reasoning_result")).to_have_count(1)
        expect(dashboard.events("reasoning_result")).to_have_count(0)
        expect(dashboard.events("connection_status")).to_have_count(1)
        second.page.close()


@contextmanager
def nothing(value: BrowserContext) -> Iterator[BrowserContext]:
    """Give what somebody else closes."""
    yield value


def test_a_tab_outlives_the_others(dashboard: Dashboard, backend: Running, visit: Callable[..., Dashboard]) -> None:
    """When the tab that was opened first is closed, the others stay connected as who they were and miss nothing."""
    others = [visit(backend.port) for _ in range(3)]
    ids = [other.connected() for other in others]
    statements = [f"Counts(Number, N{number})." for number in range(12)]
    for number, statement in enumerate(statements):
        if number == 4:
            dashboard.page.close()
        assert backend.post("/api/facts", {"statement": statement}).status == 201
    assert [other.heard(statements[-1]) for other in others] == [statements] * 3
    assert [other.connected() for other in others] == ids
    until(lambda: backend.get("/api/status").body["websocket"]["connected_clients"] == 3, "the closed tab is forgotten")


def test_a_key_opens_the_commands(side: Side, tmp_path: Path, visit: Callable[..., Dashboard]) -> None:
    """With the backend's API key, given on the page, facts are stored and the governor starts."""
    with side.backend(tmp_path, free_port(), HAKGAL_API_KEY="open sesame") as host:
        dashboard = visit(host.port)
        dashboard.use_key("open sesame")
        dashboard.connected()
        dashboard.add_fact("Likes(Ann, Tea).")
        dashboard.got("fact_added")
        dashboard.button("Start").click()
        dashboard.shows("governor-state", "running")
        dashboard.button("Stop").click()
        dashboard.shows("governor-state", "stopped")
        dashboard.page.close()
    dashboard.complaints = [text for text in dashboard.complaints if not NETWORK.search(text)]


@pytest.mark.parametrize("side", ["hybrid", pytest.param("unmodified", marks=pytest.mark.long)], indirect=True)
def test_the_load_arrives(dashboard: Dashboard) -> None:
    """The monitor's events, which Flask-SocketIO sends to a room that nobody has joined, are on the page."""
    dashboard.shows("load-cpu", re.compile(r"^\d+\.\d %$"))
    dashboard.shows("load-memory", re.compile(r"^\d+\.\d %$"))
    dashboard.shows("load-gpu", "n/a")
