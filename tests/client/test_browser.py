"""A real browser: what its EventSource makes of our streams, and what its pages may not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import browsers
from support.servers import Server

browser = browsers.browser

pytestmark = pytest.mark.once

LISTEN = """url => { window.seen = []; const source = window.source = new EventSource(url);
  for (const name of ["hybrid_open", "hybrid_gap", "hybrid_bye", "note"])
    source.addEventListener(name, event => seen.push([name, JSON.parse(event.data), event.lastEventId]));
  source.onerror = () => seen.push(["error", source.readyState, ""]); }"""


@pytest.fixture
def page(browser) -> Iterator[Any]:
    page = browser.new_page()
    page.set_default_timeout(30_000)
    yield page
    page.close()


def seen(page: Any, name: str) -> list[list[Any]]:
    return [item for item in page.evaluate("seen") if item[0] == name]


def wait_for(page: Any, name: str, number: int = 1) -> None:
    page.wait_for_function("([name, number]) => seen.filter(item => item[0] == name).length >= number",
                           arg=[name, number])


def test_event_source_gets_events_with_their_ids(page):
    """Named events arrive with the payload that was emitted and the id a reconnect would send."""
    with Server("ours") as server:
        page.goto(f"http://127.0.0.1:{server.port}/health")
        page.evaluate(LISTEN, "/api/events/stream")
        wait_for(page, "hybrid_open")
        server.emit("note", 2)
        wait_for(page, "note", 2)
        ids = [item[2] for item in seen(page, "note")]
        assert [int(item.rpartition("-")[2]) for item in ids] == sorted(int(item.rpartition("-")[2]) for item in ids)
        assert seen(page, "error") == []


def test_event_source_comes_back_after_a_restart_and_is_told(page):
    """The farewell's retry time is obeyed, the reconnect sends the last id, and the new life answers with a gap."""
    with Server("ours", HYBRID_RETRY_MS=50) as first:
        port = first.port
        page.goto(f"http://127.0.0.1:{port}/health")
        page.evaluate(LISTEN, "/api/events/stream")
        wait_for(page, "hybrid_open")
    wait_for(page, "hybrid_bye")
    with Server("ours", "--port", str(port), HYBRID_RETRY_MS=50) as second:
        wait_for(page, "hybrid_gap")
        assert seen(page, "hybrid_gap")[0][1]["reason"] == "restarted"
        second.emit("note")
        wait_for(page, "note")


def test_a_page_reads_when_to_come_back_before_its_connection_is_cut(page):
    """Chromium drops what its page has not read when the cut comes, so that does not come at once."""
    listen = """async tries => { let seen = 0; for (let i = 0; i < tries; i++) await new Promise(next => {
      const source = new EventSource("/api/events/stream");
      source.addEventListener("hybrid_busy", () => { seen += 1; });
      source.onerror = () => { source.close(); next(); }; }); return seen; }"""
    with Server("ours", HYBRID_MAX_STREAMS=1) as server, server.opened():
        page.goto(f"http://127.0.0.1:{server.port}/health")
        assert page.evaluate(listen, 20) == 20


def test_a_page_of_another_loopback_origin_may_read(page):
    """A development server on another port of this machine is allowed, resuming included."""
    with Server("ours") as server, Server("ours") as other:
        page.goto(f"http://127.0.0.1:{other.port}/health")
        page.evaluate(LISTEN, f"http://127.0.0.1:{server.port}/api/events/stream")
        wait_for(page, "hybrid_open")
        server.emit("note")
        wait_for(page, "note")


def test_a_page_of_a_foreign_origin_may_neither_read_nor_command(page):
    """Its EventSource is closed for good, and its fetch fails, whatever CORS the host opens."""
    with Server("ours") as server:
        base = f"http://127.0.0.1:{server.port}"
        page.goto(f"http://evil.test:{server.port}/health")
        page.evaluate(LISTEN, f"{base}/api/events/stream")
        wait_for(page, "error")
        assert seen(page, "error")[0][1] == 2  # CLOSED
        command = """url => fetch(url, {method: "POST", headers: {"Content-Type": "application/json"},
          body: '{"action": "status"}'}).then(answer => answer.status, () => "failed")"""
        assert page.evaluate(command, f"{base}/api/governor/control") == "failed"


def test_a_page_that_rebinds_its_name_to_this_machine_may_not_read(page):
    """A foreign name that resolves to loopback is same-origin to the browser, and refused by its Host."""
    with Server("ours") as server:
        page.goto(f"http://evil.test:{server.port}/health")
        answer = page.evaluate("fetch('/api/hybrid/status').then(async answer => [answer.status, await answer.json()])")
        assert answer[0] == 403
        assert answer[1]["code"] == "foreign_host"
