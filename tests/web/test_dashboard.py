"""The dashboard in Chromium: what it shows, what it takes to use it, and that nothing it shows can run."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import browsers
from support.dashboards import Page, accessible, opened
from support.hosts import free_port, running
from support.npm import install
from support.servers import TESTS, Server, wait_until

#: The first test with axe also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

browser = browsers.browser

STATIC = TESTS.parent / "hakgal_hybrid" / "web" / "static" / "dashboard"
KEY = "what-the-operator-has"
EVIL = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>"
#: Has the gate see a request from another machine, as through a proxy.
ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}
LEVELS = "document.querySelector('#health').dataset.level"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script that judges accessibility."""
    modules = install(TESTS / "dashboard", tmp_path_factory.mktemp("axe"))
    return (modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("ours") as server:
        yield server


@pytest.fixture
def locked() -> Iterator[Server]:
    """A server with a key."""
    with Server("ours", HAKGAL_API_KEY=KEY) as server:
        yield server


# -- what it shows -----------------------------------------------------------------------------------------------


def test_figures_and_health(browser, server) -> None:
    """Profile, health and the six figures are there at a glance, and follow what happens."""
    with opened(browser, server) as page:
        page.wait_connected()
        assert "Profile HYBRID" in page.text("#identity")
        titles = page.page.eval_on_selector_all(".tile h3", "items => items.map(item => item.textContent)")
        assert titles == ["Streams", "Events", "Deliveries", "Event-loop lag", "Oldest backlog", "Drops"]
        with server.opened():
            page.wait("document.querySelector('.tile .value span').textContent === '2'")
            server.emit("note", n=20)
            page.wait("+document.querySelectorAll('.tile .value span')[1].textContent > 0")
            page.wait("+document.querySelectorAll('.tile .value span')[2].textContent > 0")
        page.wait("document.querySelectorAll('#checks li').length >= 6")
        assert "The host answers" in page.text("#checks")


@pytest.mark.long
def test_what_was_before_the_page(browser, server) -> None:
    """Who looks late still sees what has led to it: the server remembers ten minutes, by its own clock."""
    server.emit("note", n=50)
    wait_until(lambda: len(json.loads(server.ask("GET", "/api/hybrid/history").body)["samples"]) >= 3, 30)
    with opened(browser, server, "const real = Date.now; Date.now = () => real() - 3_600_000") as page:
        page.wait("document.querySelectorAll('.tile .spark polyline').length >= 6")
        points = page.page.eval_on_selector(".tile .spark polyline", "line => line.getAttribute('points')")
        assert len(points.split()) >= 3


def test_a_stalled_client_is_seen(browser) -> None:
    """Who takes nothing stands first in the table, with how far it is behind; the health says so too."""
    with Server("ours", HYBRID_STALL_S=300) as server, server.opened("events=big", rcvbuf=4096):
        server.emit("big", n=100, size=100_000)
        with opened(browser, server) as page:
            page.wait("document.querySelector('#clients tr td:last-child')?.textContent === 'big'")
            behind = page.text("#clients tr:first-child td:nth-child(3)")
            assert int(behind.replace(",", "")) > 0
            page.wait(f"['warn', 'bad'].includes({LEVELS})")
            page.wait_for_text("#checks", "full socket")


def test_clients_of_socketio_are_seen(browser) -> None:
    """How many there are of each kind is a check of its own, once there was one; so is what was too large."""
    polling = "/socket.io/?EIO=4&transport=polling"
    with Server("ours", ENABLE_WS_SPECIAL="true") as server, opened(browser, server) as page:
        page.wait_connected()
        assert "SSE, HTTP and Socket.IO" in page.text("#identity")
        assert "polling" not in page.text("#checks")
        url = f"{polling}&sid={json.loads(server.ask('GET', polling).body[1:])['sid']}"
        assert server.ask("POST", url, b"40").status == 200
        page.wait_for_text("#checks", "0 on a WebSocket, 1 polling")
        page.wait_for_text("#clients", "socketio-polling")
        assert server.ask("POST", url, b"4" * 1_000_001).status == 413
        page.wait_for_text("#checks", "0 polling, 1 message too large")


def test_live_events(browser, server) -> None:
    """Events come newest first; they can be filtered, held, opened and cleared, and never pile up."""
    with opened(browser, server) as page:
        page.wait_connected()
        server.emit("first", data={"a": {"b": [1, 2]}})
        server.emit("second", n=3)
        page.wait("document.querySelectorAll('#events li').length === 4")
        assert page.names() == ["second", "second", "second", "first"]
        page.page.fill("#events-filter", "FIR*, none")
        page.wait("document.querySelectorAll('#events li').length === 1")
        page.page.click("#events summary")
        page.wait("document.querySelector('#events pre')")
        assert json.loads(page.text("#events pre")) == {"a": {"b": [1, 2]}}
        assert page.text("#events pre").count("\n") > 3
        page.page.fill("#events-filter", "")
        page.page.click("#events-pause")
        server.emit("while paused", n=5)
        page.wait_for_text("#events-count", "paused, 5 since then")
        page.page.click("#events-pause")
        server.emit("many", n=700)
        page.wait_for_text("#events-count", "709 received")
        page.wait("document.querySelectorAll('#events li').length === 100")
        assert "while paused" not in page.names()
        page.page.click("#events-clear")
        assert page.names() == []


def test_the_server_goes_and_comes_back(browser) -> None:
    """A server that is gone is said to be gone; when another one answers there, the page goes on by itself."""
    with Server("ours") as server:
        port = server.port
        page = opened(browser, server)
        page.wait_connected()
    page.wait_for_text("#notice", "does not answer")
    assert page.page.evaluate(LEVELS) == "bad"
    with Server("ours", "--port", str(port)):
        page.wait("document.querySelector('#notice').hidden")
        page.wait_connected()
        page.__exit__()


def test_under_another_server(browser) -> None:
    """Under Werkzeug there is no loop to measure, and the rest is there."""
    with Server("werkzeug") as server, opened(browser, server) as page:
        page.wait_connected()
        page.wait_for_text("#tiles", "not measured under this server")
        server.emit("note")
        page.wait("document.querySelector('#events li')")


PLAIN = """
from flask import Flask
from hakgal_hybrid import HybridTransport
app = Flask("plain")
transport = HybridTransport(app)
app.add_url_rule("/emit", "emit", lambda: transport.emit("order_added", {"id": 7}) or "")
transport.run()
"""


@pytest.mark.long
def test_an_app_without_governor_and_health(browser, tmp_path: Path) -> None:
    """There is no card of a governor, and no request that fails; the self-test takes the status."""
    port, failed = free_port(), []
    with running(tmp_path, [sys.executable, "-c", PLAIN], port, HAKGAL_PORT=str(port)) as host:
        with opened(browser, host) as page:
            page.page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
            page.page.reload()
            page.wait_connected()
            host.get("/emit")
            page.wait("document.querySelector('#events li')")
            assert not page.page.is_visible("#governor")
            assert page.text("#test-url") == "/api/hybrid/status"
            page.page.click("#test-start")
            page.wait_for_text("#test-facts", "p95")
            page.wait("document.querySelectorAll('.tile .spark polyline').length >= 6")
            assert page.text("#test-start") == "Run again"
    assert failed == []
    assert not any("/governor/" in url for url in page.requests)


@pytest.mark.long
def test_sparklines_begin_where_data_begins(browser, server) -> None:
    """A server that is young has lines from edge to edge, and the heading says of what time."""
    with opened(browser, server) as page:
        page.wait("document.querySelectorAll('.tile .spark polyline').length >= 6")
        lines = page.page.eval_on_selector_all(
            ".tile .spark", "all => all.map(one => one.querySelector('polyline').getAttribute('points').split(' '))")
        for points in lines:
            assert (float(points[0].split(",")[0]), float(points[-1].split(",")[0])) == (0, 300), points
        assert re.fullmatch(r"Now, and the last \d+ (s|min)", page.text("#figures-title"))


def test_clients_that_are_away_come_last(browser) -> None:
    """Behind those whose stream is open, however long it is since they went."""
    with Server("ours", HYBRID_RESUME_S=60) as server:
        for _ in range(3):
            with server.opened("events=gone"):
                pass
        with server.opened("events=here"), opened(browser, server) as page:
            page.wait("document.querySelectorAll('#clients tr').length === 5 "
                      "&& document.querySelectorAll('#clients [data-level=good]').length === 2")
            states = page.page.eval_on_selector_all("#clients .pill", "all => all.map(one => one.textContent)")
            assert states == ["open", "open", "away", "away", "away"]


@pytest.mark.parametrize(("width", "hinted"), [(1280, False), (390, True)])
def test_a_table_that_goes_on_to_the_right_says_so(browser, server, width: int, hinted: bool) -> None:
    """Where a finger shows no scroll bar; the hint follows the width of the window."""
    with opened(browser, server, viewport={"width": width, "height": 800}) as page:
        page.wait_connected()
        page.wait("document.querySelector('#clients td')")
        assert page.page.is_visible("#clients-hint") is hinted
        page.page.set_viewport_size({"width": 390 if width == 1280 else 1280, "height": 800})
        page.wait("hidden => document.querySelector('#clients-hint').hidden === hidden", hinted)


# -- what can be done with it ------------------------------------------------------------------------------------


def buttons(page: Page) -> dict[str, tuple[bool, bool]]:
    """Of each button of the governor, whether it can be used, and whether it is the one to use."""
    found = page.page.eval_on_selector_all("#governor-buttons button", "all => all.map(one => "
                                           "[one.value, !one.disabled, one.classList.contains('primary')])")
    return {name: (usable, first) for name, usable, first in found}


def test_governor(browser, server) -> None:
    """It is started, given a mode and stopped, and what it says about itself is shown."""
    with opened(browser, server) as page:
        page.wait_for_text("#governor-facts", "fast")
        assert buttons(page) == {"start": (True, True), "stop": (False, False), "status": (True, False)}
        page.page.focus("#governor-buttons [value=start]")
        page.page.keyboard.press("Enter")
        page.wait_for_text("#governor-result", "Started")
        assert buttons(page) == {"start": (False, False), "stop": (True, True), "status": (True, False)}
        assert page.page.evaluate("document.activeElement.value") == "stop", "the focus does not get lost"
        page.wait_for_text("#governor-facts", "Popen")  # what JSON cannot hold comes as its repr
        page.page.fill("#mode", "thorough")
        page.page.press("#mode", "Enter")
        page.wait_for_text("#governor-facts", "thorough")
        page.page.click("#governor-buttons [value=stop]")
        page.wait_for_text("#governor-result", "Stopped")
        page.page.fill("#mode", "explosive")
        page.page.click("#mode-form button")
        page.wait_for_text("#governor-result", "no such mode")
        told = server.ask("POST", "/api/governor/control", {"action": "status"}).json()["result"]
        assert told["calls"][:3] == ["start", "set_mode thorough", "stop"]


def test_self_test(browser, server) -> None:
    """Fifty requests of ``/health``, with the figures of the measurement protocol and a histogram."""
    with opened(browser, server) as page:
        page.wait_connected()
        before = sum(url.endswith("/health") for url in page.requests)
        page.page.click("#test-start")
        page.wait_for_text("#test-facts", "p95")
        assert sum(url.endswith("/health") for url in page.requests) - before >= 50
        facts = page.page.eval_on_selector_all("#test-facts div", "items => items.map(item => item.innerText)")
        assert [fact.split()[0] for fact in facts] == ["p50", "p95", "mean", "min", "max", "n"]
        assert facts[-1].split()[1] == "50"
        assert page.page.get_attribute("#test-chart svg", "aria-label").startswith("Histogram of 50 times")
        assert "target" in page.text("#test-verdict")


def test_percentiles_are_of_the_nearest_rank(browser, server) -> None:
    """The page counts as the protocol does."""
    with opened(browser, server) as page:
        script = """async () => (await import('/api/hybrid/dashboard/selftest.js')).percentile(
            Array.from({length: 50}, (_, index) => 50 - index), 0.95)"""
        assert page.page.evaluate(script) == 48


# -- keys --------------------------------------------------------------------------------------------------------


def give_key(page: Page, key: str) -> None:
    page.page.wait_for_selector("#key-dialog[open]")
    assert page.active() == "key"
    page.page.fill("#key", key)
    page.page.press("#key", "Enter")


def test_commands_ask_for_the_key(browser, locked) -> None:
    """From this machine one may look without the key; a command asks for it, again if it was wrong."""
    with opened(browser, locked) as page:
        page.wait_connected()
        page.wait_for_text("#governor-state", "need the key")
        page.page.click("#governor-buttons [value=start]")
        give_key(page, "wrong")
        page.wait_for_text("#key-reason", "wrong")
        give_key(page, KEY)
        page.wait_for_text("#governor-result", "Started")
        page.wait_for_text("#governor-facts", "fast")
        assert page.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert KEY not in page.page.content()
        page.page.click("#key-button")
        page.wait_for_text("#governor-state", "need the key")
        locked.ask("POST", "/governor/reset")


def test_a_command_without_the_key_is_given_up(browser, locked) -> None:
    """Who has no key says so, is told why nothing happened, and is not asked again and again."""
    with opened(browser, locked) as page:
        page.wait_connected()
        page.page.click("#governor-buttons [value=start]")
        page.page.wait_for_selector("#key-dialog[open]")
        page.page.keyboard.press("Escape")
        page.wait_for_text("#governor-result", "X-API-Key")
        assert page.page.query_selector("#key-dialog[open]") is None


def test_from_elsewhere_everything_needs_the_key(browser, locked) -> None:
    """The page comes, asks for the key, and has everything with it, the stream too; no URL holds the key."""
    with opened(browser, locked, extra_http_headers=ELSEWHERE) as page:
        give_key(page, KEY)
        page.wait_connected()
        locked.ask("POST", "/emit", {"event": "private"}, {"X-API-Key": KEY})
        page.wait("document.querySelector('#events li')")
        assert not [url for url in page.requests if "key" in url.split("?")[-1].lower() and "?" in url]


def test_from_elsewhere_without_any_key(browser, server) -> None:
    """A server without a key speaks to this machine only, and the page says so instead of asking."""
    with opened(browser, server, extra_http_headers=ELSEWHERE) as page:
        page.wait_for_text("#notice", "only requests from this machine")
        assert page.page.query_selector("#key-dialog[open]") is None


# -- what must not happen ----------------------------------------------------------------------------------------


def test_nothing_that_is_shown_can_run(browser, server) -> None:
    """Names and data of events, filters of clients, modes of the governor: all of it is text."""
    with server.opened(f"events={urllib.request.quote(EVIL)}"), opened(browser, server) as page:
        page.wait_connected()
        server.emit(EVIL, data={EVIL: [EVIL], "__proto__": EVIL})
        page.wait("document.querySelectorAll('#events li').length === 1")
        assert page.names() == [EVIL]
        page.page.click("#events summary")
        page.wait("document.querySelector('#events pre')")
        page.page.fill("#mode", EVIL)
        page.page.click("#mode-form button")
        page.wait_for_text("#governor-facts", EVIL)
        page.wait_for_text("#clients", EVIL)
        page.page.fill("#events-filter", "((((*+?[")
        assert page.page.evaluate("window.pwned") is None
        assert page.page.query_selector("main img, main script") is None


def test_what_the_page_may_do(browser, server) -> None:
    """The policy forbids what is not its own, the page keeps to it, and the source holds no way round."""
    answer = server.ask("GET", "/api/hybrid/")
    policy = answer.headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
                 "img-src 'self' data:", "base-uri 'none'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    with opened(browser, server) as page:
        page.wait_connected()
        assert {url.split("/api/")[0].removesuffix("/health") for url in page.requests
                if not url.startswith("data:")} == {f"http://127.0.0.1:{server.port}"}
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        for wrong in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function", "style=",
                      "onclick=", "localStorage", "sessionStorage", "https://"):
            assert wrong not in text, (path.name, wrong)


def test_its_files_are_those_of_the_folder(server) -> None:
    """Every file is served with its type, and nothing else is."""
    for path in STATIC.iterdir():
        answer = server.ask("GET", "/api/hybrid/" if path.suffix == ".html" else f"/api/hybrid/dashboard/{path.name}")
        assert answer.status == 200
        assert answer.body == path.read_bytes()
        assert answer.headers["content-type"].split(";")[0] == {
            ".html": "text/html", ".js": "text/javascript", ".css": "text/css"}[path.suffix]
    for name in ("index.html", "nothing.js", "..%2fclient%2fclient.js", "%2e%2e/client/client.js"):
        assert server.ask("GET", f"/api/hybrid/dashboard/{name}").status in (404, 405)


# -- for everybody -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_accessibility(browser, server, axe, look: str, width: int) -> None:
    """Axe finds nothing in light or dark, wide or narrow: contrast, names, roles, order of headings."""
    with opened(browser, server, color_scheme=look, viewport={"width": width, "height": 800}) as page:
        page.wait_connected()
        server.emit("note", data={"a": 1})
        page.page.click("#test-start")
        page.wait_for_text("#test-facts", "p95")
        page.page.click("#events summary")
        page.wait("document.querySelector('#clients tr') && document.querySelector('#events pre')")
        accessible(page, axe)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"


def test_accessibility_of_what_is_wrong(browser, locked, axe) -> None:
    """The same for the dialog and the notice."""
    with opened(browser, locked, extra_http_headers=ELSEWHERE) as page:
        page.page.wait_for_selector("#key-dialog[open]")
        accessible(page, axe)
        page.page.keyboard.press("Escape")
        page.page.wait_for_selector("#notice:not([hidden])")
        accessible(page, axe)


def test_dark_is_dark(browser, server) -> None:
    """The page follows the system's preference."""
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    shown = {}
    for look in ("light", "dark"):
        with opened(browser, server, color_scheme=look) as page:
            shown[look] = sum(page.page.evaluate(brightness))
    assert shown["dark"] < 100
    assert shown["light"] > 600


def test_by_keyboard(browser, server) -> None:
    """Everything is reached with Tab, in the order in which it stands there, is seen to have the focus, and works."""
    with opened(browser, server) as page:
        page.wait_connected()
        page.wait_for_text("#governor-facts", "fast")
        server.emit("note")
        page.wait("document.querySelector('#events li')")
        page.page.evaluate("document.body.focus()")
        reached = []
        for _ in range(30):
            page.page.keyboard.press("Tab")
            if page.active() == "BODY":
                break
            reached.append(page.active())
            outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{reached[-1]} does not show that it has the focus"
        wanted = ["A skip", "mode", "test-start", "clients-limit", "DIV scroll", "events-filter", "events-pause",
                  "events-clear", "SUMMARY"]
        assert [item for item in reached if item in wanted] == wanted
        page.page.focus("#events summary")
        page.page.keyboard.press("Enter")
        page.wait("document.querySelector('#events details').open")
        page.page.focus("#events-pause")
        page.page.keyboard.press("Space")
        assert page.text("#events-pause") == "Resume"
        assert page.text("#announcer") == "Events are paused"
        page.page.focus(".skip")
        page.page.keyboard.press("Enter")
        assert page.active() == "main"


def test_less_motion(browser, server) -> None:
    """Who wants no motion gets none."""
    with opened(browser, server, reduced_motion="reduce") as page:
        moving = """[...document.querySelectorAll("*")].filter(item => parseFloat(getComputedStyle(item)
            .transitionDuration) > 0 || getComputedStyle(item).animationName !== "none").length"""
        assert page.page.evaluate(moving) == 0


def test_the_picture_in_the_documentation() -> None:
    """It is there in light and dark, and not heavy."""
    for name in ("dashboard.png", "dashboard-dark.png"):
        picture = Path(TESTS.parent / "docs" / "_static" / name)
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 200_000
