"""Figures: how requests are timed, and what is said about the times."""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least ``share`` of all are not above."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


@dataclass(frozen=True)
class Times:
    """Durations of requests, in milliseconds, and how many failed."""

    ms: list[float]
    errors: int

    @property
    def p95(self) -> float:
        return percentile(self.ms, 0.95)

    @property
    def mean(self) -> float:
        return round(sum(self.ms) / len(self.ms), 1)


def call(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any, float]:
    """Make one request on a connection of its own; return status, decoded answer and the time it took in ms."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        took = (time.perf_counter() - started) * 1000
        return response.status, json.loads(content) if content else None, took
    finally:
        connection.close()


def time_requests(port: int, count: int, request: Callable[[int], tuple[str, str, dict[str, Any] | None]],
                  on_each: Callable[[], None] = lambda: None) -> Times:
    """Make ``count`` requests one after the other; ``request`` gives method, path and body of each."""
    times, errors = [], 0
    for number in range(count):
        status, _, took = call(port, *request(number))
        times.append(took)
        errors += status >= 400
        on_each()
    return Times(times, errors)
