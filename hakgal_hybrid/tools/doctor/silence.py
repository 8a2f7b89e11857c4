"""Checks heartbeats and the read time-outs of proxies."""

from __future__ import annotations

import http.client
import threading

from .findings import Finding, not_checked, ok, problem, warning
from .opened_stream import OpenedStream
from .streaming import NO_BUFFER, SILENT, refusal
from .target import STREAM, ExaminedHost, ms


class Silence:
    """A silent stream, watched in the background until its first heartbeat has come, or should have.

    :param host: the host that is examined.
    """

    def __init__(self, host: ExaminedHost) -> None:
        self._host = host
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
            self._finding = self._observe()
        except (OSError, http.client.HTTPException) as error:
            self._finding = not_checked("heartbeat", f"the stream did not open ({error or type(error).__name__})")

    def _observe(self) -> Finding:
        host, heartbeat = self._host, self._host.seen.get("heartbeat_s")
        if heartbeat is None:
            return not_checked("heartbeat", host.why_not)
        if heartbeat + 3 > host.options.hold_s:
            return not_checked("heartbeat", f"a heartbeat comes every {heartbeat:g} s, and a silent stream is watched "
                               f"for {host.options.hold_s:g} s at most (--hold)")
        patience = max(heartbeat * 1.5, heartbeat + 3)
        with OpenedStream(host, STREAM + SILENT, {}, patience) as stream:
            refused = refusal(stream, "heartbeat")
            if refused is not None:
                return refused if refused.cause == "" else not_checked("heartbeat", "there is no stream")
            return _judge_silence(stream, heartbeat, patience)


def _judge_silence(stream: OpenedStream, heartbeat: float, patience: float) -> Finding:
    opened_s, at, ended, farewell = None, 0.0, "", False
    try:
        for at, _, messages in stream.pieces():
            names = {message.event for message in messages}
            farewell = farewell or bool(names & {"hybrid_bye", "hybrid_busy"})
            if opened_s is None:
                opened_s = at if "hybrid_open" in names else None
            elif "hybrid_heartbeat" in names:
                return ok("heartbeat", f"a heartbeat comes through after {at - opened_s:.1f} s of silence",
                          f"the host sends one every {heartbeat:g} s", heartbeat_s=heartbeat)
        ended = "ended"
    except TimeoutError:
        pass
    except (OSError, http.client.HTTPException) as error:
        ended = f"broke off ({error or type(error).__name__})"
    at = stream.age_s
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


def check_forwarding(host: ExaminedHost) -> Finding:
    """Check whether there is a proxy, and whether it forwards the client's address.

    :param host: the host that is examined.
    """
    seen = host.seen
    if not seen:
        return not_checked("forwarding", host.why_not)
    if seen.get("hidden"):
        return warning("forwarding", "proxy_hidden", "the host's server hides whether a proxy stands between, so that "
                       "nobody counts as this machine", str(seen["hidden"]), remedy="give the server the options "
                       "named above, or have everybody send the key")
    if seen.get("peer_port") is None:
        return not_checked("forwarding", "the host's server does not tell the port of its peer")
    evidence = [f"the host sees {seen['peer']} port {seen['peer_port']}; we are {host.seen_from[0]} port "
                f"{host.seen_from[1]}"]
    # A proxy on this machine may have our address, but never our port at the same time.
    if seen["peer_port"] == host.seen_from[1]:
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
                   "every visitor looks local, and may read, and command where no key is set", *evidence,
                   remedy="have the proxy write X-Forwarded-For (nginx: proxy_set_header X-Forwarded-For "
                   "$proxy_add_x_forwarded_for)")
