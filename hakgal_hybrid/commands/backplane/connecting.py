"""Connections to Redis, as ``HYBRID_BACKPLANE`` says: one server, a Unix socket, Sentinel, or a cluster."""

from __future__ import annotations

import encodings.idna  # noqa: F401 (a child that is forked while a thread first imports it can resolve no name)
import os
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from ...settings.backplane_url import CLUSTER, SENTINEL, service_of
from .inbox import Inbox
from .redis_faults import A_SENTINEL, TOO_OLD, WRONG_URL, fault_at, misconfigured
from .redis_log import LogOptions, Moved, RedisLog

#: Seconds that a connection may take, and an answer.
CONNECT_S = 1.0
ANSWER_S = 3.0
#: The oldest version of Redis that works.
OLDEST = (7, 0)


def connector(url: str, options: LogOptions, role: str, wait_s: float = 0.0) -> Callable[[], RedisLog]:
    """Return a function that connects to a log.

    :param url: where Redis is.
    :param options: which log it is.
    :param role: what the connection is for; Redis shows it in its list of clients.
    :param wait_s: how long a call waits for news, at most, in seconds.
    :return: the function. It resolves the address anew each time, and raises what the log does.
    """
    inbox = Inbox()

    def connect() -> RedisLog:
        client, moved = open_client(url, options.name, role, wait_s)
        return RedisLog(client, options, moved, inbox)

    return connect


def open_client(url: str, name: str, role: str, wait_s: float = 0.0) -> tuple[redis.Redis, Moved | None]:
    """Connect to the server that has a log.

    :param url: where Redis is.
    :param name: the name of the log.
    :param role: what the connection is for.
    :param wait_s: how long a call waits for news, at most, in seconds.
    :return: the client, and what says whether the log is elsewhere by now, where that can be.
    :raises Away: if Redis cannot be reached.
    :raises Misconfigured: if it refuses.
    """
    given: dict[str, Any] = {
        "protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_connect_timeout": CONNECT_S,
        "socket_timeout": ANSWER_S + wait_s, "health_check_interval": 0, "client_name": f"hakgal:{os.getpid()}:{role}"}
    try:
        client, moved = _client(url, name, given)
        # Processes that differ in whether they may ask this would take the log for cut by turns, for ever.
        server = client.info("server")
    except (RedisError, RedisClusterException, OSError) as error:
        raise fault_at(url, error, name) from error
    except (ValueError, TypeError) as error:
        raise misconfigured(WRONG_URL, name, error) from error
    version = str(server.get("redis_version", ""))
    if server.get("redis_mode") == "sentinel":
        client.close()
        raise misconfigured(A_SENTINEL, name, "")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST and version:
        client.close()
        raise misconfigured(TOO_OLD, name, version)
    return client, moved


def _client(url: str, name: str, given: dict[str, Any]) -> tuple[redis.Redis, Moved | None]:
    parts = urlsplit(url)
    if parts.scheme in SENTINEL:
        return _master(url, given)
    if parts.scheme in CLUSTER:
        return _node(url, name, given), None
    if parts.scheme != "unix":
        given = {**given, "socket_keepalive": True}
    return redis.Redis.from_url(url, max_connections=2, **given), None


def _plain(url: str, scheme: str, host: str, port: int) -> str:
    """Return the URL of one server with what else a URL says: user, password, database, options."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    address = f"[{host}]" if ":" in host else host
    return urlunsplit((scheme, f"{user}{at}{address}:{port}", _database(parts.path), parts.query, ""))


def _database(path: str) -> str:
    last = path.rpartition("/")[2]
    return f"/{last}" if last.isdigit() else ""


def _hosts(url: str, port: int) -> list[tuple[str, int]]:
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    return [(parts.hostname or "localhost", parts.port or port) for parts in (urlsplit(f"//{host}") for host in hosts)]


def _master(url: str, given: dict[str, Any]) -> tuple[redis.Redis, Moved]:
    """Ask the Sentinels which server has the log now; return its client, and what says that it is another one."""
    kept = {key: given[key] for key in ("socket_connect_timeout", "socket_timeout", "retry")}
    sentinel: Any = cast(Any, Sentinel)(_hosts(url, 26379), sentinel_kwargs={**kept, "protocol": 2})
    service = service_of(url)
    address = host, port = sentinel.discover_master(service)

    def moved() -> bool:
        return bool(sentinel.discover_master(service) != address)

    return redis.Redis.from_url(_plain(url, SENTINEL[urlsplit(url).scheme], host, port), max_connections=2,
                                socket_keepalive=True, **given), moved


def _node(url: str, name: str, given: dict[str, Any]) -> redis.Redis:
    """Ask the cluster which of its nodes has the keys of the log, which are all in one slot."""
    from redis.cluster import ClusterNode, RedisCluster

    scheme = CLUSTER[urlsplit(url).scheme]
    (first, port), *_ = hosts = _hosts(url, 6379)
    plain = urlsplit(_plain(url, scheme, first, port))
    secrets: dict[str, Any] = {"username": plain.username and unquote(plain.username),
                               "password": plain.password and unquote(plain.password), "ssl": scheme == "rediss"}
    nodes = [cast(Any, ClusterNode)(*host) for host in hosts]
    cluster: Any = RedisCluster(startup_nodes=nodes, socket_timeout=ANSWER_S, socket_connect_timeout=CONNECT_S,
                                protocol=2, **secrets)
    try:
        node = cluster.get_node_from_key(f"{{{name}}}:log")
        if node is None:
            raise redis.exceptions.ClusterError(f"no node has the slot of {name!r}")
        host, port = str(node.host), int(node.port)
    finally:
        cluster.close()
    return redis.Redis.from_url(_plain(url, scheme, host, port), max_connections=2, socket_keepalive=True, **given)
