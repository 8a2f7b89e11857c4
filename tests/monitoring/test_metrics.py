"""Metrics: everything that is counted, once, under a documented name; in both formats; and what is built on them."""

from __future__ import annotations

import builtins
import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.app import create_app
from support.servers import InProcess, Server, wait_until

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.monitoring import metrics
from hakgal_hybrid.monitoring.histogram import BOUNDS_MS, Histogram
from hakgal_hybrid.monitoring.metrics import METRICS, PREFIX, Exporter, families

prometheus = pytest.importorskip("prometheus_client")
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as parse  # noqa: E402

URL = "/api/hybrid/metrics"
ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "examples" / "monitoring"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server of ours on which something has happened."""
    with Server("ours", ENABLE_WS_SPECIAL="true") as server:
        with server.opened() as stream:
            server.emit("note", n=20)
            stream.wait_for("note", 20)
        wait_until(lambda: server.status()["traffic"]["ended"])
        polling = "/socket.io/?EIO=4&transport=polling"
        sid = json.loads(server.ask("GET", polling).body[1:])["sid"]
        assert server.ask("POST", f"{polling}&sid={sid}", b"1").status == 200
        assert server.ask("GET", f"{polling}&sid=unknown").status == 400
        wait_until(lambda: sum(server.status()["traffic"]["ended"].values()) == 2)
        assert server.ask("PUT", "/api/hybrid/status").status == 405
        with server.opened():
            yield server


def samples(text: str) -> dict[str, float]:
    """Every sample under its name and labels."""
    return {f"{one.name}{json.dumps(one.labels, sort_keys=True) if one.labels else ''}": one.value
            for family in parse(text) for one in family.samples}


def scraped(api: Any, **headers: str) -> str:
    answer = api.ask("GET", URL, headers=headers)
    assert answer.status == 200, answer
    return str(answer.body.decode())


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of the members of a status; those of a histogram are one, and lists (of objects) are none."""
    if isinstance(value, dict) and "buckets" not in value:
        assert value, f"{prefix} is empty: nothing can be said of its members"
        for name, item in value.items():
            yield from leaves(item, f"{prefix}.{name}" if prefix else name)
    elif not isinstance(value, list):
        yield prefix


def test_everything_that_is_counted_has_a_metric(busy) -> None:
    """Each member of a status of our own server leads to one metric, and each metric comes of a member."""
    told = list(leaves(busy.status()))
    patterns = {metric.member: re.compile(re.escape(metric.member).replace(r"\*", "[^.]+")) for metric in METRICS}
    for name in told:
        found = [member for member, pattern in patterns.items() if pattern.fullmatch(name)]
        assert len(found) == (0 if name in metrics.INFO else 1), f"{name}: not in METRICS and docs/metrics.md"
    for member, pattern in patterns.items():
        assert any(pattern.fullmatch(name) for name in told), f"nothing is counted as {member} any more"


def test_every_metric_is_documented() -> None:
    """The table of the page lists each by its full name, with kind, labels and what it comes of; and no other."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = {cells[0].strip("`"): cells for line in text.splitlines() if line.startswith(f"| `{PREFIX}")
            for cells in [[cell.strip() for cell in line.strip("|").split("|")]]}
    expected = {f"{PREFIX}info": None}
    for metric in METRICS:
        name = PREFIX + metric.name
        if metric.kind == "times":
            expected |= {f"{name}_seconds": metric, f"{name}_recent_seconds": metric}
        else:
            expected[f"{name}_total" if metric.kind == "counter" else name] = metric
    assert set(rows) == set(expected)
    for name, metric in expected.items():
        if metric is None:
            continue
        _, kind, labels, member = rows[name][:4]
        assert member == f"`{metric.member}`", name
        if metric.kind == "times":
            recent = name.endswith("_recent_seconds")
            assert (kind, labels) == (("gauge", "`figure`") if recent else ("histogram", ""))
        else:
            assert (kind, labels) == (metric.kind, f"`{metric.label}`" if metric.label else ""), name


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    """Base units only, named at the end; no name twice."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", metric.name)
        assert not re.search(r"_(ms|s|total)$", metric.name)
        if metric.member.endswith("_s"):
            assert metric.name.endswith("_seconds")


def test_values_are_those_of_the_status(busy) -> None:
    told = samples(scraped(busy))
    status = busy.status()
    assert told["hakgal_hybrid_events_emitted_total"] == status["log"]["appended"] == 20
    assert told["hakgal_hybrid_delivered_events_total"] == status["traffic"]["delivered"] == 20
    assert told["hakgal_hybrid_log_newest_number"] == 20
    assert told["hakgal_hybrid_streams"] == 1
    reason, = status["traffic"]["ended"]
    assert told[f'hakgal_hybrid_streams_ended_total{{"reason": "{reason}"}}'] == 2
    assert told["hakgal_hybrid_socketio_sessions_opened_total"] == 1
    assert told['hakgal_hybrid_socketio_sessions_ended_total{"reason": "client disconnect"}'] == 1
    assert told['hakgal_hybrid_socketio_refused_requests_total{"code": "unknown_sid"}'] == 1
    assert told['hakgal_hybrid_lane_busy_threads{"lane": "control"}'] >= 1
    assert told['hakgal_hybrid_patched{"library": "gevent"}'] == 0
    assert told['hakgal_hybrid_refusals_total{"code": "method_not_allowed"}'] == 1
    assert told["hakgal_hybrid_loop_lag_seconds_count"] > 0
    assert told['hakgal_hybrid_loop_lag_seconds_bucket{"le": "+Inf"}'] == told["hakgal_hybrid_loop_lag_seconds_count"]
    assert 0 < told['hakgal_hybrid_delivery_lag_recent_seconds{"figure": "p50"}'] < 10
    info = next(name for name in told if name.startswith("hakgal_hybrid_info"))
    assert json.loads(info.removeprefix("hakgal_hybrid_info"))["profile"] == "HYBRID"


def test_both_formats_are_spoken(busy) -> None:
    """OpenMetrics for whoever asks for it, Prometheus' text for the rest; both can be read by their parsers."""
    plain = busy.ask("GET", URL)
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert plain.headers["cache-control"] == "no-store"
    asked = busy.ask("GET", URL, headers={"Accept": OPENMETRICS})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.body.endswith(b"# EOF\n")
    named = {family.name for family in parse_openmetrics(asked.body.decode())}
    assert named >= {"hakgal_hybrid_events_emitted", "hakgal_hybrid_loop_lag_seconds", "hakgal_hybrid"}
    for family in parse(plain.body.decode()):
        assert family.documentation


def test_histograms_are_whole() -> None:
    """The same bounds each time, whatever has been counted; cumulative; nothing lost beyond the last one."""
    times = Histogram()
    shapes = []
    told = dataclasses.asdict(HybridTransport(Flask(__name__)).statistics())
    for value in (None, 0.01, 3, 3.2, BOUNDS_MS[-1] * 3):
        if value is not None:
            times.add(value)
        told["server"] = {"loop_lag": times.statistics()}
        one = next(family for family in families(told) if family.name == f"{PREFIX}loop_lag_seconds")
        buckets = [(sample.labels["le"], sample.value) for sample in one.samples if "le" in sample.labels]
        shapes.append([bound for bound, _ in buckets])
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == times.statistics()["buckets"][-1][1]
    assert all(shape == shapes[0] for shape in shapes)
    assert counts[-2:] == [3, 4], "one took longer than every bound"
    assert dict(buckets)["0.0032"] == 3


def test_two_transports_share_nothing() -> None:
    """Each has its registry, and neither touches the one of the process."""
    before = set(prometheus.REGISTRY._names_to_collectors)
    apis = [InProcess(create_app()) for _ in range(2)]
    apis[0].emit("note", n=3)
    counts = [samples(scraped(api))["hakgal_hybrid_events_emitted_total"] for api in apis]
    assert counts == [3, 0]
    assert set(prometheus.REGISTRY._names_to_collectors) == before


def test_without_the_extra(monkeypatch) -> None:
    """Where prometheus_client is missing, the answer says what to install; everything else works."""
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "prometheus_client":
            raise ImportError(name)
        return real(name, *args, **options)

    api = InProcess(create_app())
    monkeypatch.setattr(builtins, "__import__", without)
    answer = api.ask("GET", URL)
    assert (answer.status, answer.json()["code"]) == (501, "metrics_not_installed")
    assert 'pip install "hakgal_hybrid[metrics]"' in answer.json()["detail"]
    assert api.ask("GET", "/api/hybrid/status").status == 200
    monkeypatch.undo()
    assert api.ask("GET", URL).status == 200, "installed meanwhile"


def test_a_scrape_is_one_snapshot() -> None:
    """One moment for all metrics, and none taken before anybody asks."""
    asked = []
    transport = HybridTransport(Flask(__name__))

    def snapshot() -> Any:
        asked.append(1)
        return transport.statistics()

    exporter = Exporter(snapshot)
    assert not asked
    exporter.expose("")
    assert len(asked) == 1


# -- what is built on them ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def series(busy) -> set[str]:
    """The names of all series there are, those of empty families included."""
    text = scraped(busy)
    found = {one.name for family in parse(text) for one in family.samples}
    return found | {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def used(expression: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", expression))


def rules() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    loaded = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    assert set(loaded) == {"groups"}
    for group in loaded["groups"]:
        assert set(group) <= {"name", "interval", "rules"}
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def test_alerts_use_what_there_is(series) -> None:
    """Each alert has what Prometheus takes, says what to do, and asks for metrics that exist."""
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found) >= 6
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert used(rule["expr"]) or rule["alert"] == "HakgalDown", rule
        assert used(rule["expr"]) <= series, rule


def test_the_alerts_are_documented() -> None:
    """Each has its line in the page."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for rule in rules():
        assert f"`{rule['alert']}`" in text


def test_prometheus_takes_the_rules() -> None:
    """Where Prometheus' own checker is installed, it finds nothing wrong."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, "check", "rules", str(MONITORING / "alerts.yml")], capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([promtool, "test", "rules", "alerts_test.yml"], cwd=MONITORING, capture_output=True,
                          text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_nothing_to_say_about_the_names(busy) -> None:
    """Where Prometheus' own linter is installed, it has no complaint."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, "check", "metrics"], input=scraped(busy), capture_output=True, text=True,
                          check=False, timeout=60)
    assert not done.stdout + done.stderr


def test_the_grafana_dashboard_shows_what_there_is(series) -> None:
    """Its panels ask for metrics that exist, and together for most of them; it names no data source of anybody's."""
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert board["schemaVersion"] >= 36
    assert board["id"] is None
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    asked: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            asked |= used(target["expr"])
    assert asked <= series, asked - series
    plain = {re.sub(r"_(total|bucket|seconds_count|seconds_sum)$", "", name) for name in asked}
    assert len(plain) >= 20
