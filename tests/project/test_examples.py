"""The examples are run as they are."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.hosts import free_port
from support.servers import wait_until

from hakgal_hybrid.broker.sse import Decoder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def post(url: str, body: object) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def test_the_testing_example_passes():
    """The tests that users copy pass, with the plugin found by its entry point."""
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
                            cwd=EXAMPLES / "testing", capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed" in result.stdout


def test_the_minimal_example_shows_a_note_to_a_reader(tmp_path):
    """The ten-line app serves its page, and a posted note reaches an open stream."""
    port = free_port()
    code = f"import app; app.transport.run(port={port})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=EXAMPLES / "minimal_flask") as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(url), 30)
            with urllib.request.urlopen(f"{url}/api/events/stream", timeout=30) as stream:
                assert post(f"{url}/notes", {"text": "buy tea"}) == 201
                decoder = Decoder()
                found = next(message for line in iter(stream.readline, b"") for message in decoder.feed(line)
                             if message.event == "note_added")
                assert json.loads(found.data) == {"text": "buy tea"}
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as page:
            return b"EventSource" in page.read()
    except OSError:
        return False


@pytest.mark.once
@pytest.mark.long
def test_the_demo_measures_and_leaves_its_report(tmp_path):
    """Every dashboard gets every fact, the governor is controlled, it is 10 times faster; status tells the targets.

    How many milliseconds it takes beside other tests is not judged here: that is for ``make demo`` alone.
    """
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # tracing would slow down what is measured
    command = [sys.executable, str(EXAMPLES / "demo" / "demo.py"), "--once", "--requests", "3", "--seconds", "2",
               "--rate", "20", "--out", str(tmp_path / "report")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=115,
                            check=False)
    assert (tmp_path / "report" / "report.html").exists(), result.stdout + result.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    rows = {row["text"]: row for row in [*report["targets"], *report["validation"], *report["thresholds"]]}
    assert result.returncode == (0 if report["holds"] else 1), result.stdout + result.stderr
    for row in ("SSE streaming works", "governor control over HTTP works", "no backlog > 60 s", "no errors in logs",
                "performance improved > 10x", "backend started with WebSocket disabled"):
        assert rows[row]["verdict"] == "met", rows[row]
    assert rows["cpu_events_vs_reference<=-50%"]["verdict"] in ("met", "missed", "not measured")
    assert report["runs"]["reference"]["transport"] == "socketio"
    assert report["runs"]["reference"]["clients"]["connected"] == 20
    table = load_figures().shown(report, 0.5)
    for name in ("`/health`, p95", "`POST /api/facts`", "governor control over HTTP, p95 | did not exist",
                 "1000 requests", "1000 events delivered", "Flask-SocketIO"):
        assert name in table


def load_figures() -> Any:
    """What writes the README's table, which is no package."""
    spec = importlib.util.spec_from_file_location("figures", EXAMPLES.parent / ".ci" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
