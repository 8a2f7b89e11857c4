"""Queries: what a stream request asks for, and whole numbers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict

from ..broker.event import MAX_NAME, checked_name, is_namespace
from ..broker.formats import Format
from ..broker.subscription import StreamRequest
from ..errors import RequestError
from ..settings import MAX_INTERVAL_MS
from ..settings.values import parse_boolean

#: What clients that cannot send the header ``Last-Event-ID`` call it in a query, in lower case without ``-`` and ``_``:
#: ``lastEventId`` (event-source-polyfill), ``Last-Event-ID`` and ``lastEventID`` (Mercure's), ``evs_last_event_id``.
_RESUME_NAMES = ("lasteventid", "evslasteventid")
MAX_PATTERNS = 64
#: What libraries of pages put into the query of each of their requests: Datastar the signals of the page, jQuery and
#: others a number by which no cache knows the URL.
_CHANGING_NAMES = ("datastar", "_")
#: How long a query may be that is remembered with what it asks for.
_KNOWN_BYTES = 512
#: What ``format=`` may be.
_FORMATS = tuple(form.value for form in (Format.JSON, Format.HTML, Format.DATASTAR))
_STARS = re.compile(r"\*+")


def is_resume_name(name: str) -> bool:
    """Return true if a parameter of a query names the event to resume after, in one of the spellings of clients.

    :param name: the parameter's name.
    """
    return name.lower().replace("-", "").replace("_", "") in _RESUME_NAMES


def is_bound(name: str) -> bool:
    """Return true if a signed ticket is bound to a parameter of a query: it is the same each time the page comes back.

    :param name: the parameter's name.
    """
    return name != "ticket" and name not in _CHANGING_NAMES and not is_resume_name(name)


def query_of(environ: Mapping[str, Any]) -> str:
    """Return the query of a request as text.

    :param environ: the WSGI environment of the request, where it is text that stands for bytes (PEP 3333).
    :return: the text; what is no UTF-8 in it is replaced.
    """
    query = str(environ.get("QUERY_STRING", ""))
    return query if query.isascii() else query.encode("latin-1").decode("utf-8", "replace")


def parse_stream_request(query: str, header: str | None = None) -> StreamRequest:
    """Return what a request for a stream asks for.

    :param query: the query, without ``?``.
    :param header: the header ``Last-Event-ID``, which wins over the query; an empty one is as none.
    :raises RequestError: 422 naming the parameter, for anything that makes no sense.
    """
    # Most streams of a server ask for the same; each ticket, and each page's signals, are asked with once.
    once = len(query) > _KNOWN_BYTES or "ticket=" in query or "datastar=" in query
    wanted = _parse(query) if once else _known(query)
    return dataclasses.replace(wanted, last_event_id=header) if header else wanted


def _parse(query: str) -> StreamRequest:
    args = MultiDict(parse_qsl(query, keep_blank_values=True))
    namespace = args.get("namespace", "/") or "/"
    if not is_namespace(namespace):
        raise RequestError(f"namespace={namespace!r:.80} is not accepted; use '/' and a name, of at most {MAX_NAME} "
                           "printable characters", code="bad_query")
    events = _patterns(args.get("events", ""))
    for name in events:
        if not name.startswith("hybrid_"):  # our own events come in any case, so that naming one does no harm
            checked_name(name)
    snapshot: Literal["", "1", "gap"] = "gap" if args.get("snapshot") == "gap" else ""
    if not snapshot and _flag(args, "snapshot", " or gap"):
        snapshot = "1"
    interval = args.get("interval_ms")
    # In steps, so that streams of nearly one interval get their batches together.
    interval_ms = None if interval is None else -(-parse_whole("interval_ms", interval, 0, MAX_INTERVAL_MS) // 10) * 10
    return StreamRequest(namespace, events, snapshot, _format(args), _resumed_after(args), args.get("ticket"),
                         interval_ms, _flag(args, "anywhere"))


_known = lru_cache(maxsize=256)(_parse)


def parse_whole(name: str, text: str, low: int, high: int) -> int:
    """Return a whole number of a query: decimal digits without sign, spaces or leading zeros.

    :param name: the parameter's name, for the error.
    :param text: its value.
    :param low: the smallest number that is accepted.
    :param high: the largest one.
    :raises RequestError: 422 naming the parameter, for anything else.
    """
    # The length comes first: int() raises an error of its own for some thousand digits.
    if re.fullmatch("0|[1-9][0-9]*", text) and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise RequestError(f"{name}={text!r:.80} is not accepted; use a whole number from {low} to {high}",
                       code="bad_query")


def _patterns(text: str) -> tuple[str, ...]:
    """Return the patterns of ``events=``, each once. Every event is held against all of them, so they are bounded."""
    if len(text) > 4096:
        raise RequestError("events= is longer than 4096 characters", code="bad_query")
    found = dict.fromkeys(_STARS.sub("*", part.strip()) for part in text.split(","))
    found.pop("", None)
    if len(found) > MAX_PATTERNS:
        raise RequestError(f"events= holds more than {MAX_PATTERNS} names", code="bad_query")
    return tuple(found)


def _resumed_after(args: Any) -> str | None:
    """Return the newest id of a query: a client that comes back appends its own to the URL that it was given."""
    given = [value for name, value in args.items(multi=True) if value and is_resume_name(name)]
    return given[-1] if given else None


def _format(args: Any) -> Format:
    """Return the format that ``format=``, ``unnamed=`` and ``envelope=`` ask for together."""
    text, unnamed = args.get("format"), _flag(args, "unnamed")
    if text is not None and text not in _FORMATS:
        raise RequestError(f"format={text!r:.80} is not accepted; use one of {', '.join(_FORMATS)}", code="bad_query")
    if _flag(args, "envelope"):
        if text is not None or unnamed:
            other = "unnamed=1" if text is None else f"format={text}"
            raise RequestError(f"envelope=1 and {other} ask for two formats; use one of them", code="bad_query")
        return Format.ENVELOPE
    if unnamed and text != "html":
        raise RequestError(f"unnamed=1 goes with format=html, not with format={text or 'json'}", code="bad_query")
    return Format.UNNAMED_HTML if unnamed else Format(text or "json")


def _flag(args: Any, name: str, more: str = "") -> bool:
    value = args.get(name, "0")
    try:
        return parse_boolean(value)
    except ValueError:
        raise RequestError(f"{name}={value!r:.80} is not accepted; use 1 or 0{more}", code="bad_query") from None
