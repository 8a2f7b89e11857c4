"""Running in production: what the page shows is run as it stands, where there is what runs it."""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.hosts import environment, free_port, listens, until
from support.proxies import PAGE, Proxy, found, nginx, replaced, running, shown
from support.servers import STATUS, STREAM, Http, Server, wait_until
from support.socketio_clients import client

from hakgal_hybrid import Settings
from hakgal_hybrid.broker.engineio.upper import EngineOptions
from hakgal_hybrid.tools.doctor import Options, examine

pytestmark = pytest.mark.once

HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}


@pytest.fixture(scope="module")
def host() -> Iterator[Server]:
    """A host with times that can be waited for."""
    with Server("ours", HYBRID_HEARTBEAT_S=0.5, HYBRID_STALL_S=1.5, HYBRID_RESUME_S=0, ENABLE_WS_SPECIAL="true",
                HYBRID_LOG_BYTES=100_000_000) as server:
        yield server


@contextlib.contextmanager
def caddy(folder: Path, upstream: int, *, socketio: bool = False) -> Iterator[Proxy]:
    """Run Caddy with the page's configuration, over plain HTTP and without its port for administrators.

    :param socketio: with the page's matcher for clients of Socket.IO.
    """
    program, port = found("caddy"), free_port()
    matcher = "@host path /api/* /health /socket.io/*"
    assert f"`{matcher}`" in PAGE.read_text(encoding="utf-8")
    (folder / "Caddyfile").write_text(replaced(shown("caddy"), **{
        "@host path /api/* /health": matcher if socketio else "@host path /api/* /health",
        "127.0.0.1:5001": f"127.0.0.1:{upstream}", "dash.example {": f"http://127.0.0.1:{port} {{",
        "{\n\tgrace_period": "{\n\tadmin off\n\tgrace_period"}))
    command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with running(command, port, folder / "log", HOME=str(folder)):
        yield Proxy(port, 101)


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, host: Server) -> Iterator[Proxy]:
    """Each of the proxies."""
    with request.param(tmp_path_factory.mktemp("proxy"), host.port) as found:
        yield found


# -- proxies ------------------------------------------------------------------------------------------------------


def test_events_come_at_once(host: Server, proxy: Proxy) -> None:
    """Each event comes before the next one is emitted, and heartbeats in between; nothing is compressed."""
    with proxy.stream({"Accept-Encoding": "gzip, zstd, br"}) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in stream.headers
        for number in range(1, 6):
            host.emit("note", data=number)
            assert stream.wait_for("note", number) == list(range(1, number + 1))
        before = len(stream.heartbeats)
        stream.read_until(lambda stream: len(stream.heartbeats) > before)


def test_a_stream_is_resumed(host: Server, proxy: Proxy) -> None:
    """``Last-Event-ID`` reaches the host: what was emitted meanwhile follows, once."""
    with proxy.stream() as stream:
        host.emit("note", data=1)
        stream.wait_for("note")
        last = stream.id
    host.emit("note", 3)
    with proxy.stream({"Last-Event-ID": last}) as stream:
        assert len(stream.wait_for("note", 3)) == 3
        assert not stream.named("hybrid_gap")


@pytest.mark.parametrize("kind", [nginx, caddy], ids=["nginx", "caddy"])
def test_who_hangs_up_is_noticed(tmp_path: Path, kind: Callable[[Path, int], AbstractContextManager[Proxy]]) -> None:
    """The proxy hangs up on the host as soon as its client does: no heartbeat needs to fail first."""
    with Server("ours", HYBRID_HEARTBEAT_S=60) as host, kind(tmp_path, host.port) as proxy:
        with proxy.stream() as stream:
            stream.wait_for("hybrid_open")
            host.wait_for_streams(1)
        host.wait_for_streams(0)


def test_the_host_sees_the_visitors_address_and_no_other(host: Server, proxy: Proxy) -> None:
    """Whatever forwarding headers a client makes up: the last word is the proxy's. ``Host`` is the client's."""
    name = f"127.0.0.1:{proxy.port}"
    forged = {"Host": name, "X-Forwarded-For": "127.0.0.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    seen = proxy.ask("/api/hybrid/seen", **forged)
    headers = seen.json()["headers"]
    said = headers["X-Forwarded-For"].split(", ")
    assert said[-1] == "127.0.0.1"
    assert not {"X-Real-IP", "Forwarded"} & headers.keys()
    assert headers["Host"] == name
    assert seen.json()["protocol"] == "HTTP/1.1"
    assert seen.json()["loopback"] is True
    # Where the proxy appends, who makes up another address is of another machine: it may have been a proxy's before.
    elsewhere = proxy.ask("/api/hybrid/seen", **{**forged, "X-Forwarded-For": "203.0.113.9"})
    assert elsewhere.status == (200 if len(said) == 1 else 403)


def test_what_is_passed_on(host: Server, proxy: Proxy) -> None:
    """The package's URLs and the host's health, and nothing else."""
    assert proxy.ask("/health").body == host.ask("GET", "/health").body
    assert proxy.ask(STATUS).status == 200
    for path in ("/work?seconds=0", "/healthy", "/apiary"):
        assert proxy.ask(path).body != host.ask("GET", path).body


def test_websockets(proxy: Proxy) -> None:
    """What becomes of a handshake is as the page says: nginx takes it away."""
    with Http(proxy.port) as http:
        http.request("GET", "/api/events/ws", headers=HANDSHAKE)
        assert http.head()[0] == proxy.websocket


def test_nginx_lets_websockets_through_if_told_to(host: Server, tmp_path: Path) -> None:
    """With the location that the page shows."""
    with nginx(tmp_path, host.port, websocket=True) as proxy, Http(proxy.port) as http:
        http.request("GET", "/api/events/ws", headers=HANDSHAKE)
        assert http.head()[0] == 101
        http.until(b"hybrid_open")


@pytest.mark.parametrize("kind", [nginx, caddy], ids=["nginx", "caddy"])
def test_clients_of_socketio(host: Server, tmp_path: Path, kind: Callable[..., AbstractContextManager[Proxy]]) -> None:
    """With what the page shows for them: by polling, by a WebSocket, and from one to the other; events come at once."""
    clients, got = [], {}
    with kind(tmp_path, host.port, socketio=True) as proxy:
        try:
            for way, transports in {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}.items():
                clients.append(client())
                got[way] = queue.SimpleQueue()
                clients[-1].on("note", got[way].put)
                clients[-1].connect(f"http://127.0.0.1:{proxy.port}", transports=transports)
            assert [client.transport() for client in clients] == ["polling", "websocket", "websocket"]
            for number in range(3):
                host.emit("note", data=number)
                assert [notes.get(timeout=30) for notes in got.values()] == [number] * 3
        finally:
            for one in clients:
                one.disconnect()


def test_a_client_that_stops_reading_is_the_hosts_to_close(host: Server, proxy: Proxy) -> None:
    """It is the host that gives it up and counts it, not the proxy that hides it."""
    def stalled() -> int:
        return int(host.status()["traffic"]["ended"].get("stalled", 0))

    before = stalled()
    with proxy.stream(rcvbuf=4096):
        host.wait_for_streams(1)
        host.emit("large", 80, size=500_000)  # more than all buffers on the way hold
        wait_until(lambda: stalled() == before + 1, 15, "the host to close it")


def test_nginx_speaks_http_2(host: Server, tmp_path: Path) -> None:
    """To browsers, over TLS; events come at once there, too."""
    curl = found("curl")
    with nginx(tmp_path, host.port) as proxy, subprocess.Popen(
            [curl, "-skN", "--http2", "--max-time", "20", "-D", "-", f"https://127.0.0.1:{proxy.tls}{STREAM}"],
            stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(b"HTTP/2 200")
            assert any(b"hybrid_open" in line for line in process.stdout)
            host.emit("note", data="over HTTP/2")
            assert any(b"over HTTP/2" in line for line in process.stdout)
        finally:
            process.kill()


# -- other servers behind nginx -----------------------------------------------------------------------------------


TRUSTING = ["--trusted-proxy-headers=x-forwarded-for"]
SERVED: dict[str, tuple[str, list[str], bool]] = {
    "waitress": ("tcp", ["waitress-serve"], False),
    "waitress, trusted_proxy": ("tcp", ["waitress-serve", "--trusted-proxy=127.0.0.1", *TRUSTING], True),
    "waitress, Forwarded": (
        "tcp", ["waitress-serve", "--trusted-proxy=127.0.0.1", "--trusted-proxy-headers=forwarded"], False),
    "waitress, nothing removed": ("tcp", ["waitress-serve", "--no-clear-untrusted-proxy-headers"], True),
    "waitress, Unix": ("unix", ["waitress-serve"], False),
    "waitress, Unix, trusted_proxy": ("unix", ["waitress-serve", "--trusted-proxy=localhost", *TRUSTING], True),
    "gunicorn gthread": ("tcp", ["gunicorn", "-k", "gthread", "--threads", "8"], True),
    "gunicorn gthread, Unix": ("unix", ["gunicorn", "-k", "gthread", "--threads", "8"], True),
    "gunicorn gevent, Unix": ("unix", ["gunicorn", "-k", "gevent", "--forwarded-allow-ips", "*"], True),
}


@contextlib.contextmanager
def serving(folder: Path, kind: str) -> Iterator[int | str]:
    """Run another server on a port or a Unix socket; yield what nginx calls that."""
    where, [program, *options], _ = SERVED[kind]
    port, path = free_port(), folder / "socket"
    if program == "gunicorn":
        bound = f"127.0.0.1:{port}" if where == "tcp" else f"unix:{path}"
        command = [*options, "--bind", bound, "--worker-tmp-dir", str(folder), "support.app:create_app()"]
    else:
        bound = f"--listen=127.0.0.1:{port}" if where == "tcp" else f"--unix-socket={path}"
        command = [*options, bound, "--unix-socket-perms=777", "--threads=8", "--call", "support.app:create_app"]
    with (folder / "served").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", {"waitress-serve": "waitress"}.get(program, program), *command],
            cwd=PAGE.parents[1] / "tests", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=environment(folder, PYTHONPATH=str(PAGE.parents[1] / "tests"), PYTHONWARNINGS="ignore"))
    try:
        until(lambda: process.poll() is not None or path.exists() or (where == "tcp" and listens(port)), "it serves")
        assert process.poll() is None, (folder / "served").read_text(errors="replace")
        yield port if where == "tcp" else f"unix:{path}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="neither gunicorn nor Unix sockets")
@pytest.mark.parametrize("kind", SERVED)
def test_who_is_this_machine_under_other_servers(tmp_path: Path, kind: str) -> None:
    """Behind the page's nginx a visitor from elsewhere never counts as this machine, and a local one where it is known.

    Where it cannot be known, the refusal, the log and the doctor name the option.
    """
    tmp_path.chmod(0o755)
    with serving(tmp_path, kind) as upstream, nginx(tmp_path, upstream) as proxy:
        name = f"127.0.0.1:{proxy.port}"
        local = proxy.ask(STATUS, Host=name)
        for forged in ({}, {"X-Forwarded-For": "::1"}, {"X-Real-IP": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
            away = proxy.ask_from("203.0.113.5", STATUS, Host=name, **forged)
            assert (away.status, away.json()["code"]) == (403, "loopback_only"), (forged, away)
        assert proxy.ask("/health", Host=name).status == 200
        assert local.status == (200 if SERVED[kind][2] else 403), local
        if not SERVED[kind][2]:
            assert "trusted_proxy=" in local.json()["detail"]
            wait_until(lambda: "nobody counts as this machine: waitress" in (tmp_path / "served").read_text())
            finding = {finding.check: finding for finding in examine(f"http://127.0.0.1:{proxy.port}", Options(
                requests=1, wait_s=1, hold_s=0.1)).findings}["forwarding"]
            assert "trusted_proxy=" in finding.says


# -- services -----------------------------------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """``systemd-analyze verify`` has no complaint about the unit, whose program and user are exchanged."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / "hakgal.service"
    text = replaced(shown("systemd"), **{"/srv/hakgal/venv/bin/hakgal-hybrid": sys.executable, "hakgal\nGroup=hakgal":
                                         "daemon\nGroup=daemon"})
    unit.write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60,
                          check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "hakgal" in line]
    assert not ours, ours
    unit.write_text(text.replace("Type=exec", "Type=exce"))
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60,
                          check=False)
    assert "exce" in done.stderr, "it would have said so"


def test_the_unit_gives_the_host_what_it_needs() -> None:
    """Time to stop, descriptors for all limits together, and the settings of its environment exist."""
    unit = dict(line.split("=", 1) for line in shown("systemd").splitlines() if re.match(r"\w+=", line))
    settings = Settings()
    assert int(unit["TimeoutStopSec"]) > 2 * settings.drain_s
    assert int(unit["LimitNOFILE"]) > settings.max_streams + settings.max_connections + settings.max_upgrades
    names = {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    assert {line.partition("=")[0] for line in shown("environment").splitlines()} <= names
    assert unit["ExecStart"].split()[1] == "run"


def test_a_wrong_setting_is_not_tried_again(tmp_path: Path) -> None:
    """The status that the unit takes for final is the one that a wrong setting ends with."""
    done = subprocess.run([sys.executable, "-m", "hakgal_hybrid", "run", "flask:Flask"], capture_output=True, text=True,
                          env=environment(tmp_path, HYBRID_STALL_S="soon"), timeout=60, check=False)
    assert "HYBRID_STALL_S" in done.stderr, done.stderr
    assert f"RestartPreventExitStatus={done.returncode}\n" in shown("systemd")


@pytest.mark.parametrize(("mark", "needed"), [
    ("iis: site", ["rewrite/rules/rule", "urlCompression", "caching"]),
    ("winsw", ["executable", "arguments", "stoptimeout", "onfailure"])])
def test_xml_is_well_formed(mark: str, needed: list[str]) -> None:
    """There is no IIS and no Windows here, so nothing more is known of these."""
    root = ElementTree.fromstring(shown(mark).encode())
    for path in needed:
        assert root.find(path if mark == "winsw" else f"system.webServer/{path}") is not None, path


def test_iis_is_told_what_every_proxy_must_be_told() -> None:
    """Nothing is buffered or compressed, ``Host`` and the client's address are passed on, and nobody else's word."""
    for option in ("/enabled:true", "/preserveHostHeader:true", "/responseBufferLimit:0", "/httpVersion:Http11",
                   "/xForwardedForHeaderName:X-Forwarded-For", "HTTP_X_REAL_IP", "HTTP_FORWARDED"):
        assert option in shown("iis: server"), option
    for name in ("HTTP_X_REAL_IP", "HTTP_FORWARDED"):
        assert f'<set name="{name}" value="" />' in shown("iis: site")
    assert 'doDynamicCompression="false"' in shown("iis: site")


def test_metrics_that_are_named_exist() -> None:
    """What is to be watched is in the table of metrics."""
    known = set(re.findall(r"^\| `(hakgal_hybrid_\w+)`", (PAGE.parent / "metrics.md").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bhakgal_hybrid_[a-z_]+", PAGE.read_text()))
    assert named
    assert named <= known


def test_time_outs_are_in_the_order_that_the_page_demands() -> None:
    """What the configurations say agrees with the defaults of the settings."""
    settings = Settings()

    def seconds(name: str, mark: str = "nginx: site") -> float:
        [value] = re.findall(rf"^\s*{name} (\d+)s;", shown(mark), re.MULTILINE)
        return float(value)

    assert settings.heartbeat_s * 2 <= seconds("proxy_read_timeout")
    assert settings.stall_s < seconds("send_timeout")
    assert seconds("keepalive_timeout") < settings.request_s
    assert settings.queue_s < seconds("proxy_read_timeout")
    assert EngineOptions().ping_interval_s * 2 <= seconds("proxy_read_timeout", "nginx: socketio")
    assert f"client_max_body_size {settings.max_body_bytes >> 20}m;" in shown("nginx: site")
    assert f'maxAllowedContentLength="{settings.max_body_bytes}"' in shown("iis: site")
    assert settings.stall_s < settings.max_backlog_s
    for name in ("heartbeat_s", "stall_s", "drain_s", "request_s", "queue_s", "resume_s", "max_backlog_s"):
        assert f"`HYBRID_{name.upper()}` | {getattr(settings, name)} s |" in PAGE.read_text(), name
