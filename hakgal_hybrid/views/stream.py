"""``GET /api/events/stream``: opening a stream, and serving it where a request holds its own thread."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from flask import Blueprint, Response, request

from ..client import Client
from ..errors import HybridError, Overloaded, RequestError, UnsuitableServer
from ..event import MAX_NAME, checked_name
from ..feed import Feed
from ..link import Link, bad_ticket
from ..settings import _BOOLEANS
from ..tickets import is_signed
from ..wire import encode_event
from ..wish import Wish
from .gate import HANDOFF, REFUSED, STREAM, STREAM_HEADERS, behind_the_gate, problem

if TYPE_CHECKING:
    from ..extension import HybridTransport

_SINGLE_THREADED = ("this server handles one request at a time, so that a stream would block it for ever; use "
                    "socketio.run, a threaded server, or gunicorn with --worker-class gthread or gevent")
_MULTIPROCESS = ("this app runs in several processes, each of which would hold a part of the events only; "
                 "use one process (gunicorn --workers 1)")

clock = time.monotonic


def blueprint(transport: HybridTransport) -> Blueprint:
    """Return the blueprint that serves streams of ``transport``."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_stream", __name__), transport.handlers)

    # HEAD is routed with GET; provide_automatic_options is off because the gate answers OPTIONS.
    @views.get(STREAM, provide_automatic_options=False, strict_slashes=True)
    def stream() -> Response:
        environ = request.environ
        try:
            check_server(environ)
            args = request.args.to_dict() if environ.get("QUERY_STRING") else {}
            wish = parse_wish(args, environ.get("HTTP_LAST_EVENT_ID"))
            if environ["REQUEST_METHOD"] == "HEAD":
                return Response(iter(()), headers=STREAM_HEADERS)
            return _open(transport, wish, environ)
        except Overloaded as busy:
            environ[REFUSED] = busy.code
            if not wants_stream(environ):
                return problem(busy)
            return Response([busy_body(busy)], headers=STREAM_HEADERS)
        except HybridError as error:
            return problem(error)

    return views


def parse_wish(args: Any, header: str | None) -> Wish:
    """Read a stream's query and ``Last-Event-ID`` header (which wins over ``last_event_id=``).

    :raises RequestError: 422 naming the parameter, for anything that makes no sense.
    """
    namespace = args.get("namespace", "/") or "/"
    if not namespace.startswith("/") or len(namespace) > MAX_NAME:
        raise RequestError(f"namespace={namespace!r:.80} does not begin with '/'", code="bad_query")
    events = tuple(name for name in (part.strip() for part in args.get("events", "").split(",")) if name)
    if sum(map(len, events)) > 4096:
        raise RequestError("events= is longer than 4096 characters", code="bad_query")
    for name in events:
        if not name.startswith("hybrid_"):  # our own events always come, so naming one does no harm
            checked_name(name)
    last_event_id = header if header is not None else args.get("last_event_id")
    snapshot: Literal["", "1", "gap"] = "gap" if args.get("snapshot") == "gap" else ""
    if not snapshot and _flag(args, "snapshot", " or gap"):
        snapshot = "1"
    heartbeat = args.get("heartbeat", "comment")
    if heartbeat not in ("comment", "event"):
        raise RequestError(f"heartbeat={heartbeat!r:.80} is not accepted; use comment or event", code="bad_query")
    return Wish(namespace, events, snapshot, _flag(args, "envelope"), last_event_id or None, args.get("ticket"),
                heartbeat == "event")


def _flag(args: Any, name: str, more: str = "") -> bool:
    value = args.get(name, "0")
    if value.lower() not in _BOOLEANS:
        raise RequestError(f"{name}={value!r:.80} is not accepted; use 1 or 0{more}", code="bad_query")
    return _BOOLEANS[value.lower()]


def check_server(environ: dict[str, Any]) -> None:
    """Refuse to open a stream where it would block the server, or show a part of the events only.

    :raises UnsuitableServer: 503, saying what would do.
    """
    if environ.get("wsgi.multiprocess"):
        raise UnsuitableServer(_MULTIPROCESS, code="several_processes")
    # The test client says neither that it is threaded nor what server it is.
    if "SERVER_SOFTWARE" in environ and not environ.get("wsgi.multithread"):
        raise UnsuitableServer(_SINGLE_THREADED, code="single_threaded_server")


def _open(transport: HybridTransport, wish: Wish, environ: dict[str, Any]) -> Response:
    feed = open_feed(transport, wish)
    _limit_writes(environ, transport.settings.stall_s)
    environ[HANDOFF].append(feed)
    return Response(b"", headers=STREAM_HEADERS)


def open_feed(transport: HybridTransport, wish: Wish) -> Feed:
    """Return the feed of a stream: of the link that a ticket names, or of a new client, which connects now.

    :raises HybridError: if the ticket is worth nothing, the host refuses the client, or a limit is reached.
    """
    links = transport.hub.links
    link, wish = _link_of(transport, wish)
    feed = Feed(link, transport.hub, transport.settings, wish, transport.on_gap)
    replaced = links.carry(link, feed)
    try:
        feed.prepare()
    except BaseException:
        transport.stream_left(feed, "failed")
        raise
    if replaced:
        transport.hub.wake()
    return feed


def _link_of(transport: HybridTransport, wish: Wish) -> tuple[Link, Wish]:
    """Return the link to be carried, and the wish of whoever opens it: with a ticket only if somebody comes back."""

    def connect() -> Client:
        transport.authority.check("stream", wish.namespace)
        return transport.open_client(request.environ, wish.namespace)

    if wish.ticket is None:
        return _carried(connect()), wish
    if is_signed(wish.ticket):
        client, resumed = transport.tickets.redeem(wish.ticket, request.query_string.decode("latin-1"), connect)
        link = _carried(client)
        if not resumed:
            return link, dataclasses.replace(wish, ticket=None)
    else:
        found = transport.hub.links.find(wish.ticket)
        if found is None:
            raise bad_ticket()
        link = found
    first = next(iter(link.living), None)
    transport.authority.check("stream", wish.namespace if first is None else first.namespace, client=first)
    return link, wish


def _carried(client: Client) -> Link:
    link = client.link
    if link is None:
        raise bad_ticket()
    return link


def _limit_writes(environ: dict[str, Any], seconds: float) -> None:
    """Have a server that would wait for a stalled client for ever give up, where it shows us its socket."""
    for name in ("werkzeug.socket", "gunicorn.socket"):
        if name in environ:
            environ[name].settimeout(seconds)
    if "eventlet.input" in environ:
        environ["eventlet.input"].get_socket().settimeout(seconds)


class StreamBody:
    """The body of a stream under a server that gives it a thread: blocks for what is new, up to a heartbeat.

    :meth:`close` may be called at any time, from any thread, any number of times.
    """

    def __init__(self, transport: HybridTransport, feed: Feed) -> None:
        self._transport = transport
        self._feed = feed
        self._opened = False
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._opened:
            self._opened = True
            return self._feed.opening()
        hub, feed = self._transport.hub, self._feed
        beat_at = clock() + feed.settings.heartbeat_s  # what came before has just been sent
        while not self._closed:
            stopping = self._transport.stopping
            chunk = b"" if feed.replaced else feed.take()
            if chunk:
                return chunk
            if feed.finished:
                break
            if stopping:
                self._closed = True
                return feed.bye()
            with hub.changed:
                # What is new may all be for others: that puts no heartbeat off.
                woken = beat_at > clock() and hub.changed.wait_for(
                    lambda: feed.behind or self._closed or feed.finished or self._transport.stopping,
                    beat_at - clock())
            if not woken:
                return feed.beat()
        raise StopIteration

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        self._transport.stream_left(self._feed, "closed")
        self._transport.hub.wake()

    def __del__(self) -> None:
        # A response that no server ever took up (the host's after_request raised) is closed by nobody else.
        if not self._closed:
            self.close()


def wants_stream(environ: dict[str, Any]) -> bool:
    """True if the client says that it is an ``EventSource`` or acts like one."""
    return "text/event-stream" in environ.get("HTTP_ACCEPT", "")


def busy_body(busy: Overloaded) -> bytes:
    """Return the stream that refuses one for now: an ``EventSource`` comes back after it, but never after a 503."""
    retry_ms = round(busy.retry_after * 1000 * random.uniform(1.0, 2.0))
    data = json.dumps({"retry_ms": retry_ms, "code": busy.code, "detail": busy.detail})
    return encode_event(None, retry=retry_ms) + encode_event(data, event="hybrid_busy")
