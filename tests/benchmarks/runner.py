"""Run rows: interleaved, a fresh server each, none of which can end the run."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError
from types import FrameType
from typing import Any

from .build import Missing
from .load import LoadError
from .peers import Peer
from .server import ServerError
from .workloads import Case, Scale, Values, Workload


@dataclass
class Row:
    """One measurement: what it gave, or why it gave nothing, and then the last words of the server."""

    workload: str
    case: str
    peer: str
    run: int
    seconds: float = 0.0
    values: Values = field(default_factory=dict)
    error: str | None = None
    server: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class RowTimeout(Exception):
    """A row took too long."""


def present(peers: list[Peer]) -> tuple[list[Peer], dict[str, dict[str, str]], dict[str, str]]:
    """Return the peers that are installed, their versions, and the others with the reason."""
    found, versions, absent = [], {}, {}
    for peer in peers:
        try:
            versions[peer.key] = peer.check()
            found.append(peer)
        except (Missing, ImportError) as error:
            missing = isinstance(error, PackageNotFoundError)
            absent[peer.key] = f"{error.name} is not installed" if missing else str(error)
    return found, versions, absent


def rows(workloads: list[Workload], peers: list[Peer], scale: Scale,
         show: Callable[[str], None]) -> Iterator[Row]:
    """Measure everything: for each case of a workload run 1 of every peer, then run 2 of every peer, and so on."""
    for workload in workloads:
        for case in workload.cases(scale):
            runs = min(scale.runs, case.runs)
            for run in range(1, runs + 1):
                for peer in filter(case.applies, peers):
                    show(f"{workload.key} {case.label}, run {run} of {runs}: {peer.title}")
                    yield measured(workload, case, peer, scale, run)


def measured(workload: Workload, case: Case, peer: Peer, scale: Scale, run: int) -> Row:
    row = Row(workload.key, case.label, peer.key, run)
    started = time.monotonic()
    try:
        with time_limit(workload.timeout):
            row.values = workload.measure(peer, scale, **case.parameters)
    except Exception as error:  # a row that cannot be measured is a result; the others go on
        expected = isinstance(error, (RowTimeout, LoadError, ServerError, TimeoutError))
        row.error = str(error) if expected else traceback.format_exc()
        row.server = getattr(error, "last_words", "")
    row.seconds = time.monotonic() - started
    return row


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`RowTimeout` in the block after some seconds. Main thread only."""
    def ring(number: int, frame: FrameType | None) -> None:
        raise RowTimeout(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
