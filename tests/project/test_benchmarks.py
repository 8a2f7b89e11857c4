"""The benchmark suite is run for real, tiny; and its load generator sees what it is there to see."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux: epoll, processor affinity, /proc", allow_module_level=True)
if shutil.which("gcc") is None and os.environ.get("CI") != "true":  # there it is an error
    pytest.skip("the benchmarks need gcc", allow_module_level=True)

from benchmarks.build import Missing
from benchmarks.load import Load, LoadError, Ping
from benchmarks.model import MOST, Constants, planned, written
from benchmarks.peers import Peer
from benchmarks.publisher import Publisher, percentiles
from benchmarks.report.summary import Summaries
from benchmarks.runner import Row, present, rows
from benchmarks.server import Server
from benchmarks.targets import figure, judged, ratio
from benchmarks.workloads import TINY, Case, Metric, Workload, all_workloads
from benchmarks.workloads.w1b_ladder import next_rate
from support.hosts import REPOSITORY

pytestmark = [pytest.mark.once, pytest.mark.timeout(400)]


# -- the whole ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A tiny run of our server and the C reference: its folder, and what ``results.json`` holds."""
    pytest.importorskip("rich")
    folder = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, "-m", "tests.benchmarks", "--scale", "tiny", "--only", "W1,W2,W5",
               "--peers", "c,c-coalescing,ours", "--out", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return folder, json.loads((folder / "results.json").read_text())


@pytest.mark.long
def test_every_row_is_measured_and_nothing_is_lost(results):
    """Each client of both servers got each event once and in order, in every workload."""
    found = results[1]["rows"]
    assert [row["error"] for row in found] == [None] * len(found)
    assert [(row["workload"], row["peer"]) for row in found] == [
        ("W1", "c"), ("W1", "ours"), ("W2", "c"), ("W2", "c-coalescing"), ("W2", "ours"),
        ("W5", "c-coalescing"), ("W5", "ours")]
    for row in found:
        assert {key: row["values"][key] for key in ("lost", "repeated", "hung_up")} == {
            "lost": 0, "repeated": 0, "hung_up": 0}, row
        figures = [value for value in row["values"].values() if not isinstance(value, (list, dict))]
        assert all(isinstance(value, (int, float)) for value in figures), row


@pytest.mark.long
def test_results_tell_the_machine_versions_and_targets(results):
    """A reader of the file alone can tell where, when and with what it was measured."""
    told = results[1]
    assert told["scale"]["name"] == "tiny"
    assert told["machine"]["kernel"]
    assert told["machine"]["server_on_cpu"] in range(told["machine"]["processors"])
    assert told["versions"]["ours"]["flask"]
    assert told["absent"] == {}
    assert told["ceiling"]["deliveries_per_s"] > 0
    ours = [target for target in told["targets"] if target["workload"] == "W1" and target["peer"] == "c"]
    assert ours[0]["measured"] > 0
    assert [target["met"] for target in told["targets"] if target["peer"] == "nchan"] == [None] * 4


@pytest.mark.long
def test_the_table_has_a_line_for_each_peer(results):
    """The Markdown that goes into the documentation names every peer in every workload."""
    text = (results[0] / "table.md").read_text()
    for heading in ("### W1: ", "### W2: ", "### W5: ", "### Targets"):
        assert heading in text
    assert text.count("| hakgal_hybrid |") == 3
    assert "LOST" not in text


# -- the load generator ------------------------------------------------------------------------------------------


def event(number: int, stamp: int | None = None) -> bytes:
    data = {"n": number, "t": time.monotonic_ns() if stamp is None else stamp, "z": "x" * 50}
    return f"id: 7\nevent: tick\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def frame(text: str) -> bytes:
    data = text.encode()
    if len(data) < 126:
        return struct.pack("!BB", 0x81, len(data)) + data
    return struct.pack("!BBH", 0x81, 126, len(data)) + data


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """Serve connections, one after the other, with what ``answer`` does; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        answer(connection, connection.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def heard(answer: Callable[[socket.socket, bytes], None], kind: str = "sse", number: int = 5) -> dict[str, Any]:
    """Return what one client of the load generator got from a server, once it has got ``number``."""
    with serving(answer) as port, Load(9) as load:
        load.order(f"group all kind={kind} port={port} path=/x|/y")
        load.connect("all", 1)
        load.order(f"wait all {number}", 20)
        return load.order("stats all")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.mark.parametrize("piece", [1, 7, 4096])
@pytest.mark.parametrize("chunk", [0, 3, 1000])
def test_the_load_counts_what_is_lost_and_repeated(piece, chunk):
    """However the stream is cut, a skipped number is lost, an old one repeated, and what has none is counted apart."""
    body = b": hello\n\n" + b"".join(map(event, [1, 2, 4, 4])) + b"data: {}\r\n\r\n" + event(0) + event(5)
    wire = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, chunk) if chunk else b"\r\n" + body)

    def answer(connection: socket.socket, request: bytes) -> None:
        assert request.startswith(b"GET /x HTTP/1.1\r\n")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(wire), piece):
            connection.sendall(wire[at:at + piece])
        connection.recv(1)

    stats = heard(answer)
    assert (stats["events"], stats["lost"], stats["repeated"], stats["others"]) == (5, 1, 1, 2)
    assert stats["latency_us"]["count"] == 4


def test_the_load_speaks_socket_io():
    """A WebSocket client joins the namespace, answers pings, and finds numbers in frames of any length."""
    pong = []

    def answer(connection: socket.socket, request: bytes) -> None:
        assert b"Upgrade: websocket" in request
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + frame('0{"sid":"a"}'))
        assert connection.recv(100)[6:] == b"40"
        connection.sendall(frame('40{"sid":"b"}') + frame("2"))
        pong.append(connection.recv(100)[6:])
        for number in (1, 2, 3, 5):
            payload = json.dumps({"n": number, "t": time.monotonic_ns(), "z": "x" * 200 * (number % 2)})
            for byte in frame(f'42["tick",{payload}]'):
                connection.sendall(bytes([byte]))
        connection.recv(1)

    stats = heard(answer, "ws")
    assert pong == [b"3"]
    assert (stats["events"], stats["lost"], stats["repeated"]) == (4, 1, 0)


def test_latency_is_from_the_stamp_to_the_end_of_the_event():
    """An event stamped 200 ms ago is at least 200 ms late, within what the histogram tells apart."""
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(HEAD + b"\r\n" + event(1, time.monotonic_ns() - 200_000_000))
        connection.recv(1)

    latency = heard(answer, number=1)["latency_us"]
    assert latency["count"] == 1
    assert latency["max"] >= 200_000
    assert latency["p50"] == pytest.approx(latency["max"], rel=0.04)


def test_a_refusal_and_a_hang_up_are_told():
    """Clients that are refused fail to open, and a server that hangs up is not waited for."""
    def refuse(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    def hang_up(connection: socket.socket, request: bytes) -> None:
        connection.sendall(HEAD + b"\r\n" + event(1))

    with pytest.raises(LoadError, match="only 0 of 1 clients could open"):
        heard(refuse)
    stats = heard(hang_up)
    assert (stats["open"], stats["closed"], stats["events"]) == (0, 1, 1)


def test_what_is_late_is_an_error():
    """Waiting for what does not come ends, and says what was waited for."""
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(HEAD + b"\r\n" + event(1))
        connection.recv(1)

    with serving(answer) as port, Load(9) as load:
        load.order(f"group all kind=sse port={port} path=/")
        load.connect("all", 1)
        with pytest.raises(LoadError, match="wait all 2"):
            load.order("wait all 2", 0.2)
        with pytest.raises(LoadError, match="no such order"):
            load.order("dance all")


@pytest.mark.parametrize("new", [0, 1])
def test_pings_are_counted_and_timed(new):
    """Each answered request counts once, on a kept connection or on new ones; refusals are told."""
    connections = []

    def answer(connection: socket.socket, request: bytes) -> None:
        connections.append(1)
        while request:
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
            if b"Connection: close" in request:
                return
            request = connection.recv(4096)

    with serving(answer) as port:
        told = Ping(port, "/health", seconds=0.5, rate=20, new=new).result()
    assert (told["answered"], told["refused"], told["errors"]) == (10, 10, 0)
    assert told["latency_us"]["count"] == 10
    assert len(connections) == (10 if new else 1)


# -- rows, medians, targets --------------------------------------------------------------------------------------


def peer(key: str, check: Callable[[], dict[str, str]] = dict) -> Peer:
    return Peer(key, key.upper(), check, lambda server: None)


def test_a_row_that_fails_does_not_end_the_run():
    """Rows are interleaved by run, and each tells why it has no figures."""
    def measure(peer: Peer, scale: object) -> dict[str, Any]:
        if peer.key == "slow":
            time.sleep(5)
        if peer.key == "broken":
            raise LoadError("only 3 of 5 clients could open")
        return {"figure": 1}

    workload = Workload("X", "", measure, lambda scale: [Case("a")], [Metric("figure", "")], timeout=0.3)
    twice = type(TINY)("tiny", runs=2)
    done = list(rows([workload], [peer("good"), peer("slow"), peer("broken")], twice, lambda text: None))
    assert [(row.peer, row.run, row.error) for row in done] == [
        ("good", 1, None), ("slow", 1, "not done after 0.3 s"), ("broken", 1, "only 3 of 5 clients could open"),
        ("good", 2, None), ("slow", 2, "not done after 0.3 s"), ("broken", 2, "only 3 of 5 clients could open")]


def test_a_server_that_dies_has_its_last_words_in_the_row():
    """A row whose server ends says so, with what the server printed."""
    def measure(peer: Peer, scale: object) -> dict[str, Any]:
        with Server() as server:
            server.spawn([sys.executable, "-c", "print('no more memory')"])
            server.wait_until_ready("/health")
        return {}

    workload = Workload("X", "", measure, lambda scale: [Case("a")], [])
    row, = rows([workload], [peer("one")], TINY, lambda text: None)
    assert row.error == "did not start: no more memory"
    assert row.server.startswith("ended by itself: ")
    assert row.server.endswith("no more memory")


def test_points_of_a_curve_are_measured_once():
    """A case may be measured less often than the others, never more often."""
    workload = Workload("X", "", lambda peer, scale: {}, lambda scale: [Case("a"), Case("b", runs=1)], [])
    done = rows([workload], [peer("one")], type(TINY)("tiny", runs=2), lambda text: None)
    assert [(row.case, row.run) for row in done] == [("a", 1), ("a", 2), ("b", 1)]


def test_a_peer_that_is_not_installed_is_left_out_by_name():
    """Whatever a peer lacks, a program or a package, is told; the others stay."""
    def no_program() -> dict[str, str]:
        raise Missing("nginx is not installed")

    def no_package() -> dict[str, str]:
        from benchmarks.system import versions

        return versions("surely-not-there")

    found, versions, absent = present([peer("a"), peer("b", no_program), peer("c", no_package)])
    assert [one.key for one in found] == ["a"]
    assert versions == {"a": {}}
    assert absent == {"b": "nginx is not installed", "c": "surely-not-there is not installed"}


def test_medians_spreads_losses_and_targets():
    """The middle run counts, the others give the spread; one lost event in any run is told; targets are ratios."""
    def row(peer: str, run: int, value: float, lost: int = 0) -> Row:
        return Row("X", "a", peer, run, values={"speed": value, "lost": lost})

    workload = Workload("X", "", dict, lambda scale: [Case("a")], [Metric("speed", "")],
                        targets=[ratio("speed", "c", least=0.75), ratio("speed", "other", least=2),
                                 figure("speed", most=9)])
    summaries = Summaries([row("ours", 1, 9), row("c", 1, 10), row("ours", 2, 7, lost=1), row("c", 2, 12),
                           row("ours", 3, 8), row("c", 3, 11), Row("X", "a", "c", 4, error="no")], [workload])
    ours, c = summaries.of(workload, "a")
    assert vars(ours.figures["speed"]) == {"median": 8, "least": 7, "most": 9}
    assert (ours.lost, c.lost, c.errors, c.measured) == ({"lost": 1}, {}, ["no"], 3)
    answers = judged(workload.targets, lambda peer, metric, case: summaries.find(workload, peer, metric, "a"))
    assert [(one["measured"], one["met"]) for one in answers] == [(8 / 11, False), (None, None), (8, True)]


@pytest.mark.parametrize(("limit", "found"), [
    (50, 50), (1000, 800), (1200, 1131.37), (3200, 3200), (49, 35.36), (13, 12.5), (3, None)],
)
def test_the_ladder_finds_the_highest_rate(limit, found):
    """It ends at the highest rung that passes, in steps of the root of two, whatever the limit is."""
    passed: list[float] = []
    failed: list[float] = []
    while (rate := next_rate(passed, failed)) is not None:
        (passed if rate <= limit else failed).append(rate)
    assert max(passed, default=None) == found
    assert len(passed) + len(failed) < 9


def test_payloads_have_the_size_that_was_asked_for():
    """A payload and its framing are as long as the order says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    publisher = Publisher(port, lambda payload: None, 45)
    with publisher._socket:
        data = json.dumps(publisher.payload(123, 456789, 220), separators=(",", ":"))
    assert len(data) + 45 == 220


def test_percentiles_are_nearest_rank():
    """As everywhere in this project: the value at rank ``ceil(n * p)``."""
    told = percentiles([number * 1000 for number in range(1, 21)])
    assert told is not None
    assert (told["p50"], told["p95"], told["p99"], told["max"]) == (10, 19, 20, 20)
    assert percentiles([]) is None


def test_a_plan_keeps_every_processor_below_what_is_planned_for():
    """A process has as many clients as its processor and its bound allow, and Redis has one reader for each process."""
    constants = Constants(event=100, delivery=10, append=200, read=5, stream_kb=1)
    plan = planned(constants, 100_000, 10)
    assert plan.each == (60_000 - 100) // 10
    assert plan.processes == 17
    assert plan.last_s == pytest.approx((100 + plan.each * 10) / 1e6)
    assert plan.redis == pytest.approx(10 * (200 + 17 * 5) / 1e6)
    assert planned(constants, 100_000, 1).each == MOST


def test_the_kept_figures_of_several_processes_are_those_of_their_run():
    """What the documentation says that several processes cost is what the run beside it has measured."""
    folder = REPOSITORY / "docs" / "benchmarks" / "backplane"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for name, text in written(results).items():
        assert (folder / name).read_text(encoding="utf-8") == text


def test_every_workload_and_metric_is_unique():
    """Keys name files and rows, so none comes twice, and each target names a figure of its own workload's rows."""
    workloads = all_workloads()
    assert len({workload.key for workload in workloads}) == len(workloads)
    for workload in workloads:
        assert len({metric.key for metric in workload.metrics}) == len(workload.metrics)
        assert workload.explanation
        assert len({case.label for case in workload.cases(TINY)}) == len(workload.cases(TINY))
