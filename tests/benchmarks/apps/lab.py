"""Our server with everything on, as in ``ours.py``, and what can be asked of it beyond events.

A stream's ``room=`` is the room it is in, with ``one=1`` its client is the one that ``to=@one`` is for. Orders:
``newest`` tells the newest id, ``lag`` how late the loop runs, ``emits THREADS COUNT`` times emits in request contexts
of several threads at once, ``took`` tells what ``GET /emit`` took.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from typing import Any

import gevent
from flask import Flask, request

from hakgal_hybrid import HybridTransport, signals
from hakgal_hybrid.socketio import join_room

from ..publisher import Publisher, percentiles
from . import handlers
from .ours import FRAMING

#: What a timed emit carries, as JSON.
PAYLOAD_BYTES = 200


class Lab:
    """The app, its transport and what was timed."""

    def __init__(self) -> None:
        self.app = Flask("lab")
        self.transport = HybridTransport(self.app, max_streams=20_000, max_streams_per_address=20_000,
                                         connect_rate=1_000_000, max_clients=50_000)
        self.socketio = self.transport.socketio
        if "BENCH_PING_S" in os.environ:  # how often clients of Socket.IO are asked whether they are there
            self.socketio.init_app(self.app, ping_interval=float(os.environ["BENCH_PING_S"]))
        self.emitted = 0
        self.lag = handlers.Lag()
        self._one = ""
        self._numbers = itertools.count(1)
        self._took: list[tuple[int, int]] = []
        handlers.install(self.app)
        self._install()

    def _install(self) -> None:
        @self.app.get("/health")
        def health() -> Any:
            return {"status": "ok"}

        @self.app.get("/emit")
        def emit() -> Any:
            self._took.append(self._timed())
            return {"status": "ok"}

        @self.socketio.on("connect")
        def connect(auth: Any = None) -> None:
            join_room("audience")
            if "room" in request.args:
                join_room(request.args["room"])
            if "one" in request.args:
                self._one = request.sid  # type: ignore[attr-defined]

        @signals.event_emitted.connect_via(self.app)
        def count(sender: Any, **values: Any) -> None:
            self.emitted += 1

        self._count = count  # the signal holds it weakly

    def emit(self, payload: dict[str, Any], *, shift: str = "0", **to: Any) -> None:
        """Emit; ``shift`` is added to the number."""
        payload["n"] += int(shift)
        if to.get("to") == "@one":
            to["to"] = self._one
        self.socketio.emit("tick", payload, **to)

    def _timed(self) -> tuple[int, int]:
        """Emit 200 bytes; return how long that took, and how long this thread was computing (ns)."""
        payload = {"n": next(self._numbers), "t": time.monotonic_ns(), "z": "x" * (PAYLOAD_BYTES - 45)}
        busy, began = time.thread_time_ns(), time.perf_counter_ns()
        self.socketio.emit("tick", payload)
        ended = time.perf_counter_ns()
        return ended - began, time.thread_time_ns() - busy

    # -- orders ----------------------------------------------------------------------------------------------

    def newest(self) -> dict[str, Any]:
        return {"id": self.transport.statistics().newest}

    def took(self) -> dict[str, Any]:
        times, self._took = self._took, []
        return _summary(times)

    def emits(self, threads: str, count: str) -> dict[str, Any]:
        """Emit ``count`` times in each of several threads, all at once, each in a request context."""
        start = threading.Barrier(int(threads))
        times: list[tuple[int, int]] = []

        def work() -> None:
            mine = []
            with self.app.test_request_context("/emit"):
                start.wait()
                for _ in range(int(count)):
                    mine.append(self._timed())
            times.extend(mine)

        workers = [threading.Thread(target=work) for _ in range(int(threads))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return _summary(times) | {"upto": next(self._numbers) - 1}

    def settle(self) -> dict[str, Any]:
        """Begin to number what is timed at 1 again."""
        self._numbers = itertools.count(1)
        return {}


def _summary(times: list[tuple[int, int]]) -> dict[str, Any]:
    return {"emit_us": percentiles([took for took, _ in times]), "busy_us": percentiles([busy for _, busy in times])}


def main(port: int, control: int) -> None:
    lab = Lab()
    publisher = Publisher(control, lab.emit, FRAMING, emitted=lambda: {"emitted": lab.emitted}, newest=lab.newest,
                          lag=lab.lag.told, took=lab.took, emits=lab.emits, settle=lab.settle)
    lab.socketio.start_background_task(publisher.serve)
    gevent.spawn(lab.lag.watch)
    lab.transport.run(host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
