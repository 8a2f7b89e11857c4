"""Subscription: what a client asks for when it opens its stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from .event import RESERVED_PREFIX, glob_matcher
from .formats import Format


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asked for when it opened its stream (``docs/http_stream.md``).

    :ivar namespace: the namespace to read.
    :ivar events: globs of the names that shall come; empty for all.
    :ivar snapshot: ``1`` at the beginning and after each gap, ``gap`` only there.
    :ivar format: how events are carried.
    :ivar last_event_id: what to resume after.
    :ivar ticket: what names the session that the stream shall carry.
    :ivar interval_ms: how long after one batch of events the next may be sent (milliseconds); ``None`` for what all
        streams have.
    :ivar anywhere: true if the clients that the ticket belongs to connect again where they are not known.
    """

    namespace: str = "/"
    events: tuple[str, ...] = ()
    snapshot: Literal["", "1", "gap"] = ""
    format: Format = Format.JSON
    last_event_id: str | None = None
    ticket: str | None = None
    interval_ms: int | None = None
    anywhere: bool = False


class StreamOptions(NamedTuple):
    """What all streams have in common.

    :ivar profile: the profile that ``hybrid_open`` names.
    :ivar retry_ms: how long a client waits before it reconnects, in milliseconds.
    :ivar heartbeat_s: after how much silence a heartbeat is due, in seconds.
    :ivar max_backlog_s: how old an event may be that an open stream still gets, in seconds.
    :ivar interval_ms: how long after one batch of events the next may be sent (milliseconds), if a stream asks for
        nothing else.
    """

    profile: str = "HYBRID"
    retry_ms: int = 3000
    heartbeat_s: float = 15
    max_backlog_s: float = 60
    interval_ms: int = 0


def shared_request(request: StreamRequest) -> StreamRequest:
    """Return what is left of a request once its stream is open: the same object for many streams.

    :param request: the request.
    :return: one without what it resumes after and without its ticket.
    """
    if request.last_event_id is not None or request.ticket is not None:
        request = replace(request, last_event_id=None, ticket=None, anywhere=False)
    return _interned(request)


@lru_cache(maxsize=1024)
def _interned(request: StreamRequest) -> StreamRequest:
    return request


@lru_cache(maxsize=1024)
def name_filter(events: tuple[str, ...]) -> Callable[[str], bool]:
    """Return what says which names a stream shall carry. Our own events always come.

    :param events: globs of the names that shall come; empty for all.
    :return: a function that is true for these names.
    """
    if not events:
        return _every_name
    matches = glob_matcher(events)
    return lambda name: name.startswith(RESERVED_PREFIX) or matches(name)


def _every_name(name: str) -> bool:
    return True
