"""The doctor: why is a backend slow? Checks from outside, each with its evidence and a remedy.

Read in this order: ``findings.py``, ``target.py``, then the checks: ``connectivity.py`` (name and addresses),
``responsiveness.py`` (the host itself), ``streaming.py`` (the way between), ``polling.py`` (the same for clients of
Socket.IO), ``backplane.py`` (the Redis of several processes), ``stalled.py`` (clients that do not read).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

from ..remote.request import Base, key_headers
from .backplane import check_backplane
from .connectivity import check_addresses, check_resolution
from .findings import Finding, Level, Report, not_checked
from .polling import PollWatch, check_upgrade
from .responsiveness import check_health, check_patching, check_stacks
from .silence import Silence, check_forwarding
from .stalled import check_stalled
from .streaming import check_cors, check_resuming, check_stream
from .target import ExaminedHost, Options, Probe

__all__ = ["Finding", "Level", "Options", "Probe", "Report", "examine"]

#: The checks that need an address, in the order in which they are made.
LATER = ("health", "stacks", "patching", "forwarding", "stream", "resuming", "cors", "heartbeat", "stalled")


def examine(url: str, options: Options | None = None, *, key: str | None = None,
            on_finding: Callable[[Finding], None] = lambda finding: None) -> Report:
    """Examine the host at ``url``.

    :param url: where the host is; ``http://`` may be left out.
    :param options: how it is done; defaults if left out.
    :param key: the API key; by default that of the environment's ``HAKGAL_API_KEY``.
    :param on_finding: called with each finding as it is made.
    :raises ConfigurationError: for a URL that is none.
    """
    host = ExaminedHost(Base.of(url), key_headers(key), options or Options())
    findings: list[Finding] = []
    started = time.monotonic()

    def note(finding: Finding) -> None:
        findings.append(finding)
        on_finding(finding)

    resolution, addresses = check_resolution(host)
    note(resolution)
    if addresses:
        note(check_addresses(host, addresses))
    if host.address is None:
        for check in LATER:
            note(not_checked(check, "nobody accepts connections" if addresses else "the name does not resolve"))
    else:
        _examine(host, note)
    taken = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return Report(host.base.url, taken, round(time.monotonic() - started, 3), tuple(findings))


def _examine(host: ExaminedHost, note: Callable[[Finding], None]) -> None:
    """Make every check that needs a host. First those that need it undisturbed, last the one that disturbs."""
    note(check_health(host))
    host.identify()
    for check in (check_stacks, check_patching, check_forwarding, check_stream):
        note(check(host))
    if host.seen.get("backplane"):
        for finding in check_backplane(host):
            note(finding)
    # These take as long as the host's heartbeat, and its ping, so that the others go on beside them.
    silence, polls = Silence(host), PollWatch(host) if host.seen.get("socketio") else None
    for check in (check_resuming, check_cors):
        note(check(host))
    note(silence.finding())
    if polls is not None:
        note(check_upgrade(host))
        note(polls.finding())
    note(check_stalled(host))
