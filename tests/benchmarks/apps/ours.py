"""A host as users have them, with everything on: handlers, rooms, filters, receivers of signals."""

from __future__ import annotations

import os
import sys
from typing import Any

from flask import Flask

from hakgal_hybrid import HybridTransport, signals
from hakgal_hybrid.socketio import join_room

from ..publisher import Publisher

#: ``id: 1755412806000-1234\nevent: tick\ndata: `` and the blank line
FRAMING = len("id: 1755412806000-1234\nevent: tick\ndata: \n\n")


def main(port: int, control: int) -> None:
    if "BENCH_WITHOUT" in os.environ:  # a package that another one uses if it is there
        sys.modules[os.environ["BENCH_WITHOUT"]] = None  # type: ignore[assignment]
    app = Flask(__name__)
    transport = HybridTransport(app, max_streams=20_000, max_streams_per_address=20_000, connect_rate=1_000_000)
    socketio = transport.socketio
    emitted = 0

    @app.get("/health")
    def health() -> Any:
        return {"status": "ok"}

    @socketio.on("connect")
    def connect(auth: Any = None) -> None:
        join_room("audience")

    @signals.event_emitted.connect_via(app)
    def count(sender: Any, **values: Any) -> None:
        nonlocal emitted
        emitted += 1

    def emit(payload: dict[str, Any], **to: Any) -> None:
        socketio.emit("tick", payload, **to)

    publisher = Publisher(control, emit, FRAMING, emitted=lambda: {"emitted": emitted})
    socketio.start_background_task(publisher.serve)
    transport.run(host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
