"""Wish: what a client asks for when it opens its stream."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asked for when it opened its stream (``docs/http_stream.md``).

    :ivar snapshot: ``1`` at the beginning and after each gap, ``gap`` only there.
    """

    namespace: str = "/"
    events: tuple[str, ...] = ()
    snapshot: Literal["", "1", "gap"] = ""
    envelope: bool = False
    last_event_id: str | None = None
    ticket: str | None = None


@lru_cache(maxsize=1024)
def interned_request(wish: StreamRequest) -> StreamRequest:
    """Return the same object for the same wish."""
    return wish
