"""The processes that have one log know of each other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from support.redis_server import RedisServer
from support.shared_apps import App, Host, until

from hakgal_hybrid.broker.backplane.peers import MAX_PEERS, Peers
from hakgal_hybrid.broker.backplane.presence import ALIVE_S, EACH_S
from hakgal_hybrid.broker.backplane.shared_log import Said


def names(app: App) -> list[str]:
    return [peer["process"] for peer in app.status()["backplane"]["peers"]]


def said(process: str, age_s: float = 0.0) -> Said:
    return Said(process, json.dumps({"host": "a", "pid": 1, "position": "1-2", "clients": 3}).encode(), age_s)


@pytest.mark.long
def test_status_names_every_process(hosts: tuple[Host, Host]) -> None:
    """Each process says what it is and how many clients it has; everybody adds that up, within a moment."""
    here, there = hosts
    with there.open() as first, there.open(), here.open():
        until(lambda: all(host.status()["backplane"]["clients"] == 3 for host in hosts))
        there.transport.emit("tick")
        first.until("tick")
        until(lambda: len({peer["position"] for peer in here.status()["backplane"]["peers"]}) == 1, 15)
        status = here.status()["backplane"]
        assert status["processes"] == 2
        assert status["streams"] == 3
        assert {(peer["clients"], peer["streams"], peer["here"]) for peer in status["peers"]} == {
            (1, 1, True), (2, 2, False)}
        for peer in status["peers"]:
            assert (peer["host"], peer["pid"], peer["kind"]) == (socket.gethostname(), os.getpid(), "host")
            assert 0 <= peer["heard_s"] < 12
            assert 0 <= peer["lag_s"] < 5
    until(lambda: all(host.status()["backplane"]["streams"] == 0 for host in hosts))


def test_newcomer_knows_those_that_were_there(hosts: tuple[Host, Host], redis_server: RedisServer) -> None:
    """A process that starts knows the others at once, and not by waiting until they speak again."""
    with hosts[0].open(), hosts[1].open():
        until(lambda: len(names(hosts[0])) == 2)
        third = Host(redis_server)
        try:
            with third.open():
                until(lambda: len(names(third)) == 3, EACH_S / 2)
        finally:
            third.stop()


def test_process_that_ends_is_taken_out_at_once(hosts: tuple[Host, Host]) -> None:
    """One that ends in order says so."""
    here, there = hosts
    with here.open(), there.open():
        until(lambda: len(names(here)) == 2)
        there.stop()
        until(lambda: len(names(here)) == 1, ALIVE_S / 3)


def test_flushed_redis_knows_them_soon(hosts: tuple[Host, Host], redis_server: RedisServer) -> None:
    """After a flush each process says again that it is there, so that requests for its clients find it."""
    here, there = hosts
    with here.open(), there.open() as stream:
        until(lambda: len(names(here)) == 2)
        with redis_server.client() as client:
            client.flushall()
            key = f"{{shared}}:here:{stream.open['sid'][:16]}"
            until(lambda: client.exists(key), 0.7 * EACH_S)
        assert len(names(here)) == 2


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by a signal")
def test_killed_process_is_forgotten(redis_server: RedisServer) -> None:
    """Of a process that was killed nothing is left after half a minute."""
    program = textwrap.dedent(f"""
        from flask import Flask
        from hakgal_hybrid import HybridTransport
        from hakgal_hybrid.testing import open_stream
        app = Flask("shared")
        HybridTransport(app, backplane={redis_server.url!r})
        with open_stream(app.test_client()) as stream:
            print(stream.open["sid"], flush=True)
            stream.until("never")
    """)
    app = App(redis_server)
    try:
        with app.open(), subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            process = other.stdout.readline()[:16]
            until(lambda: process in names(app))
            other.send_signal(signal.SIGKILL)
            other.wait()
            assert process in names(app)
            until(lambda: process not in names(app), 32.0)
    finally:
        app.stop()


def test_what_was_said_counts_for_a_while() -> None:
    """What a process has said counts from then on, also for one that hears it later; a farewell ends it."""
    now = 100.0
    peers = Peers(30.0, lambda: now)
    peers.heard([said("a"), said("b", 20.0), said("c", 31.0)])
    assert "a" in peers
    assert "b" in peers
    assert "c" not in peers
    now = 111.0
    assert "a" in peers
    assert "b" not in peers
    assert len(peers) == 1
    (peer,) = peers.listed("a")
    assert (peer.clients, peer.heard_s, peer.here) == (3, 11.0, True)
    peers.heard([Said("a", b"")])
    assert "a" not in peers
    assert not peers.listed("")


def test_number_of_processes_is_bounded() -> None:
    """Whatever is in Redis, a process remembers so many others, those that spoke last."""
    peers = Peers(30.0, lambda: 0.0)
    peers.heard([said(str(number)) for number in range(MAX_PEERS + 10)])
    assert len(peers) == MAX_PEERS
    assert "9" not in peers
    assert "10" in peers


def test_what_another_version_says() -> None:
    """A process whose words are not understood is still one that is alive."""
    peers = Peers(30.0, lambda: 0.0)
    peers.heard([Said("a", b'{"host": "x"}'), Said("b", b"[]")])
    assert [peer.process for peer in peers.listed("")] == ["a", "b"]
