"""Watching a process from outside while it is measured: CPU over time, its children apart, memory."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from .extras import need

#: How often the process is looked at, and how often its children are looked for (which costs more), in seconds.
INTERVAL_S = 0.25
CHILDREN_EVERY = 4


@dataclass
class Series:
    """What was seen over time. All lists have one length; ``t`` are seconds since the beginning.

    :ivar cpu_s: CPU seconds of the process with all its threads since it began to be watched.
    :ivar children_cpu_s: the same of its children, together.
    """

    t: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    children_cpu_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Every list."""
        return {"t": self.t, "cpu_s": self.cpu_s, "children_cpu_s": self.children_cpu_s, "rss_mb": self.rss_mb,
                "threads": self.threads}

    def percent(self) -> tuple[list[float], list[float]]:
        """Return times and the per cent of one core used since the time before."""
        pairs = list(zip(self.t, self.cpu_s, strict=True))
        times, values = [], []
        for (t0, c0), (t1, c1) in itertools.pairwise(pairs):
            if t1 > t0:
                times.append(t1)
                values.append(round((c1 - c0) / (t1 - t0) * 100, 1))
        return times, values


class ProcessMonitor(threading.Thread):
    """Looks at a process every :data:`INTERVAL_S` until :meth:`close`, or until it ends.

    :param pid: the id of the process.
    :param began: the moment that is 0 of the series, of ``time.monotonic()``.
    """

    def __init__(self, pid: int, began: float) -> None:
        super().__init__(name="hakgal-hybrid-watcher", daemon=True)
        self.series = Series()
        self._psutil = need("psutil", "read the CPU of the host")
        self._process = self._psutil.Process(pid)
        self._began = began
        self._ended = threading.Event()
        self._used_before = self._used(self._process)
        # CPU seconds by process, those that have ended included; and what each had used before.
        self._children: dict[Any, float] = {}
        self._children_before = sum(map(self._used, self._process.children(recursive=True)))

    def cpu(self) -> float:
        """Return the CPU seconds of the process with its threads since it began to be watched."""
        return self._used(self._process) - self._used_before

    def children_cpu(self) -> float:
        """Return those of its children, as they were seen last."""
        return max(0.0, sum(tuple(self._children.values())) - self._children_before)

    @staticmethod
    def _used(process: Any) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def run(self) -> None:
        """Look until it is over."""
        looked = 0
        while not self._ended.is_set():
            try:
                self._look(looked % CHILDREN_EVERY == 0)
            except self._psutil.Error:  # it has ended
                return
            looked += 1
            self._ended.wait(INTERVAL_S)

    def _look(self, at_children: bool) -> None:
        if at_children:
            for child in self._process.children(recursive=True):
                try:
                    self._children[child] = self._used(child)
                except self._psutil.Error:  # that one has ended meanwhile
                    continue
        with self._process.oneshot():
            used, rss, threads = self.cpu(), self._process.memory_info().rss, self._process.num_threads()
        self.series.t.append(round(time.monotonic() - self._began, 3))
        self.series.cpu_s.append(round(used, 3))
        self.series.children_cpu_s.append(round(self.children_cpu(), 3))
        self.series.rss_mb.append(round(rss / 2**20, 1))
        self.series.threads.append(threads)

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self.join(10)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds a process has used; 0 if it has ended.

    :param pid: the id of the process.
    """
    psutil = need("psutil", "read the CPU of the load generator")
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
