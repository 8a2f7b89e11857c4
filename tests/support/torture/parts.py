"""What the processes of a run have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hakgal_hybrid.broker.backplane.shared_log import Position


class Options(NamedTuple):
    """What a process is to do.

    :ivar role: ``both``, ``reader``, ``emitter``, ``twin`` or ``host``.
    :ivar rate: how many bursts of events a second.
    :ivar log_events: how many entries the log keeps. :ivar outbox_events: how many events the outbox holds.
    """

    role: str
    name: str
    url: str
    folder: str
    seed: int
    app: str = "torture"
    rate: float = 15.0
    log_events: int = 10_000
    outbox_events: int = 10_000


class Part(NamedTuple):
    """What one kind of process does: emits, has all come back, sees how it stands, ends; and how many it has sent."""

    emit: Callable[[str, str], object]
    drained: Callable[[str], bool]
    statistics: Callable[[], dict[str, Any]]
    sent: Callable[[], int]
    ready: Callable[[], bool]
    upto: Callable[[Position], bool] = lambda at: True
    resumed: Callable[[], object] = lambda: None
    begin: Callable[[], object] = lambda: None


def opened(options: Options, suffix: str) -> Callable[[str], object]:
    """Return what writes a line at once, so that it is there after ``kill -9``."""
    file = Path(options.folder, f"{options.name}.{suffix}").open("ab", buffering=0)  # noqa: SIM115
    return lambda line: file.write(line.encode() + b"\n")
