"""The query of a stream request."""

from __future__ import annotations

from typing import Any, Literal

from ..broker.event import MAX_NAME, checked_name
from ..broker.subscription import StreamRequest
from ..errors import RequestError
from ..settings import parse_boolean


def parse_stream_request(args: Any, header: str | None) -> StreamRequest:
    """Return what a request for a stream asks for.

    :param args: the query, by name.
    :param header: the header ``Last-Event-ID``, which wins over ``last_event_id=``; ``None`` if there is none.
    :raises RequestError: 422 naming the parameter, for anything that makes no sense.
    """
    namespace = args.get("namespace", "/") or "/"
    if not namespace.startswith("/") or len(namespace) > MAX_NAME:
        raise RequestError(f"namespace={namespace!r:.80} does not begin with '/'", code="bad_query")
    events = tuple(name for name in (part.strip() for part in args.get("events", "").split(",")) if name)
    if sum(map(len, events)) > 4096:
        raise RequestError("events= is longer than 4096 characters", code="bad_query")
    for name in events:
        if not name.startswith("hybrid_"):  # our own events come in any case, so that naming one does no harm
            checked_name(name)
    last_event_id = header if header is not None else args.get("last_event_id")
    snapshot: Literal["", "1", "gap"] = "gap" if args.get("snapshot") == "gap" else ""
    if not snapshot and _flag(args, "snapshot", " or gap"):
        snapshot = "1"
    return StreamRequest(namespace, events, snapshot, _flag(args, "envelope"), last_event_id or None,
                         args.get("ticket"))


def _flag(args: Any, name: str, more: str = "") -> bool:
    value = args.get(name, "0")
    try:
        return parse_boolean(value)
    except ValueError:
        raise RequestError(f"{name}={value!r:.80} is not accepted; use 1 or 0{more}", code="bad_query") from None
