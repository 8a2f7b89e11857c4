"""What the README and the documentation show, taken anew of one real run: ``make figures``.

Measures the example backend as ``make demo`` does; writes the table between the marks in ``README.md``, and the plots
to ``docs/_static``; then lets dashboards watch the migrated backend for ``--minutes`` and photographs the dashboard.
Stops, and changes nothing, if a target that must be met is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
STATIC, README = ROOT / "docs" / "_static", ROOT / "README.md"
BACKEND = ROOT / "examples" / "legacy_backend" / "src_hexagonal"
MARKS = "<!-- figures of make figures -->\n", "<!-- end of the figures -->\n"
PLOTS = ("latency", "delivery", "cpu", "lag")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]

#: What the table shows, by the names of the figures in report.json.
ROWS = (("`/health`, p95", "p95"), ("`/health`, mean", "mean"),
        ("`/api/facts/count`, p95", "p95[GET /api/facts/count]"), ("`/api/search`, p95", "p95[POST /api/search]"),
        ("`POST /api/facts`, p95 (emits four events)", "p95[POST /api/facts]"),
        ("governor control over HTTP, p95", "control_p95"),
        ("CPU seconds of the host per 1000 requests", "cpu_requests"),
        ("CPU seconds of the host per 1000 events delivered", "cpu_events"),
        ("slowest delivery of an event to a live dashboard", "oldest_undelivered"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.5, help="how long dashboards watch before the photograph")
    parser.add_argument("--keep", action="store_true", help="take the report that is there instead of measuring")
    options = parser.parse_args()
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if not options.keep:
        demo = [sys.executable, ROOT / "examples" / "demo" / "demo.py", "--once"]
        status = subprocess.run(demo, check=False, cwd=ROOT).returncode
        if status:
            return status
        (ROOT / "report" / "load").write_text(json.dumps(busy))
    report = json.loads((ROOT / "report" / "report.json").read_text(encoding="utf-8"))
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise SystemExit(f"README.md has no lines {MARKS[0].strip()!r} and {MARKS[1].strip()!r}")
    for name in PLOTS:
        shutil.copy(ROOT / "report" / "plots" / f"{name}.svg", STATIC / f"report-{name}.svg")
    table = shown(report, json.loads((ROOT / "report" / "load").read_text()))
    README.write_text(f"{before}{MARKS[0]}{table}{MARKS[1]}{after}", encoding="utf-8", newline="\n")
    photograph(options.minutes * 60)
    return 0


# -- the table ---------------------------------------------------------------------------------------------------


def shown(report: dict[str, Any], busy: float | None) -> str:
    """Return the table, and under which conditions it came about."""
    figures, compared = report["figures"], report["figures"]["compared"]
    lines = ["", "| | before | after | |", "|---|---:|---:|---:|"]
    for text, name in ROWS:
        old, new = figures["before"][name], figures["after"][name]
        lines.append(f"| {text} | {value(old)} | {value(new)} | {improvement(old, new)} |")
    versus, reference = compared["cpu_events_vs_reference"], figures["reference"]["cpu_events"]
    environment, n = report["environment"], figures["after"]["p95"]["n"]
    load = "" if busy is None else f", with {busy:.1f} other processes running on average"
    lines += ["", f"One run of {report['generated_at'][:10]} on {environment['cpus']} cores, Python "
              f"{environment['python']}{load}: {n} requests of each endpoint,",
              "side by side, nearest-rank percentiles, loopback; CPU without the stalled dashboard, "
              f"{figures['after']['cpu_events']['n']:,} events delivered. With",
              f"Flask-SocketIO as its broadcaster the old backend needs {value(reference)} CPU seconds per 1000 events "
              f"delivered; the new one needs {-versus['value']:.0f} % less.", ""]
    return "\n".join(lines) + "\n"


def value(figure: dict[str, Any]) -> str:
    """Return a figure as the table has it."""
    amount, unit = figure["value"], figure["unit"]
    if amount is None:
        return "did not exist"
    return f"{amount:,.1f} ms" if unit == "ms" else f"{amount:.2f}" if unit == "s/1000" and amount > 1 else (
        f"{amount:.3f}" if unit == "s/1000" else f"{amount:.2f} {unit}")


def improvement(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return what became of a figure: times for milliseconds, per cent for the others."""
    if not old["value"] or not new["value"] or new["unit"] == "s":
        return ""
    if new["unit"] == "ms":
        return f"{old['value'] / new['value']:,.0f} × faster"
    return f"{(new['value'] / old['value'] - 1) * 100:+.0f} %".replace("-", "−")


# -- the photograph ----------------------------------------------------------------------------------------------


def photograph(seconds: float) -> None:
    """Watch the migrated backend for a time; then take its dashboard in light and dark."""
    with backend() as url, sync_playwright() as playwright:
        for number in range(18):
            events = ("*", "kb_*", "fact_added,kb_update")[number % 3]
            stream = f"{url}/api/events/stream?events={events}"
            threading.Thread(target=read, args=(stream,), daemon=True).start()
        post(f"{url}/api/governor/control", {"action": "start"})
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1240, "height": 900}, color_scheme="light", reduced_motion="reduce")
        page.goto(f"{url}/api/hybrid/")
        ended = threading.Event()
        working = threading.Thread(target=work, args=(url, ended), daemon=True)
        working.start()
        page.wait_for_timeout(seconds * 1000)
        page.click("#test-start")
        page.wait_for_selector("#test-chart svg")
        page.fill("#events-filter", "fact_*, kb_*")
        page.wait_for_selector("#events li:nth-child(12)")
        page.click("#events-pause")
        page.click("#events li:nth-child(5) summary")
        for name, scheme in (("dashboard", "light"), ("dashboard-dark", "dark")):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            take(page, STATIC / f"{name}.png")
        ended.set()
        working.join()
        browser.close()


def take(page: Page, path: Path) -> None:
    page.wait_for_timeout(200)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # a third of the size
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


@contextlib.contextmanager
def backend() -> Iterator[str]:
    """Serve the migrated backend."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "APP_PROFILE": "HYBRID", "HAKGAL_DB": str(Path(folder) / "facts.db")}
        command = [sys.executable, "-m", "hakgal_hybrid", "run", "hexagonal_api_enhanced_clean:HexagonalAPI",
                   "--app-dir", str(BACKEND), "--port", str(port)]
        with subprocess.Popen(command, env=environment) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                for _ in range(300):
                    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                        break
                    time.sleep(0.1)
                yield url
            finally:
                process.send_signal(signal.SIGTERM)


def read(url: str) -> None:
    """Be a dashboard."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url) as stream:
        for _ in stream:
            pass


def work(url: str, ended: threading.Event) -> None:
    """Store facts, some of them in a hurry."""
    chance = random.Random(5)
    for number in range(10**9):
        if ended.wait(0.01 if chance.random() < 0.3 else chance.uniform(0.1, 0.9)):
            return
        post(f"{url}/api/facts", {"statement": f"IsA(Entity{number}, Thing{number % 9})."})


def post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30):
        pass


if __name__ == "__main__":
    sys.exit(main())
