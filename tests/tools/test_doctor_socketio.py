"""The doctor on a host with clients of Socket.IO: what keeps them from WebSockets, and what cuts their polls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.hosts import serving
from support.patients import nginx
from support.servers import wait_until

from hakgal_hybrid.broker.engineio.counters import EngineCounters
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.tools.doctor import Level, Options, Report, examine
from hakgal_hybrid.tools.doctor.polling import check_upgrade
from hakgal_hybrid.tools.doctor.target import CLIENTS, STATUS, ExaminedHost
from hakgal_hybrid.tools.remote.request import Answer, Base, resolve

QUICK: dict[str, Any] = {"requests": 1, "sample_s": 0.1, "wait_s": 4.0, "slow_ms": 1000.0}
FORWARDED = ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Host $http_host; "
             "proxy_buffering off;")
WEBSOCKETS = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";"


class Host:
    """A host that serves clients of Socket.IO, whose polls wait for a second."""

    def __init__(self) -> None:
        self.app = Flask("host")
        self.app.config.update(SECRET_KEY="for tests", HYBRID_ENABLE_WS_SPECIAL=True, HYBRID_HEARTBEAT_S=1)
        self.app.add_url_rule("/health", "health", lambda: {"status": "operational"})
        self.socketio = SocketIO(self.app, ping_interval=1.0, ping_timeout=20)
        self.port = 0

    @property
    def counters(self) -> EngineCounters:
        counters: EngineCounters = self.app.extensions["hakgal_hybrid"].state.node.engine_counters
        return counters


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    site = Host()
    with serving(site.socketio, site.app) as port:
        site.port = port
        yield site


def look(port: int, **options: Any) -> Report:
    return examine(f"http://127.0.0.1:{port}", Options(**{**QUICK, **options}))


@pytest.mark.long
def test_nothing_is_wrong(host: Host) -> None:
    """A session opens, changes over and is closed; a poll waits for the host's ping. Nobody stays."""
    report = look(host.port)
    assert report.verdict == "healthy", json.dumps(report.to_dict(), indent=1)
    assert report.of("upgrade").level is report.of("polls").level is Level.OK
    assert report.of("polls").says.startswith("a poll may wait for ")
    wait_until(lambda: not list(host.counters.sessions()), what="its sessions end")


def test_a_proxy_that_passes_no_websockets(tmp_path: Path, host: Host) -> None:
    """Nginx without the two headers: the client would poll for ever; the host has seen what was taken away."""
    with nginx(tmp_path, host.port, FORWARDED) as port:
        report = look(port)
    assert report.causes == ["no_upgrade"], json.dumps(report.to_dict(), indent=1)
    finding = report.of("upgrade")
    assert "it came to the host without the header Upgrade" in finding.evidence
    assert "proxy_set_header Upgrade" in finding.remedy
    assert report.of("polls").level is Level.OK


def test_a_proxy_that_cuts_polls(tmp_path: Path, host: Host) -> None:
    """Nginx with a read time-out below ``ping_interval``. Streams, whose heartbeat is as slow, are cut as well."""
    with nginx(tmp_path, host.port, FORWARDED + WEBSOCKETS + "proxy_read_timeout 400ms;") as port:
        report = look(port)
    assert "poll_cut" in report.causes, json.dumps(report.to_dict(), indent=1)
    finding = report.of("polls")
    assert 0.3 < finding.data["cut_after_s"] < 1
    assert finding.evidence == ("it was answered with 504",)
    assert report.of("upgrade").level is Level.OK


class Later(ExaminedHost):
    """The host as it will be when its clients have been there for a minute."""

    def ask(self, method: str, path: str, *args: Any, **options: Any) -> Answer:
        answer = super().ask(method, path, *args, **options)
        document = answer.json()
        if path == STATUS:
            document["socketio"]["not_upgraded"] = document["socketio"]["polling"]
        elif path.startswith(CLIENTS):
            for client in document["clients"]:
                client["age_s"] += 60
        else:
            return answer
        return replace(answer, body=json.dumps(document).encode())


def test_a_client_that_does_not_change_over_is_named(host: Host) -> None:
    """By the beginning of its ``sid``, its address and its age, where it would work for us."""
    client, url = host.app.test_client(), "/socket.io/?EIO=4&transport=polling"
    session = f"{url}&sid={json.loads(client.get(url).get_data()[1:])['sid']}"
    client.post(session, data="40")
    sid = json.loads(client.get(session).get_data()[2:])["sid"]
    base = Base.of(f"http://127.0.0.1:{host.port}")
    examined = Later(base, {}, Options(**QUICK), address=resolve(base)[0])
    examined.identify()
    finding = check_upgrade(examined)
    assert (finding.level, finding.cause) == (Level.WARNING, "clients_poll")
    assert finding.evidence == (f"{sid[:8]}… of 127.0.0.1, since 60 s",)
    client.post(session, data="1")
    assert check_upgrade(examined).level is Level.OK


def test_a_host_without_clients_of_socketio() -> None:
    """Neither check is made."""
    app = Flask("host")
    app.add_url_rule("/health", "health", lambda: {"status": "operational"})
    with serving(SocketIO(app), app) as port:
        checks = [finding.check for finding in look(port, hold_s=0.1).findings]
    assert not {"upgrade", "polls"} & set(checks)


def test_a_key_that_is_not_shown() -> None:
    """What the host has said is the reason why the check is not made."""
    base = Base.of("http://127.0.0.1:1")
    examined = ExaminedHost(base, {}, Options(), why_not="the host does not let us ask")
    assert check_upgrade(examined).says == "not checked because the host does not let us ask"
