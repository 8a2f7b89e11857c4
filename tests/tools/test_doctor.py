"""The doctor: each diagnosis, in a situation that is built for it, and nothing wrong where nothing is."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from support.hosts import (
    EXEC,
    REPOSITORY,
    Running,
    Stream,
    environment,
    example_host,
    free_port,
    in_a_thread,
    serving,
    until,
)
from support.needs import missing
from support.patients import PATIENT, nginx, patient

from hakgal_hybrid import ConfigurationError, HybridTransport
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.tools.cli import main
from hakgal_hybrid.tools.doctor import LATER, Level, Options, Probe, Report, examine

#: Fast, but a loaded machine is not taken for a slow host: what is slow here waits for 1.2 s and more.
QUICK: dict[str, Any] = {"requests": 2, "sample_s": 0.5, "wait_s": 4.0, "slow_ms": 600.0}
#: Where what takes 1.2 s must be seen for half of that.
STACKS_S = 2.5
FORWARDED = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Host $http_host;"


def look(port: int, *, host: str = "127.0.0.1", key: str | None = None, **options: Any) -> Report:
    """Examine a host on this machine."""
    return examine(f"http://{host}:{port}", Options(**{**QUICK, **options}), key=key)


def levels(report: Report) -> dict[str, str]:
    """The level of each check."""
    return {finding.check: finding.level.value for finding in report.findings}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A host with a locked database, and a heartbeat that can be waited for."""
    with patient(tmp_path_factory.mktemp("host"), HYBRID_HEARTBEAT_S="0.8", PATIENT_LOCK="1") as server:
        yield server


# -- nothing is wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vintage", ["later", pytest.param("early", marks=pytest.mark.long)])
def test_the_migrated_host_is_healthy(tmp_path: Path, vintage: str) -> None:
    """The example host under this package: every check is made, and every one is ok, stalled clients included."""
    with example_host(tmp_path, LEGACY_VINTAGE=vintage, HYBRID_HEARTBEAT_S="1") as server:
        report = look(server.port, probe_stall=True)
    assert report.verdict == "healthy", json.dumps(report.to_dict(), indent=1)
    assert set(levels(report).values()) == {"ok"}, json.dumps(report.to_dict(), indent=1)
    assert len(report.findings) == 11
    assert "event stream" in " ".join(report.of("stalled").evidence)


@pytest.mark.long
def test_a_stall_that_nothing_was_emitted_to_proves_nothing(host: Running) -> None:
    """Where the probes make the host emit nothing, the check says so; with one that does it is made."""
    assert "emit" in look(host.port, probe_stall=True).of("stalled").says
    report = look(host.port, probe_stall=True, probes=(Probe("GET", "/emits"),))
    assert report.of("stalled").level is Level.OK


# -- the host itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["measures", pytest.param("writes", marks=pytest.mark.long),
                                      pytest.param("sleeps", marks=pytest.mark.long),
                                      pytest.param("waits", marks=pytest.mark.long)])
def test_where_a_handler_waits(host: Running, function: str) -> None:
    """The host is slow with no client connected: not the broadcaster. The stacks show where its time goes."""
    report = look(host.port, probes=(Probe("GET", f"/{function}"),), requests=1, sample_s=STACKS_S)
    assert report.causes == ["slow_without_clients", "hotspot"], json.dumps(report.to_dict(), indent=1)
    stacks = report.of("stacks")
    assert "patient.py:" in stacks.says
    assert f" {function}" in stacks.says
    assert "py-spy" in stacks.remedy
    assert stacks.data["groups"][0]["longest_ms"] >= 600


def test_a_host_that_answers_with_errors(host: Running) -> None:
    """Fast is not enough: an error is a problem, a refusal a warning that names the probe."""
    broken = look(host.port, probes=(Probe("GET", "/breaks"),), sample_s=0.2)
    assert broken.causes == ["errors"]
    refused = look(host.port, probes=(Probe("GET", "/nowhere"),), sample_s=0.2)
    assert refused.causes == []
    assert refused.of("health").cause == "refused"
    assert "GET /nowhere with 404" in refused.of("health").says


@pytest.mark.long
def test_the_broadcaster_is_seen_from_outside(tmp_path: Path) -> None:
    """Without this package in the host: fast, until one client does not read; fast again when it has gone."""
    with example_host(tmp_path, prefix=[], push=True, LEGACY_BROADCASTER="blocking", LEGACY_VINTAGE="early",
                      APP_PROFILE="WEBSOCKET") as server:
        report = look(server.port, stall_paths=("/ws",), probe_stall=True)
    assert report.causes == ["broadcaster"], json.dumps(report.to_dict(), indent=1)
    finding = report.of("stalled")
    assert finding.data["before_ms"] < 600 < finding.data["during_ms"]
    assert finding.data["after_ms"] < finding.data["during_ms"]
    assert "not loaded in the host" in report.of("stacks").says
    for check in ("stream", "resuming", "cors", "heartbeat", "forwarding", "patching"):
        assert report.of(check).level is Level.NOT_CHECKED


@pytest.mark.long
def test_socketio_that_does_not_block_is_acquitted(tmp_path: Path) -> None:
    """A stalled client of Flask-SocketIO, on a host without this package: found, and nobody waits for it."""
    with example_host(tmp_path, prefix=[], push=True, LEGACY_BROADCASTER="socketio", LEGACY_VINTAGE="early",
                      APP_PROFILE="WEBSOCKET") as server:
        report = look(server.port, probe_stall=True)
    assert report.verdict == "healthy"
    assert report.of("stalled").level is Level.OK
    assert "stalled: Socket.IO" in report.of("stalled").evidence


@pytest.mark.long
def test_the_broadcaster_is_seen_in_the_stacks(tmp_path: Path) -> None:
    """With this package in a host that kept its own WebSocket, and somebody's stalled dashboard: the stacks show it."""
    with example_host(tmp_path, prefix=EXEC, push=True, LEGACY_BROADCASTER="blocking", LEGACY_VINTAGE="early",
                      HYBRID_HEARTBEAT_S="1") as server:
        with stalled_dashboard(server.port):
            until(lambda: server.get("/health").seconds > 1, "the stalled dashboard is felt", 60)
            report = look(server.port, requests=1, sample_s=STACKS_S)
    assert report.causes == ["slow_with_clients", "hotspot"], json.dumps(report.to_dict(), indent=1)
    assert "ws_channel.py:" in report.of("stacks").says
    assert any("connected, by the host's own count" in line for line in report.of("health").evidence)


@contextlib.contextmanager
def stalled_dashboard(port: int) -> Iterator[None]:
    """A client of the example's own WebSocket that never reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(15)
        sock.connect(("127.0.0.1", port))
        sock.sendall(f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        assert sock.recv(12) == b"HTTP/1.1 101"
        yield


@pytest.mark.long
def test_mixed_patching(tmp_path: Path) -> None:
    """Eventlet and gevent in one process are found, and so is each alone, which is no problem."""
    pytest.importorskip("eventlet")
    with patient(tmp_path, PATIENT_PATCH="gevent", HYBRID_HEARTBEAT_S="1") as server:
        assert "gevent alone" in look(server.port).of("patching").says
    (tmp_path / "kb.db").unlink()
    with patient(tmp_path, PATIENT_PATCH="gevent eventlet", HYBRID_HEARTBEAT_S="1") as server:
        report = look(server.port)
    assert report.causes == ["mixed_patching"]
    assert len(report.of("patching").evidence) == 2


@pytest.mark.long
def test_a_host_with_a_key(tmp_path: Path) -> None:
    """Without the key what needs it is not checked and says so; with it everything is."""
    with patient(tmp_path, HAKGAL_API_KEY="secret", HYBRID_HEARTBEAT_S="1") as server:
        without, given = look(server.port), look(server.port, key="secret")
    assert "HAKGAL_API_KEY" in without.of("stacks").says
    assert without.of("stacks").level is Level.NOT_CHECKED
    assert given.of("stacks").level is Level.OK
    assert "secret" not in json.dumps(given.to_dict())


# -- what lies between -------------------------------------------------------------------------------------------


def through(tmp_path: Path, host: Running, location: str, http: str = "", version: str = "1.1",
            **options: Any) -> Report:
    """Examine the host through an nginx."""
    with nginx(tmp_path, host.port, location, http, version=version) as port:
        return look(port, **options)


@pytest.mark.once
def test_a_proxy_as_the_documentation_has_it_is_healthy(tmp_path: Path, host: Running) -> None:
    """The documented configuration of nginx: no problem, and the proxy is seen."""
    report = through(tmp_path, host, FORWARDED + "proxy_buffering off; gzip off; proxy_read_timeout 60s;")
    assert report.verdict == "healthy", json.dumps(report.to_dict(), indent=1)
    assert "writes down for whom it asks" in report.of("forwarding").says


@pytest.mark.once
@pytest.mark.long
def test_a_proxy_that_buffers(tmp_path: Path, host: Running) -> None:
    """Nginx with buffering, told to ignore what the host says about it: the first event does not come."""
    report = through(tmp_path, host, FORWARDED + "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
                     version="1.0", direct=f"http://127.0.0.1:{host.port}", wait_s=1.5)
    assert set(report.causes) == {"buffering"}, json.dumps(report.to_dict(), indent=1)
    evidence = " ".join(report.of("stream").evidence)
    assert "the host has opened the stream meanwhile" in evidence
    assert f"directly at http://127.0.0.1:{host.port} the first event comes" in evidence
    assert "X-Accel-Buffering is missing" in evidence


@pytest.mark.once
def test_a_proxy_that_compresses(tmp_path: Path, host: Running) -> None:
    """Nginx with gzip for event streams."""
    report = through(tmp_path, host, FORWARDED + "proxy_buffering off;",
                     "gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;")
    assert set(report.causes) & {"compressing", "buffering"}, json.dumps(report.to_dict(), indent=1)
    assert "Content-Encoding: gzip" in " ".join(report.of("stream").evidence)


@pytest.mark.once
def test_a_proxy_that_does_not_wait_for_the_heartbeat(tmp_path: Path, host: Running) -> None:
    """Nginx with a read time-out below the heartbeat cuts silent streams."""
    report = through(tmp_path, host, FORWARDED + "proxy_buffering off; proxy_read_timeout 400ms;")
    assert report.causes == ["read_timeout"], json.dumps(report.to_dict(), indent=1)
    assert report.of("heartbeat").data["cut_after_s"] < 2


@pytest.mark.once
def test_a_proxy_that_writes_no_forwarding_header(tmp_path: Path, host: Running) -> None:
    """Everybody looks local."""
    report = through(tmp_path, host, "proxy_buffering off;")
    assert "no_forwarding_header" in report.causes, json.dumps(report.to_dict(), indent=1)


@pytest.mark.once
def test_a_proxy_that_takes_last_event_id_away(tmp_path: Path, host: Running) -> None:
    """Who comes back through it loses events."""
    report = through(tmp_path, host, FORWARDED + 'proxy_buffering off; proxy_set_header Last-Event-ID "";')
    assert report.causes == ["last_event_id"], json.dumps(report.to_dict(), indent=1)


@pytest.mark.once
def test_a_proxy_that_opens_cors(tmp_path: Path, host: Running) -> None:
    """A header of its own lets every page read."""
    report = through(tmp_path, host, FORWARDED + "proxy_buffering off; proxy_hide_header Access-Control-Allow-Origin; "
                     "add_header Access-Control-Allow-Origin * always;")
    assert report.causes == ["cors_open"], json.dumps(report.to_dict(), indent=1)


@pytest.mark.parametrize("given", ["*", lambda origin: True], ids=["every", "function"])
@pytest.mark.long
def test_a_host_that_lets_every_page_be_a_client(given: Any) -> None:
    """What the app has chosen is told, and is no fault of something on the path."""
    app = Flask("open")
    with serving(SocketIO(app, cors_allowed_origins=given), app) as port:
        report = look(port)
    assert report.of("cors").level is Level.OK, json.dumps(report.to_dict(), indent=1)
    assert "the host itself allows it" in report.of("cors").says


def test_a_page_that_may_not_read(host: Running) -> None:
    """An origin that is not in HYBRID_ORIGINS, but should be able to read."""
    report = look(host.port, origin="https://dash.example")
    assert report.causes == ["cors_closed"]
    assert "HYBRID_ORIGINS" in report.of("cors").remedy


# -- getting there -----------------------------------------------------------------------------------------------

#: Run in a network and mount namespace of its own: hosts file, routes, host, doctor. Prints the doctor's report.
NAMESPACE = r"""
set -e
mount --bind "$HOSTS" /etc/hosts
ip link set lo up
ip link add doctor0 type veth peer name doctor1
ip link set doctor1 up
ip addr add fd00:d0c::1/64 dev doctor0 nodad
ip link set doctor0 up
# To this neighbour SYNs leave, and nobody is there to answer.
ip -6 neigh add fd00:d0c::2 lladdr 02:00:00:00:00:02 dev doctor0 nud permanent
if [ -n "$DROP_LOOPBACK" ]; then
    ip -6 route del local ::1 dev lo table local
    ip -6 route add ::1/128 dev doctor0
    ip -6 neigh add ::1 lladdr 02:00:00:00:00:02 dev doctor0 nud permanent
fi
"$PYTHON" patient.py 5001 "$LISTEN" > patient.log 2>&1 &
HOST=$!
trap 'kill $HOST; wait $HOST || true' EXIT
for attempt in $(seq 300); do
    if "$PYTHON" -c 'import socket; socket.create_connection(("127.0.0.1", 5001), 5)' 2> /dev/null; then break; fi
    kill -0 $HOST
    sleep 0.1
done
"$PYTHON" -m hakgal_hybrid doctor http://localhost:5001 \
    --json --connect 1 --sample 0.5 --requests 2 --slow-ms 600 > report.json || true
"""


def in_namespace(folder: Path, hosts: str, *, listen: str = "127.0.0.1", drop_loopback: bool = False) -> dict[str, Any]:
    """Examine a host in a network of its own; return the report."""
    able = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("unshare") and shutil.which("ip")
    probe = ["unshare", "--net", "--mount", "ip", "link", "add", "doctor0", "type", "veth", "peer", "name", "doctor1"]
    if not able or subprocess.run(probe, check=False, capture_output=True, timeout=30).returncode:
        missing("needs Linux, root, unshare, ip and network namespaces with veth")
    (folder / "patient.py").write_text(PATIENT)
    (folder / "hosts").write_text(hosts)
    env = environment(folder, HOSTS=str(folder / "hosts"), PYTHON=sys.executable, LISTEN=listen, HYBRID_HEARTBEAT_S="1",
                      DROP_LOOPBACK="1" if drop_loopback else "", PYTHONPATH=str(REPOSITORY))
    done = subprocess.run(["unshare", "--net", "--mount", "bash", "-c", NAMESPACE], cwd=folder, env=env, check=False,
                          capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr + (folder / "patient.log").read_text()
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


#: Networks, and how they are made.
NETWORKS: dict[str, dict[str, Any]] = {
    "a neighbour that drops SYNs": {"hosts": "fd00:d0c::2 localhost\n127.0.0.1 localhost\n"},
    "a loopback that drops SYNs": {"hosts": "127.0.0.1 localhost\n::1 localhost\n", "drop_loopback": True},
    "a loopback that refuses": {"hosts": "::1 localhost\n127.0.0.1 localhost\n"},
    "every loopback": {"hosts": "::1 localhost\n127.0.0.1 localhost\n", "listen": "localhost"},
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function that returns the report of a network by its name; all are examined at once, for they mostly wait."""
    with ThreadPoolExecutor(len(NETWORKS)) as pool:
        futures = {name: pool.submit(in_namespace, tmp_path_factory.mktemp("network"), **network)
                   for name, network in NETWORKS.items()}
        yield lambda name: futures[name].result()


def finding(report: dict[str, Any], check: str) -> dict[str, Any]:
    """One finding of a written report."""
    return next(item for item in report["findings"] if item["check"] == check)


@pytest.mark.once
@pytest.mark.long
def test_an_address_that_drops_syns(reported: Callable[[str], dict[str, Any]]) -> None:
    """``localhost`` leads to an IPv6 address first that drops SYNs: that is the cause, and not the host."""
    report = reported("a neighbour that drops SYNs")
    assert report["causes"] == ["address_family"], json.dumps(report, indent=1)
    found = finding(report, "addresses")
    assert found["data"]["lost_ms"] >= 1000
    assert [(item["address"], item["outcome"]) for item in found["data"]["addresses"][:2]] == [
        ("[fd00:d0c::2]:5001", "does not answer"), ("127.0.0.1:5001", "accepts")]
    assert "127.0.0.1" in found["says"]
    assert finding(report, "health")["level"] == "ok"


@pytest.mark.once
@pytest.mark.long
def test_a_loopback_address_that_drops_syns(reported: Callable[[str], dict[str, Any]]) -> None:
    """``::1`` itself drops SYNs: who tries it first is slow, which is told although this machine tries it last."""
    report = reported("a loopback that drops SYNs")
    tried = {item["address"]: item for item in finding(report, "addresses")["data"]["addresses"]}
    assert tried["[::1]:5001"]["outcome"] == "does not answer"
    assert tried["[::1]:5001"]["took_ms"] >= 1000
    assert tried["127.0.0.1:5001"]["outcome"] == "accepts"
    assert finding(report, "addresses")["level"] in ("warning", "problem")
    assert finding(report, "addresses")["cause"] == "address_family"


@pytest.mark.once
def test_a_loopback_address_that_refuses(reported: Callable[[str], dict[str, Any]]) -> None:
    """``localhost`` is ``::1`` first, where nobody listens: a warning, because Windows loses 2 s there."""
    report = reported("a loopback that refuses")
    found = finding(report, "addresses")
    assert (found["level"], found["cause"]) == ("warning", "address_family")
    assert report["verdict"] == "healthy"


@pytest.mark.once
def test_a_host_on_every_loopback_address(reported: Callable[[str], dict[str, Any]]) -> None:
    """The remedy: run(host="localhost") listens on each address of the name."""
    report = reported("every loopback")
    assert finding(report, "addresses")["level"] == "ok", json.dumps(report, indent=1)
    assert report["verdict"] == "healthy"


def test_nobody_listens() -> None:
    """Nothing else is checked, and each says why."""
    report = look(free_port())
    assert report.causes == ["nobody_listens"]
    assert {item.level for item in report.findings[2:]} == {Level.NOT_CHECKED}


@contextlib.contextmanager
def refusing(status: int, health: int) -> Iterator[int]:
    """A host, or what stands in front of it, that answers everything but ``/health`` with one status."""
    class Refusing(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            self.send_response(health if self.path == "/health" else status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_OPTIONS = refuse

        def log_message(self, *args: Any) -> None:
            """Print nothing."""

    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Refusing)) as port:
        yield port


@pytest.mark.parametrize(("status", "health"), [(401, 401), (403, 403), (404, 404), (403, 200)])
def test_a_host_that_refuses_everything_is_not_called_healthy(status: int, health: int) -> None:
    """Nothing is known of it, or only that it is up: the verdict says so, and so does the exit status."""
    with refusing(status, health) as port:
        report = look(port)
        done = CliRunner().invoke(main, ["doctor", f"http://127.0.0.1:{port}", "--requests", "1"])
    assert (report.verdict, report.known, report.causes) == ("not known", False, []), report.to_dict()
    assert report.of("health").cause == ("" if health == 200 else "refused")
    assert done.exit_code == 3, done.output
    assert "not known" in done.output.splitlines()[-1]


def test_a_name_that_does_not_resolve() -> None:
    """The name is the cause."""
    report = examine("http://no.such.host.invalid", Options(**QUICK))
    assert report.causes == ["name"]


@pytest.mark.long
def test_a_host_with_tls(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody knows is the cause; with its authority everything is checked, read and measured."""
    cert, key = certificate
    app = Flask(__name__)
    transport = HybridTransport(app, heartbeat_s=1)
    app.add_url_rule("/health", "health", lambda: transport.emit("seen") or {"status": "operational"})
    with serving(transport.socketio, app, certfile=cert, keyfile=key) as port:
        url = f"https://127.0.0.1:{port}"
        report = examine(url, Options(**QUICK))
        assert report.causes == ["tls"], json.dumps(report.to_dict(), indent=1)
        plain = look(port, wait_s=2.0)
        assert plain.verdict != "healthy"
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        report = examine(url, Options(**QUICK))
        assert report.verdict == "healthy", json.dumps(report.to_dict(), indent=1)
        benched = CliRunner().invoke(main, ["bench", url, "--clients", "5", "--stalled", "1", "--for", "0.5", "--json"])
        assert json.loads(benched.stdout)["opened"] == 5, benched.output
        tailed = CliRunner().invoke(main, ["tail", url, "--for", "0.5", "--json"])
        assert json.loads(tailed.stdout.splitlines()[0])["type"] == "open"


# -- the command -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_command(host: Running) -> None:
    """Text for people, JSON for machines, and an exit status that says whether there is a problem."""
    runner, url = CliRunner(), f"http://127.0.0.1:{host.port}"
    fine = runner.invoke(main, ["doctor", url, "--sample", "0.2", "--slow-ms", "1000"])
    assert fine.exit_code == 0, fine.output
    assert fine.output.rstrip().splitlines()[-1].startswith(f"{url}: healthy")
    sick = runner.invoke(main, ["doctor", url, "--json", "--sample", "1", "--probe", "GET /sleeps", "--requests", "1"])
    assert sick.exit_code == 1
    report = json.loads(sick.output)
    assert report["schema"] == 1
    assert "hotspot" in report["causes"]


def test_every_check_and_cause_is_documented(host: Running) -> None:
    """The table of the documentation has each check, and each cause that the source names."""
    section = (REPOSITORY / "docs" / "tools.md").read_text(encoding="utf-8").split("\n## doctor\n")[1].split("\n## ")[0]
    causes: set[str] = {"hotspot"}  # of a problem or a warning, as the samples have it
    for path in (REPOSITORY / "hakgal_hybrid" / "tools" / "doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("problem", "warning"):
                causes |= {node.args[1].value} if isinstance(node.args[1], ast.Constant) else set()
    assert len(causes) > 20
    assert not [cause for cause in causes if f"`{cause}`" not in section]
    checks = [finding.check for finding in look(host.port, sample_s=0.1, hold_s=0.1).findings]
    assert checks[2:] == list(LATER)
    assert not [check for check in checks if f"| `{check}` |" not in section]


@pytest.mark.parametrize("text", ["", "GET", "GET health", "GET /x {", "G;T /x", "/health"])
def test_probes_that_make_no_sense(text: str) -> None:
    """They are refused before anything is asked."""
    with pytest.raises(ConfigurationError, match="probe"):
        Probe.of(text)


def test_probes_as_they_are_typed() -> None:
    """Method, path, and a body that may hold spaces."""
    assert Probe.of('post /api/search {"query": "a b"}') == Probe("POST", "/api/search", {"query": "a b"})


def test_the_stream_is_closed_afterwards(host: Running) -> None:
    """An examination leaves no stream behind."""
    look(host.port)
    with Stream(host.port):
        until(lambda: host.get("/api/hybrid/status").body["streams"] == 1, "only ours is left")
