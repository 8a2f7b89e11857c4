"""sse-starlette as its documentation shows it: a generator a client, which waits for a queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ..publisher import AsyncPublisher, Payload

FRAMING = len("id: 1234\r\nevent: tick\r\ndata: \r\n\r\n")
queues: set[asyncio.Queue[ServerSentEvent]] = set()


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def events(request: Request) -> EventSourceResponse:
    async def stream() -> AsyncIterator[ServerSentEvent]:
        mine: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
        queues.add(mine)
        try:
            yield ServerSentEvent(comment="open")
            while True:
                yield await mine.get()
        finally:
            queues.discard(mine)

    return EventSourceResponse(stream())


def emit(payload: Payload) -> None:
    event = ServerSentEvent(json.dumps(payload, separators=(",", ":")), event="tick", id=str(payload["n"]))
    for one in queues:
        one.put_nowait(event)


def create_app(control: int) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(AsyncPublisher(control, emit, FRAMING).aserve())
        yield
        task.cancel()

    return Starlette(routes=[Route("/health", health), Route("/events", events)], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(create_app(int(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), access_log=False,
                log_level="error", backlog=4096, timeout_graceful_shutdown=1)
