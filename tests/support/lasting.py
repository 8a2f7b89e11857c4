"""Routes whose answers last: generators that wait, and answers that are larger than any client takes at once."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from flask import Flask, request, send_file, stream_with_context

PIECE = 1 << 16


def piece(number: int, size: int = PIECE) -> bytes:
    """Return a piece of a body that shows when it is lost, doubled or out of place."""
    return number.to_bytes(8, "big") * (size // 8)


@lru_cache(maxsize=4)
def pattern(pieces: int, size: int = PIECE) -> bytes:
    """Return a whole body."""
    return b"".join(piece(number, size) for number in range(pieces))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files, which goes with the process: an app that is forgotten must not leave it to be found."""
    return tempfile.TemporaryDirectory()


def add(app: Flask, counts: Counter[str]) -> None:
    """Add the routes.

    :param counts: how many generators run, as ``subscribed`` and ``producing``, and how many have ended.
    """
    queues: list[queue.SimpleQueue[bytes]] = []
    writing = threading.Lock()

    @app.get("/subscribe")
    def subscribe() -> Any:
        """Wait for what is published, for ever; with ``tick``, say something so often (s)."""
        tick = request.args.get("tick", type=float)

        def produce() -> Iterator[bytes]:
            mine: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            queues.append(mine)
            counts["subscribed"] += 1
            try:
                if "begin" in request.args:
                    yield b"begun;"
                while True:
                    try:
                        yield mine.get(timeout=tick)
                    except queue.Empty:
                        yield b"tick;"
            finally:
                queues.remove(mine)
                counts["subscribed"] -= 1

        return app.response_class(stream_with_context(produce()), content_type="text/plain")

    @app.post("/publish")
    def publish() -> Any:
        for waiting in list(queues):
            waiting.put(b"published;")
        return {"queues": len(queues)}

    @app.get("/pieces")
    def pieces() -> Any:
        """Stream ``n`` pieces of 64 KiB, or of ``size``, with pauses of ``pause`` seconds."""
        number, size = request.args.get("n", type=int, default=1), request.args.get("size", type=int, default=PIECE)
        pause = request.args.get("pause", type=float, default=0.0)

        def produce() -> Iterator[bytes]:
            counts["pieces"] += 1
            try:
                for index in range(number):
                    yield piece(index, size)
                    if pause:
                        time.sleep(pause)
            finally:
                counts["pieces"] -= 1

        return app.response_class(produce(), content_type="application/octet-stream")

    @app.get("/bytes")
    def whole() -> Any:
        """Answer with ``n`` times 64 KiB, as one object."""
        return app.response_class(pattern(request.args.get("n", type=int, default=1)),
                                  content_type="application/octet-stream")

    @app.get("/file")
    def file() -> Any:
        """Answer with a file of ``n`` times 64 KiB."""
        number = request.args.get("n", type=int, default=1)
        path = Path(_folder().name, f"{number}.bin")
        with writing:
            if not path.exists():
                with open(path, "wb") as written:
                    written.writelines(piece(index) for index in range(number))
        return send_file(path, mimetype="application/octet-stream")
