"""The main job, live: an unmodified backend before and after the migration, measured, then served.

``python demo.py [--once]``. Before: the example backend as it is, whose broadcaster writes to its WebSockets inside
every request; twenty live dashboards and one that stopped reading. After: the same files started with
``enable_websocket=False`` under ``hakgal-hybrid exec``, with the same dashboards over Server-Sent Events.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from figures import Times, call, percentile, time_requests

HERE = Path(__file__).resolve().parent
BACKEND = HERE.parent / "legacy_backend" / "src_hexagonal"

#: The start command of the migration, with nothing but the port and the flag left open.
START = """import sys; sys.path.insert(0, {path!r});
from hexagonal_api_enhanced_clean import HexagonalAPI;
api = HexagonalAPI(use_legacy=False, enable_websocket={websocket}, enable_governor=True, enable_sentry=False);
api.run(host='127.0.0.1', port={port}, debug=False)"""

ENDPOINTS = {
    "/health": lambda tag, number: ("GET", "/health", None),
    "/api/facts/count": lambda tag, number: ("GET", "/api/facts/count", None),
    "/api/search": lambda tag, number: ("POST", "/api/search", {"query": f"Energy{number % 10}"}),
    "POST /api/facts": lambda tag, number: ("POST", "/api/facts", {"statement": f"DemoFact({tag}, Number{number})."}),
}


@dataclass
class Run:
    """What one measurement found."""

    times: dict[str, Times]
    cpu_s: float
    requests: int
    events: int
    facts_seen: list[int]
    delays: list[float]
    control: Times | None = None

    @property
    def cpu_per_1000_requests(self) -> float:
        return self.cpu_s / self.requests * 1000

    @property
    def cpu_per_1000_events(self) -> float:
        return self.cpu_s / self.events * 1000 if self.events else float("nan")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def host(websocket: bool, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the backend, wait until it answers, end it. Its output goes to a file in ``folder``."""
    code = START.format(path=str(BACKEND), websocket=websocket, port=port)
    command = [sys.executable, "-c", code]
    if not websocket:
        command = [sys.executable, "-m", "hakgal_hybrid", "exec", "--", "python", *command[1:]]
    environment = {**os.environ, "LEGACY_BROADCASTER": "blocking", "HAKGAL_DB": str(folder / "facts.db"),
                   "APP_PROFILE": "WEBSOCKET" if websocket else "HYBRID", "ENABLE_SSE": "true",
                   "ENABLE_CONTROL_HTTP": "true", "ENABLE_WS_SPECIAL": "false"}
    log = folder / ("before.log" if websocket else "after.log")
    options: dict[str, Any] = {}
    if os.name == "nt":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP  # so that CTRL_BREAK reaches it alone
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, **options)
        try:
            wait_until_up(process, port, log)
            yield process
        finally:
            process.send_signal(signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            call(port, "GET", "/health")
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"the backend did not start:\n{log.read_text(errors='replace')}")


class Dashboards:
    """The clients' process."""

    def __init__(self, kind: str, port: int, live: int, stalled: int) -> None:
        command = [sys.executable, str(HERE / "clients.py"), kind, str(port), str(live), str(stalled)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit("the dashboards could not connect")

    def report(self) -> dict[str, Any]:
        """Return what the live dashboards have received since the last report."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def stall(port: int) -> int:
    """Make requests until the dashboard that does not read is felt: its buffers must fill first."""
    for count in range(1, 400):
        if call(port, "GET", "/health")[2] > 1000:
            return count
    raise SystemExit("the stalled dashboard was never felt, although 400 requests were made")


def measure(process: subprocess.Popen[bytes], port: int, dashboards: Dashboards, count: int, tag: str) -> Run:
    """Time ``/health`` by itself, as the protocol has it; then the others side by side, each one after the other."""
    watched = psutil.Process(process.pid)
    dashboards.report()
    used = sum(watched.cpu_times()[:2])
    times: dict[str, Times] = {}
    done = [0]

    total = count * len(ENDPOINTS)

    def one_more() -> None:
        done[0] += 1
        if sys.stdout.isatty():
            print(f"\r  {tag}: {done[0]} of {total} requests", end="" if done[0] < total else "\n", flush=True)

    def work(name: str) -> None:
        times[name] = time_requests(port, count, lambda number: ENDPOINTS[name](tag, number), one_more)

    first, *others = ENDPOINTS
    work(first)
    threads = [threading.Thread(target=work, args=(name,)) for name in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = sum(watched.cpu_times()[:2]) - used
    seen = settled_report(dashboards, count)
    return Run({name: times[name] for name in ENDPOINTS}, used, count * len(ENDPOINTS), seen["events"], seen["facts"],
               seen["delays"])


def settled_report(dashboards: Dashboards, facts: int) -> dict[str, Any]:
    """Collect reports until every live dashboard has all facts, or 5 s have passed."""
    total = dashboards.report()
    deadline = time.monotonic() + 5
    while min(total["facts"]) < facts and time.monotonic() < deadline:
        time.sleep(0.02)
        more = dashboards.report()
        total["events"] += more["events"]
        total["delays"] += more["delays"]
        total["facts"] = [a + b for a, b in zip(total["facts"], more["facts"], strict=True)]
    return total


def measure_control(port: int, process: subprocess.Popen[bytes]) -> tuple[Times, bool]:
    """Start and stop the governor over HTTP ten times; say whether a child process really ran."""
    times: list[float] = []
    errors, ran = 0, False
    for _ in range(10):
        for action in ("start", "status", "stop"):
            status, _, took = call(port, "POST", "/api/governor/control", {"action": action})
            times.append(took)
            errors += status not in (200, 202)
            ran = ran or bool(psutil.Process(process.pid).children())
    return Times(times, errors), ran


def table(before: Run, after: Run, started: bool, live: int, facts: int) -> bool:
    """Print the comparison and the targets; true if every target that must be met is met."""
    assert after.control is not None
    print(f"\n{'':30}{'before':>12}{'after':>12}{'faster':>10}")
    for name in ENDPOINTS:
        for figure in ("p95", "mean"):
            old, new = getattr(before.times[name], figure), getattr(after.times[name], figure)
            print(f"{f'{name} {figure}, ms':30}{old:12.1f}{new:12.1f}{old / new:9.0f}x")
    print(f"{'control over HTTP p95, ms':30}{'none':>12}{after.control.p95:12.1f}")
    for label, figure in (("CPU s per 1000 requests", "cpu_per_1000_requests"),
                          ("CPU s per 1000 events delivered", "cpu_per_1000_events")):
        old, new = getattr(before, figure), getattr(after, figure)
        print(f"{label:32}{old:10.2f}{new:12.2f}{(new / old - 1) * 100:+9.0f}%")
    print(f"{'slowest event delivery, s':30}{max(before.delays):12.2f}{max(after.delays):12.2f}")
    health, old_health = after.times["/health"], before.times["/health"]
    everything = percentile([ms for times in after.times.values() for ms in times.ms], 0.95)
    cpu = after.cpu_per_1000_events / before.cpu_per_1000_events - 1
    streamed = after.facts_seen == [facts] * live
    errors = sum(times.errors for times in after.times.values()) + after.control.errors
    must = [
        ("p95 of /health < 150 ms", health.p95 < 150, f"{health.p95:.1f} ms"),
        ("p95 of all requests < 150 ms", everything < 150, f"{everything:.1f} ms"),
        ("mean of /health < 100 ms", health.mean < 100, f"{health.mean:.1f} ms"),
        ("control p95 < 50 ms", after.control.p95 < 50, f"{after.control.p95:.1f} ms"),
        ("CPU per delivered event −30 % or better", cpu <= -0.3, f"{cpu:+.0%}"),
        ("no delivery later than 60 s", max(after.delays) < 60, f"{max(after.delays):.2f} s"),
        ("every live dashboard got every fact by SSE", streamed, f"{live} x {min(after.facts_seen)}"),
        ("governor control starts a real process", started, "yes" if started else "no"),
        ("no request failed", errors == 0, f"{errors} errors"),
        ("more than 10 times faster", old_health.p95 / health.p95 > 10, f"{old_health.p95 / health.p95:.0f}x"),
    ]
    nice = [("mean of /health < 50 ms", health.mean < 50, f"{health.mean:.1f} ms"),
            ("p95 of /health < 10 ms", health.p95 < 10, f"{health.p95:.1f} ms")]
    for title, rows in (("must be met", must), ("nice to have", nice)):
        print(f"\n{title}:")
        for text, met, value in rows:
            print(f"  {'pass' if met else 'FAIL'}  {text:48} {value}")
    print(f"""
n = {len(health.ms)} requests an endpoint: /health by itself, then the others side by side; {live} live dashboards and
one stalled in both runs. CPU is the host process alone. Event-loop lag is not measured here.""")
    return all(met for _, met, _ in must)


def stay(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    stream, control = f"{url}/api/events/stream", f"{url}/api/governor/control"
    print(f"""
The migrated backend is up: {url}   (Ctrl-C ends it)

  curl -N {stream}
  curl -X POST {url}/api/facts -H "Content-Type: application/json" -d '{{"statement": "Likes(You, Tea)."}}'
  curl -X POST {control} -H "Content-Type: application/json" -d '{{"action": "start"}}'
  curl {url}/api/hybrid/status

PowerShell:
  curl.exe -N {stream}
  Invoke-RestMethod {url}/api/facts -Method Post -ContentType application/json -Body '{{"statement": "Likes(I, Tea)."}}'
  Invoke-RestMethod {control} -Method Post -ContentType application/json -Body '{{"action": "start"}}'
  Invoke-RestMethod {url}/api/hybrid/status
""", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopping")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the table; exit 1 if a target is missed")
    parser.add_argument("--requests", type=int, default=50, help="requests an endpoint (default 50)")
    parser.add_argument("--clients", type=int, default=20, help="live dashboards (default 20)")
    options = parser.parse_args()
    count, live = options.requests, options.clients
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        print(f"Before: the backend as it is, {live} live dashboards on its WebSocket, one that stopped reading.")
        with host(True, port, folder) as process:
            dashboards = Dashboards("ws", port, live, 1)
            print(f"  the stalled one was felt after {stall(port)} requests; now every request waits for it")
            before = measure(process, port, dashboards, count, "Before")
            dashboards.close()
        print("After: the same files with enable_websocket=False under 'hakgal-hybrid exec', dashboards by SSE.")
        with host(False, port, folder) as process:
            dashboards = Dashboards("sse", port, live, 1)
            after = measure(process, port, dashboards, count, "After")
            after.control, started = measure_control(port, process)
            dashboards.close()
            met = table(before, after, started, live, count)
            if not options.once:
                stay(port)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
