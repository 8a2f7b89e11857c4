"""For the doctor: what a Redis says of itself, and what this process may do there. Nothing is written."""

from __future__ import annotations

import time
from typing import Any, cast

import redis
from redis.exceptions import NoPermissionError, RedisError

from ...broker.backplane.faults import Away, Misconfigured
from .connecting import open_client
from .redis_faults import RIGHTS

#: Each right that is needed besides those to connect, as a call that changes nothing: some are wrong on purpose.
_TRIED: dict[str, tuple[object, ...]] = {
    "ping": (), "time": (), "exists": ("KEY",), "eval": ("return 1", 0), "evalsha": ("0" * 40, 0), "get": ("KEY",),
    "set": ("KEY", "", "PX", 0), "pexpire": ("KEY", 1), "hset": ("KEY", "f", "v", "f"), "hmget": ("KEY", "f"),
    "hincrby": ("KEY", "f", "x"), "xadd": ("KEY", "NOMKSTREAM", "*", "p", ""),
    "xread": ("COUNT", 1, "STREAMS", "KEY", "0-0"), "xrange": ("KEY", "-", "+", "COUNT", 1),
    "xrevrange": ("KEY", "+", "-", "COUNT", 1), "xtrim": ("KEY", "MAXLEN", 0)}
#: How often the clock is asked; the answer that came soonest counts.
_CLOCK_QUESTIONS = 5


def examine(url: str, name: str) -> dict[str, Any]:
    """Return what can be found out about the Redis of a backplane, by a connection of its own.

    :param url: where it is.
    :param name: the name of the log.
    :return: ``needed_rights``; ``error`` (why nothing can be found out) and ``misconfigured``; or ``version``,
        ``role``, ``replicas``, ``sentinel``, ``policy``, ``memory`` and ``max_memory`` (bytes; 0 for no limit),
        ``aof``, ``snapshots`` (since its start), ``uptime_s``, ``missing_rights``, ``keys`` (whether it may use
        them), ``app``,
        ``clock_ms`` (by how much its clock is ahead of this machine's) and ``round_trip_ms``.
    """
    needed = f"~{{{name}}}:* {RIGHTS}"
    try:
        client, moved = open_client(url, name, "doctor")
        with client:
            info = client.info()
            missing, keys = _rights(client, f"{{{name}}}:doctor")
            clock_ms, round_trip_ms = _clock(client) if "time" not in missing else (0.0, 0.0)
            app = client.hmget(f"{{{name}}}:meta", "app")[0] if keys and "hmget" not in missing else None
    except (Away, Misconfigured, RedisError, OSError) as error:
        return {"needed_rights": needed, "error": str(error), "misconfigured": isinstance(error, Misconfigured)}
    return {
        "needed_rights": needed, "error": None, "misconfigured": False,
        "server": str(info.get("server_name") or "redis"), "version": str(info.get("redis_version", "")),
        "role": str(info.get("role", "")), "replicas": int(info.get("connected_slaves", 0)),
        "sentinel": moved is not None, "policy": str(info.get("maxmemory_policy", "")),
        "memory": int(info.get("used_memory", 0)), "max_memory": int(info.get("maxmemory", 0)),
        "aof": bool(info.get("aof_enabled")), "snapshots": int(info.get("rdb_saves", 0)),
        "uptime_s": int(info.get("uptime_in_seconds", 0)), "missing_rights": missing, "keys": keys,
        "app": app.decode() if isinstance(app, bytes) else None, "clock_ms": clock_ms, "round_trip_ms": round_trip_ms}


def _rights(client: redis.Redis, key: str) -> tuple[list[str], bool]:
    """Return the commands that this user may not run, and whether it may use the keys."""
    missing, keys = [], True
    for command, arguments in _TRIED.items():
        try:
            cast(Any, client).execute_command(command.upper(), *(key if item == "KEY" else item for item in arguments))
        except NoPermissionError as error:
            if "key" in str(error).partition("command")[0]:
                keys = False
            else:
                missing.append(command)
        except RedisError as error:
            if isinstance(error, redis.exceptions.ConnectionError):
                raise
    return missing, keys


def _clock(client: redis.Redis) -> tuple[float, float]:
    """Return by how much the clock of Redis is ahead, and how long an answer takes, in milliseconds."""
    answers = []
    for _ in range(_CLOCK_QUESTIONS):
        asked, began = time.time(), time.perf_counter()
        seconds, micros = client.time()
        took = time.perf_counter() - began
        answers.append((took, seconds + micros / 1e6 - asked - took / 2))
    took, ahead = min(answers)
    return round(ahead * 1000, 1), round(took * 1000, 2)
