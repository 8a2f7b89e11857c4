"""The examples with htmx, Turbo and Datastar in Chromium, with the files that their pages name: no row is ever lost."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import browsers
from support.hosts import free_port
from support.needs import missing
from support.npm import install, packaged
from support.servers import SOON, STREAM, TESTS, wait_until

browser = browsers.browser

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300),
              pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be asked to stop")]

EXAMPLES = TESTS.parent / "examples"
#: What npm has of Datastar is older than its events' present names. This package has the bundle of 1.0.1 in it (with
#: two changes of its own, which are not about streams).
DATASTAR_WHEEL, DATASTAR_FILE = "starhtml==0.7.0", "starhtml/static/js/datastar-core.js"
#: What Chromium and the libraries say of a server that is not there.
NETWORK = re.compile(r"Failed to load resource|net::ERR_|network error|Failed to fetch|htmx:sse:?[eE]rror|"
                     r"\[object Event\]|Datastar failed to reach")


class Library(NamedTuple):
    """One page of the examples.

    :ivar folder: the example. :ivar path: of the page. :ivar datastar: whether it is Datastar's.
    """

    folder: str
    path: str = "/"

    def __str__(self) -> str:
        return self.folder + self.path.rstrip("/")


LIBRARIES = [Library("htmx"), Library("htmx", "/htmx4"), Library("turbo"), Library("datastar")]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of npm."""
    return install(TESTS / "pages", tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def datastar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Datastar's bundle."""
    folder = tmp_path_factory.mktemp("datastar")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.13",
         "--disable-pip-version-check", "-d", str(folder), DATASTAR_WHEEL], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        missing(f"pip cannot get {DATASTAR_WHEEL}: {done.stdout[-1000:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.read(DATASTAR_FILE).decode()


def file_of(url: str, modules: Path, datastar: Callable[[], str]) -> str:
    """Return the file that a page loads: the package and version that its URL names."""
    text = packaged(url, modules)
    if text is None:
        version, = re.fullmatch(r"https://cdn\.jsdelivr\.net/gh/starfederation/datastar@v([^/]+)/bundles/datastar\.js",
                                url).groups()  # type: ignore[union-attr]
        text = datastar()
        assert text.startswith(f"// Datastar v{version} ")
    return text


class App:
    """An example, started as its users start it, again and again on one port."""

    def __init__(self, library: Library, folder: Path) -> None:
        self.library, self.port = library, free_port()
        self._journal = folder / "journal.sqlite3"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        ours = ("HYBRID_", "HAKGAL_", "ENABLE_", "APP_PROFILE")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environ.update(HAKGAL_PORT=str(self.port), HYBRID_JOURNAL=str(self._journal), HYBRID_RETRY_MS="200")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "app.py"], cwd=EXAMPLES / self.library.folder,
                                             env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, 30, "the example answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(20)
            self._process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.library.path}"

    def add(self, text: str) -> None:
        """Add a row as another visitor does."""
        body = urllib.parse.urlencode({"text": text}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/rows", body, timeout=SOON):
            pass


class Visit:
    """The page as its visitor sees it."""

    def __init__(self, page: Any, app: App, serve: Callable[[str], str]) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        page.route(re.compile("^https:"), lambda route: route.fulfill(body=serve(route.request.url),
                                                             content_type="text/javascript"))
        page.goto(app.url)
        page.evaluate("window.stayed = true")

    def _note(self, message: Any) -> None:
        if message.type == "error" and not NETWORK.search(message.text):
            self.complaints.append(message.text)

    @property
    def stayed(self) -> bool:
        """Whether the page was never loaded anew."""
        return bool(self.page.evaluate("window.stayed === true"))

    def rows(self) -> list[str]:
        return [str(text) for text in self.page.locator("#rows > li").all_inner_texts()]

    def shows(self, *rows: str) -> None:
        """Wait until the page shows these rows, and no other ones."""
        wait_until(lambda: self.rows()[-1:] == list(rows[-1:]), 30, f"{rows[-1]} is shown")
        assert self.rows() == list(rows)

    def add(self, text: str) -> None:
        """Add a row by the form."""
        self.page.get_by_label("Text").fill(text)
        self.page.get_by_role("button", name="Add").click()


@pytest.fixture(params=[one if one.path == "/" and one.folder == "htmx" else pytest.param(one, marks=pytest.mark.long)
                        for one in LIBRARIES], ids=str)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[App]:
    """A running example."""
    running = App(request.param, tmp_path)
    yield running
    running.stop()


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Any, example: App, modules: Path) -> Iterator[Visit]:
    """A page of it; when the test is over it may have nothing to complain about."""
    page = browser.new_page()
    opened = Visit(page, example, lambda url: file_of(url, modules, lambda: str(request.getfixturevalue("datastar"))))
    yield opened
    assert opened.complaints == []
    page.close()


def test_rows_appear(example: App, visit: Visit) -> None:
    """What anybody adds is on the page at once, and what was there before is too; nobody's text is markup."""
    visit.add("mine")
    visit.shows("mine")
    wait_until(lambda: visit.page.get_by_label("Text").input_value() == "", SOON, "the form is empty again")
    example.add("<b>not bold</b> & 'quoted'")
    example.add("last")
    visit.shows("mine", "<b>not bold</b> & 'quoted'", "last")
    assert visit.page.locator("#rows b").count() == 0
    assert visit.stayed
    visit.page.reload()
    example.add("later")
    visit.shows("mine", "<b>not bold</b> & 'quoted'", "last", "later")


def test_a_restart_loses_no_row(example: App, visit: Visit) -> None:
    """The page stays, comes back by itself, and has each row once and in order, also those that came without it."""
    numbers = [f"row {number}" for number in range(8)]
    example.add(numbers[0])
    visit.shows(numbers[0])
    visit.page.context.set_offline(True)  # a request that is open goes on, a new one fails
    example.add(numbers[1])
    example.stop()
    example.start()
    for number in numbers[2:5]:
        example.add(number)
    example.stop()
    example.start()
    visit.page.context.set_offline(False)
    for number in numbers[5:]:
        example.add(number)
    visit.shows(*numbers)
    assert visit.stayed


def test_an_error_page_loses_no_row(example: App, visit: Visit) -> None:
    """A proxy in front answers 502 while the server restarts: the page comes back after it all the same."""
    refused: list[str] = []

    def refuse(route: Any) -> None:
        refused.append(route.request.url)
        route.fulfill(status=502, body="Bad Gateway", content_type="text/html")

    example.add("first")
    visit.shows("first")
    visit.page.route(re.compile(STREAM), refuse)
    example.stop()
    example.start()
    example.add("second")
    wait_until(lambda: visit.rows() and len(refused) >= 2, 30, "the stream was refused twice")
    visit.page.unroute(re.compile(STREAM))
    example.add("third")
    visit.shows("first", "second", "third")
    assert visit.stayed


def test_a_page_that_has_missed_rows_begins_anew(example: App, visit: Visit) -> None:
    """After a kill, the gap is seen by the page, which loads itself again and goes on from there."""
    example.add("before")
    visit.shows("before")
    example.stop(kill=True)
    example.start()
    visit.page.wait_for_function("window.stayed !== true", timeout=30_000)  # it is loaded anew
    visit.page.wait_for_load_state()
    example.add("after")
    visit.shows("after")
