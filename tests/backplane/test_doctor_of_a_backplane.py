"""The doctor and the Redis of a backplane: what is wrong with it is named, with what to do, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.redis_server import RedisServer
from support.servers import Server, wait_until

from hakgal_hybrid.commands.backplane.examination import examine
from hakgal_hybrid.commands.backplane.redis_faults import RIGHTS
from hakgal_hybrid.tools.doctor import Finding, Options
from hakgal_hybrid.tools.doctor.backplane import check_backplane
from hakgal_hybrid.tools.doctor.target import ExaminedHost
from hakgal_hybrid.tools.remote.request import Base, resolve

pytestmark = pytest.mark.timeout(120)

SECRET = "s3cret-w0rd"


@contextmanager
def redis_with(folder: Path, *options: str) -> Iterator[RedisServer]:
    running = RedisServer(folder, *options)
    try:
        yield running
    finally:
        running.kill()


def found(url: str, **settings: Any) -> dict[str, Finding]:
    """What the doctor finds at a host that has a backplane at a URL, by check."""
    with Server("ours", HYBRID_BACKPLANE=url, HYBRID_BACKPLANE_NAME="examined", **settings) as server:
        with server.opened():
            wait_until(lambda: server.status()["backplane"]["state"] not in ("new", "settling"), 30)
            base = Base.of(f"http://127.0.0.1:{server.port}")
            host = ExaminedHost(base, {}, Options(), resolve(base)[0])
            host.identify()
            assert host.seen["backplane"] is True
            return {finding.check: finding for finding in check_backplane(host)}


def causes(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.cause for check, finding in findings.items() if finding.cause}


def test_a_redis_that_is_as_it_should_be(redis_server: RedisServer) -> None:
    """Every check is in order, with figures; without a file of its own the hint is there all the same."""
    findings = found(redis_server.url)
    assert causes(findings) == {}
    assert list(findings) == ["backplane", "redis_rights", "redis_server", "redis_memory", "redis_clock", "redis_data"]
    assert "appendonly yes" in findings["redis_data"].evidence[0]
    assert any(text.startswith("processes with this log: ") for text in findings["backplane"].evidence)
    assert abs(findings["redis_clock"].data["clock_ms"]) < 1000


def test_a_redis_that_is_not_there(redis_server: RedisServer) -> None:
    """The error of the connection, the variable, and what stands in it without the password."""
    findings = found(f"redis://:{SECRET}@127.0.0.1:1/0")
    assert causes(findings) == {"backplane": "backplane_away"}
    assert "redis://***@127.0.0.1:1/0" in findings["backplane"].says
    assert "HYBRID_BACKPLANE" in findings["backplane"].remedy
    assert SECRET not in repr(findings)


@pytest.mark.long
@pytest.mark.parametrize("password", ["wrong", SECRET])
def test_a_user_that_may_too_little(redis_server: RedisServer, password: str) -> None:
    """A wrong password refuses all; missing commands are each named; the remedy has the whole list."""
    rights = RIGHTS.replace("+evalsha ", "").replace("+xtrim ", "").replace("+client|setname", "+client")
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "few", "on", f">{SECRET}", "~{examined}:*", *rights.split())
    try:
        findings = found(f"redis://few:{password}@127.0.0.1:{redis_server.port}/0")
    finally:
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", "few")
    if password == "wrong":
        assert causes(findings) == {"backplane": "backplane_refuses"}
        assert "password" in findings["backplane"].remedy
    else:
        assert causes(findings) == {"backplane": "backplane_stuck", "redis_rights": "redis_commands"}
        assert findings["redis_rights"].evidence == ("evalsha, xtrim",)
        assert "~{examined}:* +ping" in findings["redis_rights"].remedy
    assert SECRET not in repr(findings)


def test_keys_of_another_name(redis_server: RedisServer) -> None:
    """A user for another log may run everything, and on these keys nothing."""
    with redis_server.client() as client:
        before = client.dbsize()
        client.execute_command("ACL", "SETUSER", "other", "on", f">{SECRET}", "~{another}:*", "+@all")
    examined = examine(f"redis://other:{SECRET}@127.0.0.1:{redis_server.port}/0", "examined")
    assert (examined["keys"], examined["missing_rights"]) == (False, [])
    with redis_server.client() as client:
        client.execute_command("ACL", "DELUSER", "other")
        assert client.dbsize() == before  # trying changes nothing


@pytest.mark.long
def test_a_redis_that_drops_keys_or_is_full(tmp_path: Path) -> None:
    """A policy that may drop the log itself, and memory that is nearly used up, are warned of."""
    with redis_with(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as redis:
        assert causes(found(redis.url)) == {"redis_memory": "redis_eviction"}
        with redis.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))
        assert causes(found(redis.url))["redis_memory"] == "redis_full"


@pytest.mark.long
def test_a_replica_and_a_master_that_has_one(tmp_path: Path) -> None:
    """A replica takes no writes; a master with replicas is asked for by Sentinels, or a failover is missed."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with redis_with(tmp_path / "one") as master, \
            redis_with(tmp_path / "two", "--replicaof", "127.0.0.1", str(master.port)) as replica:
        with master.client() as client:
            wait_until(lambda: client.info("replication")["connected_slaves"] == 1, 30)
        assert causes(found(replica.url))["redis_server"] == "redis_replica"
        assert causes(found(master.url)) == {"redis_server": "redis_failover"}


@pytest.mark.long
def test_another_application_with_the_same_name(redis_server: RedisServer) -> None:
    """The log belongs to one application; the other learns both, and the variable."""
    found(redis_server.url)
    with redis_server.client() as client:
        client.hset("{examined}:meta", "app", "another.app")
    findings = found(redis_server.url)
    assert causes(findings)["backplane"] == "backplane_shared"
    assert "'another.app'" in findings["backplane"].says
    assert "HYBRID_BACKPLANE_NAME" in findings["backplane"].remedy


@pytest.mark.parametrize(("version", "cause"), [("6.2.14", "redis_version"), ("7.0.0", ""), ("8.0.1", "")])
def test_versions(version: str, cause: str) -> None:
    """Redis 7.0 is the oldest; the clock and the rest are judged by what the host has found."""
    from hakgal_hybrid.tools.doctor import backplane

    finding = backplane._server({"version": version, "server": "redis", "role": "master", "replicas": 0,
                                 "sentinel": False, "address": "redis://a"})
    assert finding.cause == cause
    late = backplane._clock({"clock_ms": -61_000.0})
    assert late.cause == "redis_clock"
    assert "behind" in late.says
