"""The stream's way from the host to us: what a proxy on it does to events, headers and silence."""

from __future__ import annotations

import http.client
import re
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

from ..remote.request import Base, connected, open_response, resolve
from ..wire import Decoder, Message
from .findings import Finding, not_checked, ok, problem, warning
from .patient import STREAM, Patient, ms

#: What the first event may take behind the head, in seconds: it leaves with it.
_PROMPT_S = 1.0
#: No event has this name, so that a stream filtered by it is silent.
_SILENT = "?events=hybrid-doctor-hears-nothing"

NO_BUFFER = ("turn buffering off for /api/events/stream on the proxy (nginx: proxy_buffering off, and do not ignore "
             "the header "
             "X-Accel-Buffering; Apache: flushpackets=on; Caddy: flush_interval -1)")


class Opened:
    """One stream: what its head said, and its messages as they come, each with its time since the request."""

    def __init__(self, patient: Patient, path: str, headers: dict[str, str], timeout: float, *,
                 base: Base | None = None) -> None:
        self._base = base or patient.base
        address = patient.address if base is None else resolve(base)[0]
        self._sock = connected(self._base, address, patient.options.connect_s)
        self._sock.settimeout(timeout)
        self._deadline = time.perf_counter() + timeout
        self._started = time.perf_counter()
        self._decoder = Decoder()
        self._opening = open_response(self._base, self._sock, "GET", path,
                                      {"Accept": "text/event-stream", **patient.headers, **headers})
        try:
            self._response = self._opening.__enter__().raw
        except BaseException:
            self._sock.close()
            raise
        self.head_s = time.perf_counter() - self._started
        self.status, self.headers = self._response.status, self._response.headers
        encoding = (self.headers.get("Content-Encoding") or "").lower()
        self._unpack = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None

    @property
    def is_stream(self) -> bool:
        """Whether this is an event stream at all."""
        return self.status == 200 and self.headers.get_content_type() == "text/event-stream"

    def pieces(self) -> Iterator[tuple[float, bytes, list[Message]]]:
        """Yield what comes until the stream ends: when, the bytes, and the messages in them.

        :raises TimeoutError: at the end of the time given to it.
        """
        while True:
            left = self._deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            data = self._response.read1(65536)
            if not data:
                return
            try:
                plain = data if self._unpack is None else self._unpack.decompress(data)
            except zlib.error as error:
                raise ConnectionError(f"it is no {self.headers['Content-Encoding']}: {error}") from error
            yield time.perf_counter() - self._started, plain, self._decoder.feed(plain)

    def first(self) -> tuple[float, list[Message]]:
        """Return when the first messages came, and which.

        :raises TimeoutError: if none did in time. :raises ConnectionError: if the stream ended before.
        """
        for at, _, messages in self.pieces():
            if messages:
                return at, messages
        raise ConnectionError("the stream ended before its first event")

    def close(self) -> None:
        """Hang up."""
        self._response.close()
        self._sock.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()


def check_stream(patient: Patient) -> Finding:
    """Open a stream as a browser does, and see when and how its first event comes."""
    streams = _Streams(patient)
    try:
        with Opened(patient, STREAM, {"Accept-Encoding": "gzip, deflate"}, patient.options.wait_s) as stream:
            finding = _judge_stream(patient, stream, streams)
    except TimeoutError:
        finding = _held_up(patient, streams, "not even the head of the answer came", {})
    except (OSError, http.client.HTTPException) as error:
        finding = problem("stream", "stream_broken", f"the stream broke off: {error or type(error).__name__}",
                          remedy="look at the logs of the host and of the proxy")
    finally:
        streams.stop()
    return finding


class _Streams:
    """How many streams the host has open by its own count: now, and again while one of ours may be held up."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self.before = patient.streams()
        self.meanwhile: int | None = None
        self._timer = threading.Timer(patient.options.wait_s / 2, self._ask)
        self._timer.daemon = True
        self._timer.start()

    def _ask(self) -> None:
        self.meanwhile = self._patient.streams()

    def stop(self) -> None:
        """Do not ask again."""
        self._timer.cancel()


def _judge_stream(patient: Patient, stream: Opened, streams: _Streams) -> Finding:
    refused = _no_stream(stream)
    if refused is not None:
        return refused
    headers = {name: stream.headers[name] for name in ("Server", "Via", "X-Accel-Buffering", "Cache-Control",
                                                       "Content-Encoding", "Content-Length") if name in stream.headers}
    shown = ", ".join(f"{name}: {value}" for name, value in headers.items()) or "none that tell something"
    evidence = [f"head after {ms(stream.head_s)} ms", f"headers: {shown}"]
    try:
        first_s, messages = stream.first()
    except TimeoutError:
        return _held_up(patient, streams, f"the head came after {ms(stream.head_s)} ms, and no event behind it",
                                          headers)
    evidence.append(f"first event ({messages[0].event}) after {ms(first_s)} ms")
    data: dict[str, Any] = {"head_ms": ms(stream.head_s), "first_event_ms": ms(first_s), "headers": headers}
    if messages[0].event == "hybrid_busy":
        return warning("stream", "shed", "the host has as many streams as it may have, and shed this one", *evidence,
                       remedy="raise HYBRID_MAX_STREAMS or HYBRID_MAX_STREAMS_PER_ADDRESS", **data)
    if first_s - stream.head_s > _PROMPT_S:
        return problem("stream", "buffering", f"the first event came {ms(first_s - stream.head_s)} ms after the head "
                                              f"of "
                       "the answer: something on the path buffers", *evidence, *_about_header(headers),
                       remedy=NO_BUFFER, **data)
    if "Content-Encoding" in headers:
        return problem("stream", "compressing", f"something on the path compresses the stream "
                       f"({headers['Content-Encoding']}): it may hold events back until a block is full, although the "
                       "host says no-transform", *evidence, remedy="leave text/event-stream out of what the proxy "
                                                                   "compresses "
                       "(nginx: gzip off for this location)", **data)
    return ok("stream", f"the first event comes {ms(first_s)} ms after the request", *evidence, *_about_header(headers),
              **data)


def _no_stream(stream: Opened, check: str = "stream") -> Finding | None:
    if stream.is_stream:
        return None
    if stream.status in (401, 403):
        return not_checked(check, f"the host does not let us read ({stream.status}); give the key (HAKGAL_API_KEY)")
    if stream.status in (404, 405):
        return not_checked(check, f"the host has no stream at {STREAM} ({stream.status})")
    return problem(check, "stream_broken", f"{STREAM} answered {stream.status} with "
                   f"{stream.headers.get_content_type()} in place of an event stream",
                   remedy="let the proxy pass /api/ on to the host; else see the host's log")


def _about_header(headers: dict[str, str]) -> tuple[str, ...]:
    if "X-Accel-Buffering" in headers:
        return ()
    return ("X-Accel-Buffering is missing: nginx obeys and removes it; anything else that removes it, or a host that "
            "does "
            "not send it, leaves an nginx in between to buffer",)


def _held_up(patient: Patient, streams: _Streams, what: str, headers: dict[str, str]) -> Finding:
    """Nothing came. That the host has opened the stream, or answers directly, shows who holds it up."""
    waited = f"{what} within {patient.options.wait_s:g} s"
    evidence = [waited, *_about_header(headers)]
    before, meanwhile = streams.before, streams.meanwhile
    if before is not None and meanwhile is not None and meanwhile > before:
        evidence.append(f"the host has opened the stream meanwhile ({before} before, {meanwhile} then)")
    if patient.options.direct is not None:
        evidence.append(_directly(patient, patient.options.direct))
    return problem("stream", "buffering", "something on the path buffers the stream: its first event does not come",
                   *evidence, remedy=NO_BUFFER)


def _directly(patient: Patient, url: str) -> str:
    try:
        with Opened(patient, STREAM, {}, patient.options.wait_s, base=Base.of(url)) as stream:
            return f"directly at {url} the first event comes after {ms(stream.first()[0])} ms"
    except (OSError, http.client.HTTPException) as error:
        return f"directly at {url} it does not come either ({error or type(error).__name__})"


def check_resuming(patient: Patient) -> Finding:
    """Ask to resume after something that is no id: who reads ``Last-Event-ID`` has to say that it makes no sense."""
    try:
        with Opened(patient, STREAM + _SILENT, {"Last-Event-ID": "doctor"}, patient.options.wait_s) as stream:
            refused = _no_stream(stream, "resuming")
            if refused is not None:
                return refused if refused.cause == "" else not_checked("resuming", "there is no stream")
            told = _told_of_gap(stream)
        with Opened(patient, f"{STREAM}{_SILENT}&last_event_id=doctor", {}, patient.options.wait_s) as stream:
            by_query = _told_of_gap(stream)
    except (OSError, http.client.HTTPException) as error:
        return not_checked("resuming", f"no event came ({type(error).__name__})")
    if told:
        return ok("resuming", "Last-Event-ID reaches the host, which says what it cannot resume")
    return problem("resuming", "last_event_id", "Last-Event-ID does not reach the host: who comes back loses events "
                                                "without "
                   "being told", f"an id that is none was not objected to; in the query it "
                                 f"was{'' if by_query else ' not'}",
                   remedy="have the proxy pass the header Last-Event-ID on")


def _told_of_gap(stream: Opened) -> bool:
    """Whether a gap is told before the stream has been silent for a moment."""
    opened = False
    for _, _, messages in stream.pieces():
        for message in messages:
            if message.event == "hybrid_gap":
                return True
            opened = opened or message.event == "hybrid_open"
        if opened:
            # The gap leaves with the opening, in the same bytes or the next ones.
            stream._deadline = min(stream._deadline, time.perf_counter() + _PROMPT_S)
            try:
                for _, _, more in stream.pieces():
                    if any(message.event == "hybrid_gap" for message in more):
                        return True
            except TimeoutError:
                return False
    return False


def check_cors(patient: Patient) -> Finding:
    """Ask as a browser asks before a page of another origin may read the stream."""
    allowed, foreign = patient.options.origin, "https://doctor.invalid"
    try:
        there = patient.ask("HEAD", STREAM).status
        if there in (404, 405):
            return not_checked("cors", f"the host has no stream at {STREAM} ({there})")
        wanted, strange = (_preflight(patient, origin) for origin in (allowed, foreign))
    except OSError as error:
        return not_checked("cors", f"OPTIONS {STREAM} was not answered ({error or type(error).__name__})")
    evidence = [f"{origin}: status {told['status']}, Access-Control-Allow-Origin {told['origin']!r}, "
                f"Access-Control-Allow-Headers {told['headers']!r}" for origin, told in ((allowed, wanted),
                                                                                          (foreign, strange))]
    if strange["origin"] in (foreign, "*"):
        return problem("cors", "cors_open", "pages of every origin may read the stream: something on the path adds "
                                            "CORS "
                       "headers of its own", *evidence, remedy="have the proxy add none for /api/",
                                                               data=[wanted, strange])
    if wanted["origin"] != allowed:
        return problem("cors", "cors_closed", f"pages of {allowed} may not read the stream", *evidence,
                       remedy=f"add {allowed} to HYBRID_ORIGINS, or see that the proxy passes Origin and OPTIONS on")
    missing = {"last-event-id", "x-api-key"} - set(re.split(r"[\s,]+", wanted["headers"].lower()))
    if wanted["status"] not in (200, 204) or missing:
        return problem("cors", "cors_closed", f"a preflight of {allowed} does not allow what our client sends",
                       *evidence, remedy="have the proxy pass OPTIONS on to the host")
    return ok("cors", f"pages of {allowed} may read, those of strangers may not", *evidence)


def _preflight(patient: Patient, origin: str) -> dict[str, Any]:
    answer = patient.ask("OPTIONS", STREAM, headers={
        "Origin": origin, "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id, x-api-key"})
    return {"status": answer.status, "origin": answer.headers.get("Access-Control-Allow-Origin", ""),
            "headers": answer.headers.get("Access-Control-Allow-Headers", "")}


class Silence:
    """A silent stream, watched in the background until its first heartbeat has come, or should have."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._finding: Finding | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finding(self) -> Finding:
        """Wait for the end, and return what it was like."""
        self._thread.join()
        assert self._finding is not None
        return self._finding

    def _watch(self) -> None:
        try:
            self._finding = self._look()
        except (OSError, http.client.HTTPException) as error:
            self._finding = not_checked("heartbeat", f"the stream did not open ({error or type(error).__name__})")

    def _look(self) -> Finding:
        patient, heartbeat = self._patient, self._patient.seen.get("heartbeat_s")
        if heartbeat is None:
            return not_checked("heartbeat", patient.why_not)
        if heartbeat + 3 > patient.options.hold_s:
            return not_checked("heartbeat", f"a heartbeat comes every {heartbeat:g} s, and a silent stream is watched "
                                            f"for "
                               f"{patient.options.hold_s:g} s at most (--hold)")
        patience = max(heartbeat * 1.5, heartbeat + 3)
        with Opened(patient, STREAM + _SILENT, {}, patience) as stream:
            refused = _no_stream(stream, "heartbeat")
            if refused is not None:
                return refused if refused.cause == "" else not_checked("heartbeat", "there is no stream")
            return _judge_silence(stream, heartbeat, patience)


def _judge_silence(stream: Opened, heartbeat: float, patience: float) -> Finding:
    opened_s, at, ended, farewell = None, 0.0, "", False
    try:
        for at, data, messages in stream.pieces():
            names = {message.event for message in messages}
            farewell = farewell or bool(names & {"hybrid_bye", "hybrid_busy"})
            if opened_s is None:
                opened_s = at if "hybrid_open" in names else None
            elif data and not names:
                return ok("heartbeat", f"a heartbeat comes through after {at - opened_s:.1f} s of silence",
                          f"the host sends one every {heartbeat:g} s", heartbeat_s=heartbeat)
        ended = "ended"
    except TimeoutError:
        pass
    except (OSError, http.client.HTTPException) as error:
        ended = f"broke off ({error or type(error).__name__})"
    at = time.perf_counter() - stream._started
    if farewell:
        return not_checked("heartbeat", "the host ended the stream itself")
    if opened_s is None:
        return not_checked("heartbeat", "no event came")
    if ended:
        silent = at - opened_s
        return problem("heartbeat", "read_timeout", f"the stream {ended} after {silent:.1f} s of silence, before the "
                       f"heartbeat of {heartbeat:g} s: a proxy on the path waits no longer",
                       f"opened after {ms(opened_s)} ms, {ended} after {ms(at)} ms",
                       remedy="have the proxy wait longer between two reads (nginx: proxy_read_timeout 60s), or lower "
                       "HYBRID_HEARTBEAT_S below it", heartbeat_s=heartbeat, cut_after_s=round(silent, 2))
    return problem("heartbeat", "buffering", f"no heartbeat came in {patience:g} s, although the host sends one every "
                   f"{heartbeat:g} s: something on the path buffers", remedy=NO_BUFFER, heartbeat_s=heartbeat)


def check_forwarding(patient: Patient) -> Finding:
    """See whether a proxy stands between, and writes down for whom it asks."""
    seen = patient.seen
    if not seen:
        return not_checked("forwarding", patient.why_not)
    if seen.get("peer_port") is None:
        return not_checked("forwarding", "the host's server does not tell the port of its peer")
    evidence = [f"the host sees {seen['peer']} port {seen['peer_port']}; we are {patient.seen_from[0]} port "
                f"{patient.seen_from[1]}"]
    # A proxy on this machine may have our address, but never our port at the same time.
    if seen["peer_port"] == patient.seen_from[1]:
        return ok("forwarding", "no proxy stands between", *evidence)
    written = {name: seen["headers"][name] for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded")
               if name in seen["headers"]}
    if written:
        evidence += [f"{name}: {value}" for name, value in written.items()]
        return ok("forwarding", "the proxy writes down for whom it asks", *evidence, written=written)
    if not seen.get("loopback"):
        return ok("forwarding", "a proxy on another machine stands between, which counts as a stranger itself",
                                *evidence)
    return problem("forwarding", "no_forwarding_header", "a proxy on the host's machine writes no forwarding header: "
                                                         "every "
                   "visitor looks local, and may read, and command where no key is set", *evidence,
                   remedy="have the proxy write X-Forwarded-For (nginx: proxy_set_header X-Forwarded-For "
                   "$proxy_add_x_forwarded_for)")
