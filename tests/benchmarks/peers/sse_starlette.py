"""sse-starlette under uvicorn: asyncio, a queue a client."""

from __future__ import annotations

from ..system import versions
from . import Peer, python_app


def _check() -> dict[str, str]:
    return versions("sse-starlette", "starlette", "uvicorn")


PEER = Peer("sse-starlette", "sse-starlette, uvicorn", _check, python_app("sse_starlette_app"),
            slow=True, most=(4000, "it cannot be opened in the time of a row"))
