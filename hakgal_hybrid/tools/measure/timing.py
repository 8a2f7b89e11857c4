"""Timed requests: each on a connection of its own, split into resolving, connecting, first byte and total."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigurationError
from ..remote.request import MAX_BODY, Base, connected, open_response, resolve
from .figures import Summary

#: How long one part of an answer may take, in seconds: above what a blocked host has been seen to take.
TIMEOUT_S = 30.0
PARTS = ("resolve", "connect", "first_byte", "total")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Timing:
    """One request: status, the decoded JSON of the answer, and milliseconds.

    :ivar first_byte: from the end of connecting to the first byte of the answer.
    :ivar total: all of it, resolving included.
    """

    status: int
    document: Any
    resolve: float
    connect: float
    first_byte: float
    total: float


def timed(base: Base, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
          timeout: float = TIMEOUT_S) -> Timing:
    """Make one request; a status that is an error is an answer like any other.

    Addresses are tried in the order of the resolver; what an address that does not accept costs is part of ``connect``.

    :param base: the host.
    :param method: the HTTP method.
    :param path: the path with its query.
    :param body: a JSON value; ``None`` sends no body.
    :param headers: sent with the request, by name.
    :param timeout: how long an address may take to accept, and each part of an answer, in seconds.
    :raises OSError: if there was no answer.
    """
    data = None if body is None else json.dumps(body).encode()
    head = {"Accept": "application/json, */*", **({} if data is None else {"Content-Type": "application/json"}),
            **(headers or {})}
    started = time.perf_counter()
    addresses = resolve(base)
    resolved = time.perf_counter()
    with contextlib.ExitStack() as stack:
        sock = _first_that_accepts(stack, base, addresses, timeout)
        opened = stack.enter_context(open_response(base, sock, method, path, head, data))
        try:
            content = opened.raw.read(MAX_BODY)
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer broke off: {error}") from error
        ended = time.perf_counter()
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    return Timing(opened.raw.status, document, *(round(seconds * 1000, 3) for seconds in (
        resolved - started, opened.asked_at - resolved, opened.answered_at - opened.asked_at, ended - started)))


def _first_that_accepts(stack: contextlib.ExitStack, base: Base, addresses: list[Any], timeout: float) -> socket.socket:
    last: OSError = OSError(f"{base.host} has no address")
    for address in addresses:
        try:
            return stack.enter_context(connected(base, address, timeout))
        except OSError as error:
            last = error
    raise last


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is requested. ``{tag}`` and ``{n}`` in the body stand for this run and the number of the request."""

    method: str
    path: str
    body: str | None = None

    @classmethod
    def of(cls, text: str) -> Endpoint:
        """Read ``METHOD PATH [JSON]``.

        :param text: as it was typed.
        :raises ConfigurationError: if it reads otherwise.
        """
        method, _, rest = text.strip().partition(" ")
        path, _, body = rest.strip().partition(" ")
        endpoint = cls(method.upper(), path, body.strip() or None)
        try:
            if endpoint.method not in METHODS or not path.startswith("/"):
                raise ValueError
            endpoint.filled("x", 0)
        except ValueError:
            raise ConfigurationError.bad_value("--endpoint", text, "METHOD /path or METHOD /path JSON") from None
        return endpoint

    @property
    def label(self) -> str:
        """How it is called in reports."""
        return f"{self.method} {self.path.partition('?')[0]}"

    def filled(self, tag: str, number: int) -> Any:
        """Return the body of one request.

        :param tag: what marks the facts of this run.
        :param number: the number of the request.
        """
        if self.body is None:
            return None
        return json.loads(self.body.replace("{tag}", tag).replace("{n}", str(number)))


@dataclass
class Samples:
    """Timings of one endpoint as they come in, from any thread."""

    timings: list[Timing] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, request: Callable[[], Timing]) -> bool:
        """Make a request and note how it went; return whether it was answered as it should be.

        What was answered with an error is counted as one and its time is kept; what was not answered has no time.

        :param request: makes the request and returns its times.
        """
        try:
            timing = request()
        except OSError as error:
            return self._note(type(error).__name__, False)
        with self._lock:
            self.timings.append(timing)
        return self._note(str(timing.status), timing.status < 400)

    def _note(self, outcome: str, good: bool) -> bool:
        with self._lock:
            self.statuses[outcome] = self.statuses.get(outcome, 0) + 1
            self.errors += not good
        return good

    def of(self, part: str) -> list[float]:
        """Return the milliseconds of one part, in the order in which they were taken.

        :param part: one of :data:`PARTS`.
        """
        return [getattr(timing, part) for timing in tuple(self.timings)]

    def to_dict(self) -> dict[str, Any]:
        """Summaries of every part, and the totals one by one."""
        return {"unit": "ms", "statuses": dict(self.statuses), "samples": self.of("total"),
                **{part: Summary.of(self.of(part), self.errors).to_dict() for part in PARTS}}


def request_repeatedly(make: Callable[[int], Timing], samples: Samples, count: int, *, pace_s: float,
                       stop: threading.Event, on_each: Callable[[bool], None] = lambda good: None) -> None:
    """Make ``count`` requests one after the other, begun at least ``pace_s`` apart, until ``stop`` is set.

    :param make: makes the request with a number.
    :param samples: where the times go.
    :param count: how many requests.
    :param pace_s: seconds between the beginnings of two requests, at least.
    :param stop: ends it.
    :param on_each: called after each request; whether it was answered as it should be.
    """
    for number in range(count):
        begun = time.monotonic()
        if stop.is_set():
            return
        on_each(samples.take(lambda number=number: make(number)))  # type: ignore[misc]
        stop.wait(max(0.0, begun + pace_s - time.monotonic()))
