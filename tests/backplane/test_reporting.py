"""What an operator hears of a backplane: a line of the log, a signal, and the status, for each change of its state."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support.redis_server import RedisServer
from support.shared_apps import App, until

from hakgal_hybrid import signals
from hakgal_hybrid.logs import LIMIT

SECRET = "s3cret-w0rd"
REPORTING = "hakgal_hybrid.commands.backplane.reporting"


@pytest.fixture
def peer(redis_server: RedisServer) -> Iterator[App]:
    LIMIT.forget()
    app = App(redis_server)
    yield app
    app.stop()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == REPORTING]


def test_an_outage_is_a_line_at_its_beginning_and_one_at_its_end(
        redis_server: RedisServer, peer: App, caplog: pytest.LogCaptureFixture) -> None:
    """Each names the variable and the address; the first has the error of the connection; a signal comes with each."""
    states: list[dict[str, Any]] = []

    def receive(sender: object, **values: Any) -> None:
        states.append(values)

    with caplog.at_level(logging.INFO, "hakgal_hybrid"), peer.open(), \
            signals.backplane_changed.connected_to(receive, peer.flask):
        until(lambda: peer.status()["backplane"]["state"] == "live")
        redis_server.kill()
        until(lambda: peer.status()["backplane"]["state"] == "away")
        until(lambda: not peer.status()["backplane"]["live"])
        redis_server.start()
        until(lambda: peer.status()["backplane"]["state"] == "live")
        until(lambda: any("live again" in line for line in said(caplog)))
        until(lambda: states[-1:] == [{"state": "live", "live": True, "error": None}])
    lines = said(caplog)
    assert all(f"redis://127.0.0.1:{redis_server.port}/0 (HYBRID_BACKPLANE, name 'shared')" in line for line in lines)
    assert sum("is away" in line for line in lines) == 1
    assert "onnection" in next(line for line in lines if "is away" in line)
    assert "is live" in lines[0] or "settles" in lines[0]
    assert any(values["state"] == "away" and not values["live"] and values["error"] for values in states)


def test_losses_are_logged_with_their_count(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A sender that had to drop events says how many: so does the log of a process that reads what is left."""
    LIMIT.forget()
    app = App(redis_server, outbox_events=10)
    try:
        with app.open():
            until(lambda: app.status()["backplane"]["state"] == "live")
            redis_server.kill()
            for number in range(50):
                app.transport.emit("fact", {"number": number})
            dropped = app.status()["backplane"]["sender"]["outbox"]["dropped"]
            redis_server.start()
            until(lambda: any("are missing" in line for line in said(caplog)))
    finally:
        app.stop()
    line = next(line for line in said(caplog) if "are missing" in line)
    assert dropped
    assert line.startswith(f"{dropped} events of the backplane are missing (lost): ")


def test_the_status_says_where_the_backplane_is_without_the_password(
        redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the status nor the log has what stands before the @; what is wrong comes with its remedy."""
    LIMIT.forget()
    wrong = App(redis_server, backplane=f"redis://who:{SECRET}@127.0.0.1:{redis_server.port}/0")
    try:
        with wrong.open():
            until(lambda: any("cannot be used" in line for line in said(caplog)))
            status = wrong.status()["backplane"]
    finally:
        wrong.stop()
    assert status["state"] == "misconfigured"
    assert status["address"] == f"redis://***@127.0.0.1:{redis_server.port}/0"
    assert status["name"] == "shared"
    assert "HYBRID_BACKPLANE" in status["error"]
    assert "password" in status["error"]
    assert SECRET not in str(status)
    assert SECRET not in caplog.text
