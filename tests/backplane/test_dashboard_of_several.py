"""The dashboard's section about the backplane, in Chromium: of two processes, and of a Redis that goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import browsers
from support.dashboards import Page, opened
from support.redis_server import RedisServer
from support.servers import Server, wait_until

pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

browser = browsers.browser

#: How wide the pages are that people look at: a desk, and a telephone.
WIDTHS = [1280, 390]


def serving(redis: RedisServer) -> Server:
    return Server("ours", HYBRID_BACKPLANE=redis.url, HYBRID_BACKPLANE_NAME="dashboard")


@pytest.fixture
def pair(redis_server: RedisServer) -> Iterator[tuple[Server, Server]]:
    with serving(redis_server) as one, serving(redis_server) as other:
        for server in (one, other):
            with server.opened():
                wait_until(lambda: server.status()["backplane"]["state"] == "live", 30)  # noqa: B023 (called at once)
        yield one, other


def facts(page: Page) -> dict[str, str]:
    found = page.page.eval_on_selector_all(
        "#backplane-facts > div", "items => items.map(item => [...item.children].map(child => child.textContent))")
    return dict(found)


def fits(page: Page, width: int) -> bool:
    """Whether nothing sticks out of the page."""
    return bool(page.page.evaluate("document.documentElement.scrollWidth") <= width)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_it_shows_of_two_processes(browser: Any, pair: tuple[Server, Server], width: int) -> None:
    """Address, name, state, position, lag, outbox; and each process with its clients, this one marked."""
    one, other = pair
    with one.opened(), other.opened(), opened(browser, one, viewport={"width": width, "height": 900}) as page:
        page.wait_connected()
        other.emit("note", n=3)
        page.wait("document.querySelectorAll('#events li').length === 3")
        newest = one.status()["backplane"]["tail"]["position"]
        page.wait("position => document.querySelector('#backplane-facts dd').textContent === position", newest)
        assert page.text("#backplane-state").startswith("Live: ")
        assert "name dashboard" in page.text("#backplane-where")
        assert facts(page).keys() == {"Position", "Lag", "Outbox", "Last call", "Dropped here", "Missing",
                                     "All processes"}
        assert (facts(page)["Outbox"], facts(page)["Missing"]) == ("empty", "none")
        assert "Backplane" in page.text("#checks")
        page.wait("document.querySelectorAll('#clients tr').length >= 2")
        assert page.text("#clients").count("(this page)") == 1
        page.wait("document.querySelectorAll('#peers tr').length === 2")
        assert page.text("#peers").count("(this one)") == 1
        page.wait("hidden => document.querySelector('#peers-hint').hidden === hidden", width == WIDTHS[0])
        pids = page.page.eval_on_selector_all("#peers tr", "rows => rows.map(row => row.children[2].textContent)")
        assert {int(pid) for pid in pids} == {peer["pid"] for peer in one.status()["backplane"]["peers"]}
        assert fits(page, width)


@pytest.mark.long
@pytest.mark.parametrize("width", WIDTHS)
def test_a_redis_that_goes_and_comes_back(browser: Any, redis_server: RedisServer, pair: tuple[Server, Server],
                                          width: int) -> None:
    """The section and the health say so, what is emitted is seen to wait, and the live events say what is missing."""
    one, _ = pair
    with opened(browser, one, viewport={"width": width, "height": 900}) as page:
        page.wait_connected()
        page.wait_for_text("#backplane-state", "Live: ")
        wait_until(lambda: one.status()["backplane"]["sender"]["sent"], 30)  # that it is there
        redis_server.kill()
        page.wait_for_text("#backplane-state", "Away: ")
        page.wait_for_text("#events-state", "backplane is away")
        one.emit("note", n=2)
        wait_until(lambda: facts(page)["Outbox"].startswith("2 events"), 30)
        page.wait("document.querySelector('#health').dataset.level === 'bad'")
        assert fits(page, width)
        redis_server.start()
        page.wait_for_text("#backplane-state", "Live: ")
        page.wait("document.querySelector('#events-state').textContent === ''")
        page.wait("document.querySelectorAll('#events .name').length >= 2")


def test_without_a_backplane_it_is_not_there(browser: Any) -> None:
    """Neither the section nor a line of the health."""
    with Server("ours") as server, opened(browser, server) as page:
        page.wait_connected()
        assert page.page.is_hidden("#backplane")
        assert "Backplane" not in page.text("#checks")
