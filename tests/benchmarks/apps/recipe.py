"""The recipe: a Flask route that yields from a queue, one queue a client; publishing puts into each."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response

from ..publisher import Payload

FRAMING = len("id: 1234\nevent: tick\ndata: \n\n")

app = Flask(__name__)
queues: list[queue.Queue[str]] = []


@app.get("/health")
def health() -> Any:
    return {"status": "ok"}


@app.get("/events")
def events() -> Response:
    def stream() -> Iterator[str]:
        mine: queue.Queue[str] = queue.Queue()
        queues.append(mine)
        try:
            yield ": open\n\n"
            while True:
                yield mine.get()
        finally:
            queues.remove(mine)

    return Response(stream(), mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})


def emit(payload: Payload) -> None:
    data = json.dumps(payload, separators=(",", ":"))
    event = f"id: {payload['n']}\nevent: tick\ndata: {data}\n\n"
    for one in list(queues):
        one.put(event)
