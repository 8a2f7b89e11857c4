"""``hakgal-hybrid measure``, for real: the example host in both modes, two hosts by URL, an interrupt, the reports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from support.browsers import chromium
from support.hosts import EXEC_MODULE, SRC, alive, call, environment, example_host, until

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
TARGET = ["hexagonal_api_enhanced_clean:HexagonalAPI", "--app-dir", str(SRC), "--set", "use_legacy=false"]
SMALL = ["--clients", "3", "--requests", "2", "--seconds", "1", "--rate", "20"]
SECTIONS = ["1. Baseline", "2. Plan executed", "3. Targets", "4. Results", "5. Validation checklist",
            "6. Snapshots before and after", "7. Rollback"]

pytestmark = pytest.mark.timeout(300)


class Measured:
    """What a measurement has left behind."""

    def __init__(self, folder: Path, status: int, output: str) -> None:
        self.folder, self.status, self.output = folder, status, output
        self.json: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        self.md = (folder / "report.md").read_text(encoding="utf-8")
        self.html = (folder / "report.html").read_text(encoding="utf-8")

    def row(self, text: str) -> dict[str, Any]:
        rows = [*self.json["targets"], *self.json["validation"], *self.json["thresholds"]]
        return next(row for row in rows if row["text"].startswith(text))

    def figure(self, mode: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json["figures"][mode][name]
        return found


def start(folder: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    variables = environment(folder, **env)
    variables.pop("HYBRID_RESUME_S", None)
    if "HAKGAL_DB" not in env:
        variables.pop("HAKGAL_DB", None)
    command = [sys.executable, "-m", "hakgal_hybrid", "measure", *arguments, "--out", str(folder / "out")]
    return subprocess.Popen(command, env={**variables, "PYTHONIOENCODING": "utf-8"}, text=True, encoding="utf-8",
                            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            creationflags=flags)


def measured(folder: Path, *arguments: str, **env: str) -> Measured:
    with start(folder, *arguments, **env) as process:
        try:
            output, errors = process.communicate(timeout=200)
        finally:
            process.kill()
    assert (folder / "out" / "report.html").exists(), output + errors
    return Measured(folder / "out", process.returncode, output + errors)


@pytest.fixture(scope="module", params=["later", pytest.param("early", marks=pytest.mark.once)])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The example host with its blocking broadcaster, in both modes, for each vintage; one needs a key."""
    key = ["--env", "HAKGAL_API_KEY=open-sesame"] if request.param == "early" else []
    return measured(tmp_path_factory.mktemp(request.param), *TARGET, *SMALL, *key, "--env",
                    "LEGACY_BROADCASTER=blocking", "--env", f"LEGACY_VINTAGE={request.param}", "--assert",
                    "before.p95>1s", "--assert", "p95<0.001ms")


# -- a target in both modes --------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_report_is_as_its_schema_says(both: Measured) -> None:
    """Every member of report.json is described, and none is missing."""
    jsonschema.Draft202012Validator(SCHEMA).validate(both.json)
    assert both.json["schema_version"].startswith("1.")


@pytest.mark.long
def test_both_hosts_are_measured_alike(both: Measured) -> None:
    """Both complete every phase, with the same clients, the same requests, and no request that fails."""
    before, after = both.json["runs"]["before"], both.json["runs"]["after"]
    assert both.json["runs"]["reference"] is None
    for run in (before, after):
        assert run["complete"], run["trouble"]
        assert run["clients"] == {"live": 3, "stalled": 1, "connected": 3}
        assert all(one["total"]["n"] == 2 and one["total"]["errors"] == 0 for one in run["endpoints"].values())
        assert run["without_stalled"]["total"]["n"] > 10
    assert set(before["endpoints"]) == set(after["endpoints"])
    assert {"GET /health", "POST /api/search", "POST /api/facts"} < set(after["endpoints"])
    assert (before["transport"], after["transport"]) == ("ws", "sse")
    assert (before["stall"]["felt"], after["stall"]["felt"]) == (True, False)


@pytest.mark.long
def test_the_stalled_client_is_what_costs_two_seconds(both: Measured) -> None:
    """Before, the host waits for it in every request; after, nobody does."""
    before = both.json["runs"]["before"]
    assert before["endpoints"]["GET /health"]["total"]["min"] > 1000
    assert before["endpoints"]["GET /health"]["first_byte"]["min"] > 1000, "it is not the connecting that takes so long"
    assert before["without_stalled"]["total"]["p50"] < before["endpoints"]["GET /health"]["total"]["min"]
    assert both.row("performance improved")["verdict"] == "met"


@pytest.mark.long
def test_every_fact_reached_every_client(both: Measured) -> None:
    """What was stored is what arrived, once at each live client, and what the snapshots differ by."""
    snapshots = both.json["snapshots"]
    written = 0
    for run in (both.json["runs"]["before"], both.json["runs"]["after"]):
        for deliveries in run["deliveries"].values():
            assert deliveries["facts_missing"] == 0
            assert deliveries["names"]["fact_added"] == deliveries["facts_sent"] * 3 > 0
            assert 0 < deliveries["delay"]["n"] <= deliveries["events"]
        written += run["facts_written"]
    assert snapshots["after"]["facts"] - snapshots["before"]["facts"] == written == snapshots["facts_written"]
    assert snapshots["before"]["facts"] == 3776
    assert snapshots["after"]["db_bytes"] >= snapshots["before"]["db_bytes"] > 100_000


@pytest.mark.long
def test_what_works_is_ticked(both: Measured) -> None:
    """Streaming, control, the disabled WebSocket and the clean log are judged by what was seen."""
    for line in ("SSE streaming works", "governor control over HTTP works", "backend started with WebSocket disabled",
                 "SSE endpoint responding", "HTTP control working", "no errors in logs", "no backlog > 60 s"):
        assert both.row(line)["verdict"] == "met", both.row(line)
        assert both.row(line)["evidence"]
    control = both.json["runs"]["after"]["control"]
    assert control["total"]["n"] == 30
    assert re.search(r"start: 20[02] \(then running is true\)", control["evidence"])  # 202: it took more than 25 ms
    assert "405" in both.figure("before", "control_p95")["missing"]


@pytest.mark.long
def test_every_figure_says_how_or_why_not(both: Measured) -> None:
    """A figure has a value, its n and how it was taken, or it has a reason; nothing is made up."""
    for figures in both.json["figures"].values():
        for name, figure in figures.items():
            assert (figure["value"] is None) == bool(figure["missing"]), (name, figure)
            assert figure["how"], name
    assert both.figure("after", "loop_lag_p99")["n"] > 10
    assert "does not export" in both.figure("before", "loop_lag_p99")["missing"]
    assert both.figure("before", "sampled_lag_max")["n"] > 10
    assert both.figure("after", "sampled_lag_max")["n"] > 10
    assert both.figure("after", "memory")["value"] > 10
    assert both.figure("after", "cpu_requests")["value"] > 0
    assert both.figure("before", "told_per_request")["value"] >= 1, "each request is told to each live client"
    assert both.figure("after", "told_per_request")["value"] >= 1
    assert both.figure("after", "oldest_undelivered_host")["value"] >= 0


@pytest.mark.long
def test_status_and_thresholds_agree(both: Measured) -> None:
    """A threshold that does not hold fails the run, whatever the targets; one that holds is told."""
    assert both.row("before.p95>1s")["verdict"] == "met"
    assert both.row("p95<0.001ms")["verdict"] == "missed"
    assert both.json["holds"] is False
    assert both.status == 1, both.output
    assert "Traceback" not in both.output
    assert str(both.folder / "report.html") in both.output


@pytest.mark.long
def test_the_sections_of_the_report(both: Measured) -> None:
    """Both readable forms have exactly the sections of the migration report, with the command and the rollback."""
    assert re.findall(r"^## (.*)$", both.md, re.MULTILINE) == SECTIONS
    assert re.findall(r"<h2>(.*?)</h2>", both.html) == SECTIONS
    for text in (both.md, both.html):
        assert "APP_PROFILE=HYBRID" in text
        assert "hakgal-hybrid measure" in text
        assert "open-sesame" not in text
        assert "APP_PROFILE=WEBSOCKET ENABLE_SSE=false ENABLE_WS_SPECIAL=true" in text
    for name in ("latency", "cpu", "lag", "delivery"):
        assert f"(plots/{name}.svg)" in both.md
        assert (both.folder / "plots" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (both.folder / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for line in both.md.splitlines():  # a table is broken by a cell that holds a bar
        assert not line.startswith("|") or line.endswith("|"), line


@pytest.mark.long
def test_the_page_refers_to_nothing_outside(both: Measured) -> None:
    """One file: no address in it is loaded."""
    assert not re.findall(r"""(?:src|href|action|poster|data)\s*=\s*["'](?!data:|#)[^"']*""", both.html)
    assert "url(" not in both.html
    assert "@import" not in both.html
    assert "<script" not in both.html
    assert both.html.count("data:image/svg+xml;base64,") == 4


@pytest.mark.long
@pytest.mark.once
def test_the_page_is_rendered(both: Measured) -> None:
    """In Chromium: four plots with a description each, nothing fetched, nothing wider than a narrow screen."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
        fetched: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        url = (both.folder / "report.html").as_uri()
        page.goto(url)
        assert page.locator("figure img").count() == 4
        for image in page.locator("figure img").all():
            image.scroll_into_view_if_needed()
            page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
            assert image.get_attribute("alt")
        assert [one for one in fetched if not one.startswith("data:")] == [url]
        assert problems == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 23, 42)"


# -- whose knowledge base ----------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.once
def test_nothing_is_written_to_somebody_elses_knowledge_base(tmp_path: Path) -> None:
    """A target that does not use the database it is given keeps what it has: events are then caused by reading."""
    theirs = tmp_path / "theirs.db"
    found = measured(tmp_path, *TARGET, *SMALL, "--requests", "1", "--stalled", "0", "--db-env", "NOT_LOOKED_AT",
                     "--env", "LEGACY_VINTAGE=early", "--env", "LEGACY_BROADCASTER=blocking", HAKGAL_DB=str(theirs))
    assert found.json["snapshots"]["facts_written"] == 0
    assert "POST /api/facts" not in found.json["runs"]["after"]["endpoints"]
    assert found.json["runs"]["after"]["deliveries"]["with_stalled"]["events"] > 0
    with sqlite3.connect(theirs) as database:
        assert database.execute("SELECT count(*) FROM facts").fetchone() == (3776,)
    database.close()


# -- two URLs ----------------------------------------------------------------------------------------------------


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Any, Any]]:
    for name in ("old", "new"):
        (folder / name).mkdir()
    with (example_host(folder / "old", prefix=[], push=True, LEGACY_BROADCASTER="socketio", LEGACY_VINTAGE="early",
                       APP_PROFILE="WEBSOCKET") as before,
          example_host(folder / "new", prefix=EXEC_MODULE, LEGACY_VINTAGE="early") as after):
        yield before, after


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Two hosts that run already, the one before with real Flask-SocketIO."""
    folder = tmp_path_factory.mktemp("urls")
    with two_hosts(folder) as (before, after):
        found = measured(folder, "--before-url", f"http://localhost:{before.port}",
                         "--after-url", f"http://127.0.0.1:{after.port}", *SMALL, "--write",
                         "--before-log", str(before.log), "--after-log", str(after.log))
        assert call(after.port, "GET", "/health").status == 200
        # A busy host answers 202 while the command has not been carried out.
        governor = until(lambda: call(after.port, "POST", "/api/governor/control", {"action": "status"}).body.get(
            "result"), "the governor's status")
        assert governor["running"] is False
    return found


@pytest.mark.long
def test_hosts_that_run_already(urls: Measured) -> None:
    """They are measured by real Socket.IO clients and by streams, their processes are found, their logs are read."""
    jsonschema.Draft202012Validator(SCHEMA).validate(urls.json)
    before, after = urls.json["runs"]["before"], urls.json["runs"]["after"]
    assert (before["transport"], after["transport"]) == ("socketio", "sse")
    for run in (before, after):
        assert run["complete"], run["trouble"]
        assert run["started_by_measure"] is False
        assert run["process"]["pid"]
        assert run["log"]["missing"] is None
        for deliveries in run["deliveries"].values():
            assert deliveries["facts_missing"] == 0
            assert deliveries["names"]["fact_added"] == deliveries["facts_sent"] * 3 > 0
    assert before["stall"]["requests"] > 10
    assert not before["stall"]["felt"], "Flask-SocketIO queues for a client that stalls"
    assert urls.figure("after", "cpu_requests")["value"] > 0
    assert "not started by measure" in urls.figure("after", "sampled_lag_p99")["missing"]
    assert urls.row("SSE streaming works")["verdict"] == "met"
    assert urls.status == (0 if urls.json["holds"] else 1)


@pytest.mark.long
def test_clients_of_socketio_before_and_after(tmp_path: Path) -> None:
    """The same unmodified clients are connected to both; after the migration, too, each gets everything."""
    found = measured(tmp_path, *TARGET, *SMALL, "--after-clients", "socketio", "--env", "LEGACY_BROADCASTER=socketio",
                     "--env", "LEGACY_VINTAGE=early")
    jsonschema.Draft202012Validator(SCHEMA).validate(found.json)
    before, after = found.json["runs"]["before"], found.json["runs"]["after"]
    assert (before["transport"], after["transport"]) == ("socketio", "socketio")
    for run in (before, after):
        assert run["complete"], run["trouble"]
        assert all(deliveries["facts_missing"] == 0 for deliveries in run["deliveries"].values())
    assert after["status"]["transport"] == "sse+socketio"
    assert after["status"]["socketio"]["ended"]
    assert not after["stall"]["felt"]
    assert found.row("Socket.IO streaming works")["verdict"] == "met"
    assert "3 Socket.IO clients received" in found.row("Socket.IO streaming works")["evidence"]


@pytest.mark.long
@pytest.mark.once
def test_a_host_without_a_push_channel(tmp_path: Path) -> None:
    """It is measured as far as that goes, and what takes clients says why it is missing."""
    (tmp_path / "host").mkdir()
    with example_host(tmp_path / "host", prefix=EXEC_MODULE, LEGACY_VINTAGE="early") as host:
        url = f"http://127.0.0.1:{host.port}"
        found = measured(tmp_path, "--before-url", url, "--after-url", url, *SMALL, "--requests", "1", "--no-control")
    before = found.json["runs"]["before"]
    assert before["complete"]
    assert before["transport"] == "none"
    assert "no push channel" in before["trouble"]["connect"]
    assert before["endpoints"]["GET /health"]["total"]["n"] == 1
    assert "no push channel" in found.figure("before", "delivery_p50")["missing"]
    assert found.figure("before", "cpu_events")["value"] is None
    assert found.row("governor control over HTTP works")["verdict"] == "does not apply"
    assert found.row("SSE streaming works")["verdict"] == "met"
    assert found.row("CPU per delivered event -30 % or better")["verdict"] == "does not apply", "it never was slow"
    assert found.status == 0, found.json["targets"]
    jsonschema.Draft202012Validator(SCHEMA).validate(found.json)


@pytest.mark.long
@pytest.mark.once
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """A bar for each phase of each host, which fills; the tables are not mixed into it."""
    (tmp_path / "host").mkdir()
    ours, theirs = os.openpty()
    with example_host(tmp_path / "host", prefix=EXEC_MODULE, LEGACY_VINTAGE="early") as host:
        url = f"http://127.0.0.1:{host.port}"
        command = [sys.executable, "-m", "hakgal_hybrid", "measure", "--before-url", url, "--after-url", url, *SMALL,
                   "--requests", "1", "--no-control", "--out", str(tmp_path / "out")]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path,
                              env={**environment(tmp_path), "TERM": "xterm", "COLUMNS": "120"}) as process:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # Linux' way to say that nobody has the other side any more
                while piece := os.read(ours, 65536):
                    shown += piece
            output, _ = process.communicate(timeout=60)
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8"))
    for phase in ("before: start", "before: requests", "after: connect", "after: latency"):
        assert re.search(rf"{phase} ━+ +100%", text), text[-2000:]
    assert "Results" not in text
    assert "Results" in output.decode("utf-8")


@pytest.mark.long
@pytest.mark.once
def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    """It is named in the report and on the terminal, and the status is 1."""
    found = measured(tmp_path, "--before-url", "http://127.0.0.1:9", "--after-url", "http://127.0.0.1:9", *SMALL)
    assert found.status == 1
    assert "http://127.0.0.1:9" in found.json["failed"]
    assert "Not finished: " in found.output
    assert "Not finished" in found.html
    assert "Traceback" not in found.output
    assert "Results" not in found.output, "a table of nothing hides the reason"


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "MODULE:CLASS"), (["--before-url", "http://127.0.0.1:1"], "--after-url"), (["nothing"], "MODULE:CLASS"),
    ([*TARGET, "--assert", "speed>1"], "p95_all"), ([*TARGET, "--env", "X"], "NAME=VALUE"),
    ([*TARGET, "--endpoint", "health"], "METHOD /path"),
])
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    """At once, with status 2 and a line that says what is accepted."""
    with start(tmp_path, *arguments) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert said in " ".join(errors.split())
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_says_which(tmp_path: Path) -> None:
    """A library that is missing is named, with the extra that has it."""
    code = "import sys; sys.modules['psutil'] = None; from hakgal_hybrid.tools.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "measure", *TARGET], env=environment(tmp_path), cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "hakgal_hybrid[measure]" in " ".join(done.stderr.split())


# -- an interrupt ------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.once
def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the latencies: what is complete is in the report, nothing that was started is left."""
    process = start(tmp_path, *TARGET, *SMALL, "--requests", "1000", "--env", "LEGACY_BROADCASTER=blocking",
                    "--env", "LEGACY_VINTAGE=early")
    told: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: told.extend(iter(process.stderr.readline, "")), daemon=True)
    reader.start()
    try:
        until(lambda: "before: latency\n" in told or process.poll() is not None, "the latencies", 120)
        assert process.poll() is None, told
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        time.sleep(5)  # a few requests of two seconds each; how many does not matter
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait(30)
        reader.join(30)
        process.stdout.close()
        process.stderr.close()
    until(lambda: not any(map(alive, family)), "the host and the clients have ended")
    found = Measured(tmp_path / "out", 130, "".join(told))
    jsonschema.Draft202012Validator(SCHEMA).validate(found.json)
    before = found.json["runs"]["before"]
    assert found.json["interrupted"]
    assert not found.json["holds"]
    assert found.json["runs"]["after"] is None
    assert not before["complete"]
    assert [phase["name"] for phase in before["phases"]] == ["connect", "events", "requests", "alone", "stall"]
    assert 0 < before["endpoints"]["GET /health"]["total"]["n"] < 1000
    assert before["endpoints"]["GET /health"]["total"]["errors"] == 0, "what was under way was answered"
    assert before["work"]["events"]["delivered"] > 0
    assert found.row("SSE streaming works")["verdict"] == "not measured"
    assert found.figure("after", "p95")["missing"] == "this host was not measured"
    assert "Interrupted" in found.html
    assert "Interrupted" in found.md
    assert "Traceback" not in found.output
