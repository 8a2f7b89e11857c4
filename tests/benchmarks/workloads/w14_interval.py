"""W14: what an interval between batches saves the host and a page: 200 events a second for 20 dashboards."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..load import Load
from ..peers import Peer
from ..server import Server
from ..system import LOAD_CPU, cpu_seconds, family, on_cpu
from . import Case, Metric, Scale, Values, Workload
from .audience import SIZE, add_group
from .lab import STREAM, lab, ours_only

RATE, DASHBOARDS = 200, 20
INTERVALS_MS = (0, 100, 250)
#: How long after the last event everything has come.
REST_S = 0.4

#: What a dashboard does: it shows each event in a table of the newest hundred, as a row.
DASHBOARD = """path => new Promise(opened => {
  const table = document.body.appendChild(document.createElement("table")), source = new EventSource(path);
  source.addEventListener("hybrid_open", opened);
  source.addEventListener("tick", ({ data }) => {
    const { n, t } = JSON.parse(data), row = table.insertRow(0);
    row.insertCell().textContent = n;
    row.insertCell().textContent = t;
    if (table.rows.length > 100) table.deleteRow(100);
  });
})"""


def measure(peer: Peer, scale: Scale, interval_ms: int, conflate: str) -> Values:
    seconds = 4 * scale.seconds
    path = f"{STREAM}?interval_ms={interval_ms}"
    peer = lab(path, HYBRID_CONFLATE=conflate)
    with peer.running() as server, Load(server.control) as load:
        add_group(load, "all", peer, server)
        load.connect("all", DASHBOARDS)
        host = published(server, seconds, lambda: cpu_seconds(server.pids))
        got = load.order("stats all")["events"] / DASHBOARDS
    page = None
    with peer.running() as server, page_of(server, path) as pids:
        if pids:
            page = published(server, seconds, lambda: cpu_seconds(pids))
    return {"interval_ms": interval_ms, "dashboards": DASHBOARDS, "host_cpu_percent": host, "page_cpu_percent": page,
            "events_per_s": got / seconds}


def published(server: Server, seconds: float, used: Callable[[], float]) -> float:
    """Publish for some seconds; return which share of a processor was used (%)."""
    before, began = used(), time.monotonic()
    server.order(f"rate {RATE} {int(RATE * seconds)} {SIZE}")
    time.sleep(REST_S)
    return (used() - before) / (time.monotonic() - began) * 100


@contextlib.contextmanager
def page_of(server: Server, path: str) -> Iterator[list[int]]:
    """Show the events in Chromium, where there is one; yield the process of the browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        yield []
        return
    with on_cpu(LOAD_CPU), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/health")
        page.evaluate(DASHBOARD, path)
        # The first of them: all others descend from it.
        yield [pid for pid in family([os.getpid()]) if "chrom" in Path(f"/proc/{pid}/comm").read_text()][:1]
        browser.close()


def cases(scale: Scale) -> list[Case]:
    return [Case(f"{words}, {interval_ms} ms", {"interval_ms": interval_ms, "conflate": conflate}, ours_only)
            for conflate, words in (("", "events"), ("tick", "states")) for interval_ms in INTERVALS_MS]


WORKLOAD = Workload(
    "W14", "An interval between batches", measure, cases,
    [Metric("host_cpu_percent", "CPU of the host", "%"), Metric("page_cpu_percent", "CPU of Chromium", "%"),
     Metric("events_per_s", "events/s a dashboard", digits=0, higher=None)],
    explanation=f"{RATE} events/s for {DASHBOARDS} streams with `interval_ms`; then the same with one page in "
                "Chromium, which makes a row of a table of each event. *States* are events of a conflated name.",
)
