"""The backplane: the Redis that several processes share, as the host sees it."""

from __future__ import annotations

import re
from typing import Any

from .findings import Finding, not_checked, ok, problem, warning
from .target import BACKPLANE, ExaminedHost

#: What is in order: how far clocks may differ, and how full the memory may be.
_CLOCK_MS, _FULL = 1000.0, 0.9
#: The oldest version that has what the scripts need.
_OLDEST = (7, 0)

NAME = "give each application, and each deployment, a name of its own: HYBRID_BACKPLANE_NAME"


def check_backplane(host: ExaminedHost) -> list[Finding]:
    """Have the host examine the Redis of its backplane, and judge what it has found.

    :param host: the host that is examined; it has a backplane.
    :return: one finding for each thing that is looked at; one alone if Redis cannot be used.
    """
    try:
        answer = host.ask("POST", BACKPLANE, {})
    except OSError as error:
        return [not_checked("backplane", f"POST {BACKPLANE} was not answered ({error or type(error).__name__})")]
    found = answer.json()
    if answer.status != 200 or not isinstance(found, dict):
        code = found.get("code") if isinstance(found, dict) else None
        return [not_checked("backplane", f"the host refused it ({answer.status} {code}); give the key "
                            "(HAKGAL_API_KEY)")]
    status = host.status("backplane") or {}
    first = _use(found, status)
    if found["error"] is not None:
        return [first]
    return [first, _rights(found), _server(found), _memory(found), _clock(found), _persistence(found)]


def _use(found: dict[str, Any], status: dict[str, Any]) -> Finding:
    where = f"{found['address']}, name {found['name']!r}"
    peers = [f"{peer['host']}:{peer['pid']}" for peer in status.get("peers", ())]
    evidence = [f"the host's own state: {status.get('state')}, at {status.get('tail', {}).get('position')}"]
    if peers:
        evidence.append(f"processes with this log: {', '.join(peers)}; if one of them is of another deployment, {NAME}")
    if found["misconfigured"]:
        return problem("backplane", "backplane_refuses", f"Redis refuses the host ({where})", *evidence,
                       remedy=found["error"], **found)
    if found["error"] is not None:
        return problem("backplane", "backplane_away", f"the host cannot reach Redis ({where}): {found['error']}",
                       *evidence, remedy="start Redis, or mend HYBRID_BACKPLANE of the host: scheme (rediss:// for "
                       "TLS), host, port and database", **found)
    if found["app"] not in (None, "", found["own_app"]):
        return problem("backplane", "backplane_shared", f"another application, {found['app']!r}, has the log "
                       f"{found['name']!r}; this one is {found['own_app']!r}", *evidence, remedy=NAME, **found)
    if status.get("state") in ("away", "misconfigured"):
        return problem("backplane", "backplane_stuck", f"Redis answers, but not the host's own use of it: "
                       f"{status.get('error')}", *evidence, remedy="see the error; what needs a person is tried again "
                       "every 30 s", **found)
    return ok("backplane", f"Redis answers in {found['round_trip_ms']} ms ({where})", *evidence, **found)


def _rights(found: dict[str, Any]) -> Finding:
    remedy = f"give it {found['needed_rights']}"
    if not found["keys"]:
        return problem("redis_rights", "redis_keys", "the user of Redis may not use the keys of the log",
                       f"keys that begin with {{{found['name']}}}:", remedy=remedy)
    if found["missing_rights"]:
        return problem("redis_rights", "redis_commands", "the user of Redis may not run some commands",
                       ", ".join(found["missing_rights"]), remedy=remedy)
    return ok("redis_rights", "the user of Redis may do all that is needed")


def _server(found: dict[str, Any]) -> Finding:
    version = tuple(map(int, re.findall(r"\d+", found["version"])[:2]))
    evidence = [f"{found['server']} {found['version']}, {found['role']}, replicas: {found['replicas']}, "
                f"{'found by Sentinels' if found['sentinel'] else 'no Sentinels asked'}"]
    if version < _OLDEST:
        return problem("redis_server", "redis_version", f"Redis {found['version']} is too old", *evidence,
                       remedy="Redis 7.0 or newer, or Valkey")
    if found["role"] != "master":
        return problem("redis_server", "redis_replica", "this Redis is a replica, which takes no writes", *evidence,
                       remedy="name the master in HYBRID_BACKPLANE, or its Sentinels: "
                       "redis+sentinel://HOST,HOST/SERVICE/DB")
    if found["replicas"] and not found["sentinel"] and "+cluster" not in found["address"]:
        return warning("redis_server", "redis_failover", "this Redis has replicas, but its address is that of one "
                       "server: after a failover the host stays with the old one", *evidence,
                       remedy="name the Sentinels, redis+sentinel://HOST,HOST/SERVICE/DB, unless the address moves "
                       "with the master")
    return ok("redis_server", f"{found['server']} {found['version']} can be used", *evidence)


def _memory(found: dict[str, Any]) -> Finding:
    used, most, policy = found["memory"], found["max_memory"], found["policy"]
    shown = f"{used >> 20} MiB used, maxmemory {f'{most >> 20} MiB' if most else 'not set'}, policy {policy}"
    if policy.startswith("allkeys"):
        return warning("redis_memory", "redis_eviction", f"with maxmemory-policy {policy} Redis may drop the log "
                       "itself", shown, remedy="maxmemory-policy noeviction, or one of volatile-…")
    if most and used >= most * _FULL:
        return warning("redis_memory", "redis_full", f"the memory of Redis is {used / most:.0%} full: at 100 % events "
                       "wait in the processes", shown, remedy="raise maxmemory, lower HYBRID_LOG_EVENTS, or drop what "
                       "else this Redis holds")
    return ok("redis_memory", "Redis has memory, and keeps the log", shown)


def _clock(found: dict[str, Any]) -> Finding:
    ahead = found["clock_ms"]
    shown = f"{abs(ahead)} ms {'ahead' if ahead >= 0 else 'behind'}"
    if abs(ahead) >= _CLOCK_MS:
        return warning("redis_clock", "redis_clock", f"the clock of Redis is {shown} of the host's: lag, and the "
                       "times of events, cannot be compared", remedy="set both clocks by NTP", clock_ms=ahead)
    return ok("redis_clock", f"the clock of Redis is {shown} of the host's", clock_ms=ahead)


def _persistence(found: dict[str, Any]) -> Finding:
    if found["aof"] or found["snapshots"]:
        return ok("redis_data", "Redis writes its data to a file",
                  f"append-only file: {'on' if found['aof'] else 'off'}, snapshots since its start: "
                  f"{found['snapshots']}")
    return ok("redis_data", "Redis has written nothing to a file since its start: after a restart of it the processes "
              "put back what they have", f"up for {found['uptime_s']} s; where Redis and all processes may stop at "
              "once, switch its append-only file on (appendonly yes)")
