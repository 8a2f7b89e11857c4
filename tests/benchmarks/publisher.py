"""Publishing inside of a server's process, by orders that come as UDP datagrams.

``hello`` is answered ``{}``. ``one N SIZE [key=value …]`` publishes number N. ``rate R COUNT SIZE [key=value …]``
publishes numbers 1 to COUNT at R a second (0: as fast as it goes), then answers ``{"published", "seconds",
"emit_us"}``. An event that leaves late carries the time it was due, so that a publisher that cannot keep up does not
look fast. SIZE is the size of the whole event on the wire, in bytes.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from collections.abc import Callable
from typing import Any

Payload = dict[str, Any]
Order = Callable[..., dict[str, Any]]


def percentiles(nanoseconds: list[int]) -> dict[str, float] | None:
    """Summarise times as the C programs do: in microseconds, nearest rank."""
    if not nanoseconds:
        return None
    ranked = sorted(nanoseconds)

    def at(share: float) -> float:
        return ranked[max(1, math.ceil(share * len(ranked))) - 1] / 1000

    return {"count": len(ranked), "mean": sum(ranked) / len(ranked) / 1000, "p50": at(.5), "p90": at(.9),
            "p95": at(.95), "p99": at(.99), "max": ranked[-1] / 1000}


class Publisher:
    """Obeys orders in the thread (or greenlet) that calls :meth:`serve`.

    :param emit: called with a payload, and with the order's ``key=value`` words as keywords.
    :param framing: how many bytes the server adds to the payload's JSON.
    :param orders: more orders by name, called with their words; what they return is the answer.
    """

    def __init__(self, port: int, emit: Callable[..., Any], framing: int, **orders: Order) -> None:
        self._emit = emit
        self._framing = framing
        self._orders = orders
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))

    def payload(self, number: int, stamp: int, size: int) -> Payload:
        """Return a payload that is ``size`` bytes on the wire."""
        bare = 18 + len(str(number)) + len(str(stamp)) + self._framing  # {"n":1,"t":2,"z":"…"}
        return {"n": number, "t": stamp, "z": "x" * max(0, size - bare)}

    def serve(self) -> None:
        """Obey until the process ends."""
        while True:
            text, sender = self._socket.recvfrom(4096)
            answer = self.obey(text.decode().split())
            if answer is not None:
                self._socket.sendto(json.dumps(answer).encode(), sender)

    def obey(self, words: list[str]) -> dict[str, Any] | None:
        order, arguments = words[0], [word for word in words[1:] if "=" not in word]
        extra = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        if order == "one":
            self._emit(self.payload(int(arguments[0]), time.monotonic_ns(), int(arguments[1])), **extra)
            return None
        if order == "rate":
            return self._at_rate(float(arguments[0]), int(arguments[1]), int(arguments[2]), extra)
        if order == "hello":
            return {}
        return self._orders[order](*arguments, **extra)

    def _at_rate(self, rate: float, count: int, size: int, extra: dict[str, str]) -> dict[str, Any]:
        pace = Pace(rate)
        for number in range(1, count + 1):
            while (wait := pace.wait(number)) > 0:
                time.sleep(wait)
            payload = self.payload(number, pace.due(number), size)
            before = time.perf_counter_ns()
            self._emit(payload, **extra)
            pace.took(before)
        return pace.answer()


class AsyncPublisher(Publisher):
    """The same for a server that is one asyncio loop; ``emit`` must not wait."""

    async def aserve(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        while True:
            ready = loop.create_future()
            loop.add_reader(self._socket, ready.set_result, None)
            await ready
            loop.remove_reader(self._socket)
            text, sender = self._socket.recvfrom(4096)
            words = text.decode().split()
            answer = await self._aat_rate(*words[1:4]) if words[0] == "rate" else self.obey(words)
            if answer is not None:
                self._socket.sendto(json.dumps(answer).encode(), sender)

    async def _aat_rate(self, rate: str, count: str, size: str) -> dict[str, Any]:
        pace = Pace(float(rate))
        for number in range(1, int(count) + 1):
            await asyncio.sleep(max(0.0, pace.wait(number)))
            payload = self.payload(number, pace.due(number), int(size))
            before = time.perf_counter_ns()
            self._emit(payload)
            pace.took(before)
        return pace.answer()


class Pace:
    """When events are due, and how long publishing them took."""

    def __init__(self, rate: float) -> None:
        self._step = 1e9 / rate if rate else 0
        self._start = time.monotonic_ns()
        self._took: list[int] = []

    def due(self, number: int) -> int:
        return self._start + int((number - 1) * self._step) if self._step else time.monotonic_ns()

    def wait(self, number: int) -> float:
        """Return how many seconds number is still away; not positive if it is due."""
        return (self.due(number) - time.monotonic_ns()) / 1e9 if self._step else 0

    def took(self, before: int) -> None:
        self._took.append(time.perf_counter_ns() - before)

    def answer(self) -> dict[str, Any]:
        return {"published": len(self._took), "seconds": (time.monotonic_ns() - self._start) / 1e9,
                "emit_us": percentiles(self._took)}
