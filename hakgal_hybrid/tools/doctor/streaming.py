"""The stream's way from the host to us: what a proxy on it does to events, headers and silence."""

from __future__ import annotations

import http.client
import re
import threading
from typing import Any

from ..remote.request import Base
from .findings import Finding, not_checked, ok, problem, warning
from .opened_stream import OpenedStream
from .target import STREAM, ExaminedHost, ms

#: What the first event may take behind the head, in seconds: it leaves with it.
_PROMPT_S = 1.0
#: No event has this name, so that a stream filtered by it is silent.
SILENT = "?events=hybrid-doctor-hears-nothing"

NO_BUFFER = ("turn buffering off for /api/events/stream on the proxy (nginx: proxy_buffering off, and do not ignore "
             "the header X-Accel-Buffering; Apache: flushpackets=on; Caddy: flush_interval -1)")


def check_stream(host: ExaminedHost) -> Finding:
    """Open a stream as a browser does, and see when and how its first event comes.

    :param host: the host that is examined.
    """
    streams = _Streams(host)
    try:
        with OpenedStream(host, STREAM, {"Accept-Encoding": "gzip, deflate"}, host.options.wait_s) as stream:
            finding = _judge_stream(host, stream, streams)
    except TimeoutError:
        finding = _held_up(host, streams, "not even the head of the answer came", {})
    except (OSError, http.client.HTTPException) as error:
        finding = problem("stream", "stream_broken", f"the stream broke off: {error or type(error).__name__}",
                          remedy="look at the logs of the host and of the proxy")
    finally:
        streams.stop()
    return finding


class _Streams:
    """How many streams the host has open by its own count: now, and again while one of ours may be held up.

    :param host: the host that is examined.
    """

    def __init__(self, host: ExaminedHost) -> None:
        self._host = host
        self.before = host.status("streams")
        self.meanwhile: int | None = None
        self._timer = threading.Timer(host.options.wait_s / 2, self._ask)
        self._timer.daemon = True
        self._timer.start()

    def _ask(self) -> None:
        self.meanwhile = self._host.status("streams")

    def stop(self) -> None:
        """Do not ask again."""
        self._timer.cancel()


def _judge_stream(host: ExaminedHost, stream: OpenedStream, streams: _Streams) -> Finding:
    refused = refusal(stream)
    if refused is not None:
        return refused
    headers = {name: stream.headers[name] for name in ("Server", "Via", "X-Accel-Buffering", "Cache-Control",
                                                       "Content-Encoding", "Content-Length") if name in stream.headers}
    shown = ", ".join(f"{name}: {value}" for name, value in headers.items()) or "none that tell something"
    evidence = [f"head after {ms(stream.head_s)} ms", f"headers: {shown}"]
    try:
        first_s, messages = stream.first()
    except TimeoutError:
        return _held_up(host, streams, f"the head came after {ms(stream.head_s)} ms, and no event behind it",
                                          headers)
    evidence.append(f"first event ({messages[0].event}) after {ms(first_s)} ms")
    data: dict[str, Any] = {"head_ms": ms(stream.head_s), "first_event_ms": ms(first_s), "headers": headers}
    if messages[0].event == "hybrid_busy":
        return warning("stream", "shed", "the host has as many streams as it may have, and shed this one", *evidence,
                       remedy="raise HYBRID_MAX_STREAMS or HYBRID_MAX_STREAMS_PER_ADDRESS", **data)
    if first_s - stream.head_s > _PROMPT_S:
        return problem("stream", "buffering", f"the first event came {ms(first_s - stream.head_s)} ms after the head "
                       "of the answer: something on the path buffers", *evidence, *_about_header(headers),
                       remedy=NO_BUFFER, **data)
    if "Content-Encoding" in headers:
        return problem("stream", "compressing", "something on the path compresses the stream "
                       f"({headers['Content-Encoding']}): it may hold events back until a block is full, although the "
                       "host says no-transform", *evidence, remedy="leave text/event-stream out of what the proxy "
                       "compresses (nginx: gzip off for this location)", **data)
    return ok("stream", f"the first event comes {ms(first_s)} ms after the request", *evidence, *_about_header(headers),
              **data)


def refusal(stream: OpenedStream, check: str = "stream") -> Finding | None:
    """Return why an answer is no event stream, or ``None`` if it is one.

    :param stream: what was opened.
    :param check: the name of the check.
    """
    if stream.is_stream:
        return None
    if stream.status in (401, 403):
        return not_checked(check, f"the host does not let us read ({stream.status}); give the key (HAKGAL_API_KEY)",
                           status=stream.status)
    if stream.status in (404, 405):
        return not_checked(check, f"the host has no stream at {STREAM} ({stream.status})")
    return problem(check, "stream_broken", f"{STREAM} answered {stream.status} with "
                   f"{stream.headers.get_content_type()} in place of an event stream",
                   remedy="let the proxy pass /api/ on to the host; else see the host's log")


def _about_header(headers: dict[str, str]) -> tuple[str, ...]:
    if "X-Accel-Buffering" in headers:
        return ()
    return ("X-Accel-Buffering is missing: nginx obeys and removes it; anything else that removes it, or a host that "
            "does not send it, leaves an nginx in between to buffer",)


def _held_up(host: ExaminedHost, streams: _Streams, what: str, headers: dict[str, str]) -> Finding:
    """Return the finding when nothing came: whether the host or a proxy holds the stream up."""
    waited = f"{what} within {host.options.wait_s:g} s"
    evidence = [waited, *_about_header(headers)]
    before, meanwhile = streams.before, streams.meanwhile
    if before is not None and meanwhile is not None and meanwhile > before:
        evidence.append(f"the host has opened the stream meanwhile ({before} before, {meanwhile} then)")
    if host.options.direct is not None:
        evidence.append(_directly(host, host.options.direct))
    return problem("stream", "buffering", "something on the path buffers the stream: its first event does not come",
                   *evidence, remedy=NO_BUFFER)


def _directly(host: ExaminedHost, url: str) -> str:
    try:
        with OpenedStream(host, STREAM, {}, host.options.wait_s, base=Base.of(url)) as stream:
            return f"directly at {url} the first event comes after {ms(stream.first()[0])} ms"
    except (OSError, http.client.HTTPException) as error:
        return f"directly at {url} it does not come either ({error or type(error).__name__})"


def check_resuming(host: ExaminedHost) -> Finding:
    """Resume after a text that is no id: a host that gets ``Last-Event-ID`` answers with a gap.

    :param host: the host that is examined.
    """
    try:
        with OpenedStream(host, STREAM + SILENT, {"Last-Event-ID": "doctor"}, host.options.wait_s) as stream:
            refused = refusal(stream, "resuming")
            if refused is not None:
                return refused if refused.cause == "" else not_checked("resuming", "there is no stream")
            by_header = _sends_gap(stream)
        with OpenedStream(host, f"{STREAM}{SILENT}&last_event_id=doctor", {}, host.options.wait_s) as stream:
            by_query = _sends_gap(stream)
    except (OSError, http.client.HTTPException) as error:
        return not_checked("resuming", f"no event came ({type(error).__name__})")
    if by_header:
        return ok("resuming", "Last-Event-ID reaches the host, which says what it cannot resume")
    return problem("resuming", "last_event_id", "Last-Event-ID does not reach the host: who comes back loses events "
                   "without knowing", "an id that is none was not objected to; in the query it "
                   f"was{'' if by_query else ' not'}", remedy="have the proxy pass the header Last-Event-ID on")


def _sends_gap(stream: OpenedStream) -> bool:
    """Return whether a gap is announced before the stream has been silent for a moment."""
    opened = False
    for _, _, messages in stream.pieces():
        for message in messages:
            if message.event == "hybrid_gap":
                return True
            opened = opened or message.event == "hybrid_open"
        if opened:
            # The gap leaves with the opening, in the same bytes or the next ones.
            stream.end_within(_PROMPT_S)
            try:
                for _, _, more in stream.pieces():
                    if any(message.event == "hybrid_gap" for message in more):
                        return True
            except TimeoutError:
                return False
    return False


def check_cors(host: ExaminedHost) -> Finding:
    """Send the preflight request that a browser sends before a page of another origin may read the stream.

    :param host: the host that is examined.
    """
    allowed, foreign = host.options.origin, "https://doctor.invalid"
    try:
        there = host.ask("HEAD", STREAM).status
        if there in (404, 405):
            return not_checked("cors", f"the host has no stream at {STREAM} ({there})")
        wanted, strange = (_preflight(host, origin) for origin in (allowed, foreign))
    except OSError as error:
        return not_checked("cors", f"OPTIONS {STREAM} was not answered ({error or type(error).__name__})")
    if {there, wanted["status"]} <= {401, 403} and not wanted["origin"]:
        return not_checked("cors", f"the path lets nobody ask without credentials ({there})")
    evidence = [f"{origin}: status {answer['status']}, Access-Control-Allow-Origin {answer['origin']!r}, "
                f"Access-Control-Allow-Headers {answer['headers']!r}" for origin, answer in ((allowed, wanted),
                                                                                          (foreign, strange))]
    # Every page may read our refusals; what allows something names the page, unless the path adds a header of its own.
    if strange["origin"] == foreign or any(answer["origin"] == "*" and answer["status"] < 400
                                           for answer in (wanted, strange)):
        if host.status("origins") in ("every", "app"):
            return ok("cors", "pages of strange origins may be clients: the host itself allows it", *evidence)
        return problem("cors", "cors_open", "pages of every origin may read the stream: something on the path adds "
                       "CORS headers of its own", *evidence, remedy="have the proxy add none for /api/",
                       data=[wanted, strange])
    if wanted["origin"] != allowed:
        return problem("cors", "cors_closed", f"pages of {allowed} may not read the stream", *evidence,
                       remedy=f"add {allowed} to HYBRID_ORIGINS, or see that the proxy passes Origin and OPTIONS on")
    missing = {"last-event-id", "x-api-key"} - set(re.split(r"[\s,]+", wanted["headers"].lower()))
    if wanted["status"] not in (200, 204) or missing:
        return problem("cors", "cors_closed", f"a preflight of {allowed} does not allow what our client sends",
                       *evidence, remedy="have the proxy pass OPTIONS on to the host")
    return ok("cors", f"pages of {allowed} may read, those of strangers may not", *evidence)


def _preflight(host: ExaminedHost, origin: str) -> dict[str, Any]:
    answer = host.ask("OPTIONS", STREAM, headers={
        "Origin": origin, "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id, x-api-key"})
    return {"status": answer.status, "origin": answer.headers.get("Access-Control-Allow-Origin", ""),
            "headers": answer.headers.get("Access-Control-Allow-Headers", "")}
