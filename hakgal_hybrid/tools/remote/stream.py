"""A client of event streams: connects, decodes, comes back after the last event it has had, and says what it did.

What it does on which answer is what the HTML standard has an ``EventSource`` do, except that a status which means
"later" (429, 5xx) is tried again instead of given up: this is a tool, not a page.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from ...broker.sse import RANDOM, Decoder, Message
from ...errors import HybridError, RequestError
from .request import TIMEOUT_S, Base, connected, open_response

#: The stream of a host that this package serves.
STREAM = "/api/events/stream"

#: Time between attempts while the stream has set none, and the most that attempts in vain make of it, in seconds.
RETRY_S = 3.0
MAX_RETRY_S = 30.0
#: A stream on which nothing came for so long, not even a heartbeat, is given up (seconds); see ``silence_s``.
SILENCE_S = 60.0


#: The last events of streams that clients have to come back to.
FAREWELLS = ("hybrid_bye", "hybrid_busy")


class StreamRefused(RequestError):
    """A stream that was answered with something that trying again does not change."""

    title = "Stream refused"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stream is: ``target`` is the path with its query."""

    base: Base
    target: str

    @classmethod
    def of(cls, url: str, **query: str | None) -> Source:
        """Read a URL. Without a path it means the stream of this package at that host.

        :param url: the stream's, or the host's.
        :param query: added to the URL's own; ``None`` leaves out.
        :raises ConfigurationError: if it is no URL.
        """
        base = Base.of(url)
        parts = urlsplit(url if "://" in url else f"http://{url}")
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        pairs += [(name, value) for name, value in query.items() if value is not None]
        path = parts.path if parts.path not in ("", "/") else STREAM
        root = Base(base.scheme, base.host, base.port)
        return cls(root, f"{path}?{urlencode(pairs)}" if pairs else path)

    @property
    def ours(self) -> bool:
        """True if the path is that of this package's stream, which takes this package's parameters."""
        return self.target.partition("?")[0].endswith(STREAM)


@dataclass(frozen=True, slots=True)
class Note:
    """Something about the stream itself, between its events.

    :ivar kind: ``open``: connected; ``lost``: the connection is over, and is tried again after ``retry_s``; ``gap``:
        events are missing here.
    :ivar data: of ``open`` and ``gap`` what the server said, if it is a stream of this package.
    """

    kind: Literal["open", "lost", "gap"]
    detail: str
    retry_s: float | None = None
    data: Any = None


@dataclass(frozen=True, slots=True)
class Received:
    """One event. Of an envelope all that it says is here; of a plain stream name, data and id.

    :ivar data: the decoded JSON, or the text if it is none.
    :ivar ts: when it was emitted, in milliseconds since 1970, where the stream says so.
    """

    event: str
    data: Any
    id: str | None
    ts: float | None = None
    more: dict[str, Any] = field(default_factory=dict)


def read_message(message: Message, *, envelope: bool) -> Received:
    """Return what a message says; ``envelope`` if it may be one of this package's envelopes.

    :param message: one message of the stream.
    :param envelope: whether it may be an envelope of this package.
    """
    try:
        data = json.loads(message.data)
    except ValueError:
        data = message.data
    if envelope and message.event == "message" and isinstance(data, dict) and isinstance(data.get("event"), str):
        more = {name: value for name, value in data.items() if name not in ("event", "data", "id", "ts", "args")}
        ts = data.get("ts")
        return Received(data["event"], data.get("data"), data.get("id"),
                        ts if isinstance(ts, (int, float)) else None, more)
    return Received(message.event, data, message.id or None)


class Events:
    """The events of one stream, over any number of connections.

    :param source: where the stream is.
    :param headers: sent with each request: the key, say.
    :param last_event_id: resume after this one to begin with.
    :param once: end with the first connection, instead of coming back.
    :param silence_s: give a connection up on which nothing came for so long; a stream of this package says itself how
        often it sends a heartbeat, and three of those are waited for.
    :param timeout: seconds to connect, and to be answered.

    :ivar last_event_id: what the next connection will ask for.
    """

    def __init__(self, source: Source, *, headers: Mapping[str, str] | None = None, last_event_id: str = "",
                 once: bool = False, silence_s: float = SILENCE_S, timeout: float = TIMEOUT_S) -> None:
        self.source, self.last_event_id = source, last_event_id
        self._headers, self._once, self._silence_s, self._timeout = dict(headers or {}), once, silence_s, timeout
        self._envelope = source.ours
        self._retry_s = RETRY_S
        self._in_vain = 0
        self._stopped = threading.Event()
        self._sock: socket.socket | None = None

    def stop(self) -> None:
        """End the iteration, from any thread."""
        self._stopped.set()
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[Received | Note]:
        """Yield events and notes until :meth:`stop`, or until the server says that there is no stream for us.

        :raises StreamRefused: for an answer that trying again does not change.
        """
        while not self._stopped.is_set():
            detail, wait = "the server ended the stream", self._retry_s
            try:
                yield from self._connection()
            except _Later as later:
                detail, wait = str(later), max(later.retry_after, self._retry_s)
                self._in_vain += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                # ValueError: of a response that stop() has closed.
                detail = str(error) or type(error).__name__
                self._in_vain += 1
            if self._stopped.is_set():
                return
            if self._once:
                yield Note("lost", detail)
                return
            wait = min(wait * 2 ** min(self._in_vain, 6), max(wait, MAX_RETRY_S)) if self._in_vain else self._retry_s
            wait *= RANDOM.uniform(1, 1.25)  # many tools that lost one server shall not come back at once
            yield Note("lost", detail, round(wait, 3))
            self._stopped.wait(wait)

    def _connection(self) -> Iterator[Received | Note]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **self._headers}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        with connected(self.source.base, timeout=self._timeout) as sock:
            self._sock = sock
            try:
                if self._stopped.is_set():
                    return
                with open_response(self.source.base, sock, "GET", self.source.target, headers) as opened:
                    _check(opened.raw)
                    sock.settimeout(self._silence_s)
                    if not self.source.ours:  # ours says more, in its first event
                        yield Note("open", f"connected to {self.source.base.url}")
                    yield from self._messages(opened.raw, sock)
            finally:
                self._sock = None

    def _messages(self, response: http.client.HTTPResponse, sock: socket.socket) -> Iterator[Received | Note]:
        decoder = Decoder(self.last_event_id)
        farewell = False
        while not self._stopped.is_set():
            try:
                chunk = response.read1(65536)
            except http.client.IncompleteRead:
                if farewell:  # after which no body ends: who stops at a clean end has to come back, too
                    return
                raise
            except TimeoutError:
                raise TimeoutError(f"nothing came for {sock.gettimeout():g} s, not even a heartbeat") from None
            if not chunk:
                return
            messages = decoder.feed(chunk)
            if decoder.retry is not None:
                self._retry_s = decoder.retry / 1000
            for message in messages:
                self._in_vain = 0
                self.last_event_id = message.id
                farewell = message.event in FAREWELLS
                received = read_message(message, envelope=self._envelope)
                yield self._understood(received, sock) or received
            self.last_event_id = decoder.last_event_id

    def _understood(self, received: Received, sock: socket.socket) -> Note | None:
        """Return the note that an event about the stream itself is, if it is one."""
        data = received.data if isinstance(received.data, dict) else {}
        if received.event == "hybrid_open":
            heartbeat = data.get("heartbeat_s")
            if isinstance(heartbeat, (int, float)):
                sock.settimeout(max(3 * heartbeat, 5.0))
            # Not the token: who reads what a tool prints could speak as this client.
            answer = {name: value for name, value in data.items() if name != "token"}
            return Note("open", f"connected to {self.source.base.url}", data=answer)
        if received.event != "hybrid_gap":
            return None
        missed = data.get("missed")
        count = "an unknown number of events" if missed is None else f"{missed} event{'' if missed == 1 else 's'}"
        return Note("gap", f"{count} missing ({data.get('reason', 'no reason given')})", data=data)


class _Later(Exception):
    """An answer that means "not now".

    :param detail: what the answer says.
    :param retry_after: how long to wait, in seconds.
    """

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def _check(response: http.client.HTTPResponse) -> None:
    """Let an event stream pass."""
    kind = response.headers.get_content_type()
    if response.status == 200 and kind == "text/event-stream":
        return
    detail = f"status {response.status}"
    if kind in ("application/problem+json", "application/json"):
        with contextlib.suppress(ValueError, OSError, http.client.HTTPException):
            answer = json.loads(response.read(65536))
            detail += f", {answer.get('code')}: {answer.get('detail')}" if isinstance(answer, dict) else ""
    if response.status in (429, 500, 502, 503, 504):
        after = response.headers.get("Retry-After", "")
        raise _Later(f"not now: {detail}", float(after) if re.fullmatch("[0-9]{1,6}", after) else 0.0)
    if response.status == 200:
        raise StreamRefused(f"this is no event stream: its Content-Type is {kind!r}", code="not_a_stream")
    raise StreamRefused(f"the stream was refused: {detail}", code="stream_refused")


def problem_of(document: Any, status: int) -> HybridError:
    """Return a refusal as the error that the host raised: with its status, code and sentence.

    :param document: the JSON value of the answer.
    :param status: the status of the answer.
    """
    answer = document if isinstance(document, dict) else {}
    detail = str(answer.get("detail") or answer.get("error") or answer.get("message") or f"status {status}")
    word = str(answer.get("code") or f"status {status}")
    return RequestError(detail, status=status, code=word)
