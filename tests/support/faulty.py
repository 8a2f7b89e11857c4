"""What the host of ``support.app`` does wrong when it is asked to, for the fault suite (``SUPPORT_FAULTS=1``)."""

from __future__ import annotations

import threading
import time
from typing import Any

from flask import Flask, request

from hakgal_hybrid import HybridTransport, signals
from hakgal_hybrid.monitoring.histogram import percentile


class Publisher:
    """Emits an event every so often from a thread of its own, and notes how long each emit took."""

    def __init__(self, transport: HybridTransport) -> None:
        self._transport = transport
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._took: list[float] = []
        self._number = 0

    def start(self, pause_s: float, events: list[dict[str, Any]]) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._publish, args=(pause_s, events), daemon=True)
        self._thread.start()

    def _publish(self, pause_s: float, events: list[dict[str, Any]]) -> None:
        while not self._ended.wait(pause_s):
            event = events[self._number % len(events)]
            started = time.perf_counter()
            self._transport.emit(event["event"], {"i": self._number, "padding": "x" * event.get("size", 0)},
                                 to=event.get("to"), namespace=event.get("namespace"))
            self._took.append((time.perf_counter() - started) * 1000)
            self._number += 1
            del self._took[:-100_000]

    def stop(self) -> dict[str, Any]:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(60)
        return {"newest": self._transport.statistics().newest, "emits": self._number,
                "p95_ms": percentile(sorted(self._took), 0.95) or 0.0,
                "max_ms": max(self._took, default=0.0)}


def add(app: Flask, transport: HybridTransport, governor: Any, release: threading.Event) -> None:
    """Add to ``app`` what a test can have it do wrong."""
    publisher = Publisher(transport)
    receivers: list[Any] = []

    @app.post("/publisher/start")
    def start_publishing() -> Any:
        publisher.start(**request.get_json())
        return {}

    @app.post("/publisher/stop")
    def stop_publishing() -> Any:
        return publisher.stop()

    @app.post("/receiver")
    def receive() -> Any:
        """Have a receiver of every event that raises, or one that blocks at the event ``poisoned``."""
        kind = request.get_json()["kind"]

        def receiver(sender: object, event: Any, **_: Any) -> None:
            if kind == "raise":
                raise LookupError("this receiver raises")
            if event.name == "poisoned":
                release.wait(120)

        signals.event_emitted.connect(receiver, sender=app, weak=False)
        receivers.append(receiver)
        return {}

    @app.delete("/receiver")
    def forget() -> Any:
        for receiver in receivers:
            signals.event_emitted.disconnect(receiver, sender=app)
        receivers.clear()
        return {}

    @app.post("/release")
    def let_go() -> Any:
        release.set()
        return {}

    ask, stop = governor.get_status, governor.stop

    def frozen(method: Any) -> Any:
        def call() -> Any:
            if governor.mode == "frozen":
                release.wait(120)
            return method()
        return call

    governor.get_status, governor.stop = frozen(ask), frozen(stop)
