"""Clients of Socket.IO: whether the way to the host lets them change over to a WebSocket, and lets their polls wait."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..remote.exchange import WebSocketExchange, begin
from ..remote.request import Answer, connected, open_response
from .findings import Finding, not_checked, ok, problem, warning
from .target import CLIENTS, ExaminedHost

#: A namespace that nobody serves: who asks for it is refused, and its session stays.
_NOWHERE = "/hakgal-hybrid-doctor"
#: How much later than it should a poll may be answered (seconds).
_LATE_S = 3.0
#: How many clients that poll are named.
_NAMED = 5

_MEND_UPGRADE = ("have the proxy pass WebSockets on (nginx: proxy_http_version 1.1; proxy_set_header Upgrade "
                 "$http_upgrade; proxy_set_header Connection \"upgrade\";)")


class _Opened(NamedTuple):
    """A session that polls.

    :ivar url: its path and query.
    :ivar websocket: those of its WebSocket.
    :ivar upgrades: whether the host offers one.
    :ivar interval_s: how long a poll waits at most, before it is answered with a ping (seconds).
    """

    url: str
    websocket: str
    upgrades: bool
    interval_s: float


class _Refused(Exception):
    """The host has not opened a session."""


def check_upgrade(host: ExaminedHost) -> Finding:
    """Open a session as a client of Socket.IO does, and change over to a WebSocket.

    :param host: the host that is examined.
    """
    if not host.seen.get("socketio"):
        return not_checked("upgrade", host.why_not or "the host serves no clients of Socket.IO")
    try:
        with _opened(host) as session:
            if not session.upgrades:
                return ok("upgrade", "the host's server has no WebSockets for clients of Socket.IO: they poll")
            return _judge_upgrade(host, session)
    except _Refused as error:
        return not_checked("upgrade", str(error))
    except (OSError, http.client.HTTPException) as error:
        return problem("upgrade", "no_session", f"a session does not open ({error or type(error).__name__})",
                       remedy="look at the logs of the host and of the proxy")


def _judge_upgrade(host: ExaminedHost, session: _Opened) -> Finding:
    stripped = _stripped(host)
    try:
        with connected(host.base, host.address, host.options.connect_s) as sock:
            sock.settimeout(host.options.wait_s)
            websocket = WebSocketExchange(host.base, session.websocket, host.headers)
            texts = begin(sock, websocket)
            sock.sendall(websocket.message("2probe"))
            while "3probe" not in texts:
                data = sock.recv(4096)
                if not data:
                    raise ConnectionError("the WebSocket was closed before its first frame")
                texts = [*texts, *websocket.feed(data)]
    except OSError as error:
        evidence = [f"the handshake of the WebSocket: {error or type(error).__name__}"]
        if _stripped(host) > stripped:
            evidence.append("it came to the host without the header Upgrade")
        return problem("upgrade", "no_upgrade", "clients of Socket.IO cannot change over to a WebSocket, and go on "
                       "polling: something on the path does not pass it on", *evidence, remedy=_MEND_UPGRADE)
    polling = _who_polls(host)
    if polling:
        return warning("upgrade", "clients_poll", f"{len(polling)} clients have been polling for 30 s or more, though "
                       "we can change over to a WebSocket", *polling[:_NAMED], remedy="look at what is on their way "
                       "to the host, or at the option transports of their io()")
    return ok("upgrade", "a client of Socket.IO can change over to a WebSocket")


def _stripped(host: ExaminedHost) -> int:
    """Return how many WebSockets have come to the host without the header ``Upgrade``."""
    counts = host.status("socketio") or {}
    return int(counts.get("refused", {}).get("no_upgrade_header", 0))


def _who_polls(host: ExaminedHost) -> list[str]:
    """Return the clients that could have changed over long ago, each as a line."""
    if not (host.status("socketio") or {}).get("not_upgraded"):
        return []
    document = host.ask("GET", f"{CLIENTS}?limit=1000").json()
    clients: list[dict[str, Any]] = document.get("clients", []) if isinstance(document, dict) else []
    return [f"{client['sid']} of {client['address']}, since {client['age_s']:.0f} s" for client in clients
            if client["transport"] == "socketio-polling" and client["age_s"] >= 30]


class PollWatch:
    """A poll that waits, watched in the background until it is answered with a ping, or should be.

    :param host: the host that is examined.
    """

    def __init__(self, host: ExaminedHost) -> None:
        self._host = host
        self._finding = not_checked("polls", "it was not watched")
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finding(self) -> Finding:
        """Wait for the end, and return what it was like."""
        self._thread.join()
        return self._finding

    def _watch(self) -> None:
        try:
            self._finding = self._observe()
        except _Refused as error:
            self._finding = not_checked("polls", str(error))
        except (OSError, http.client.HTTPException) as error:
            self._finding = not_checked("polls", f"a session does not open ({error or type(error).__name__})")

    def _observe(self) -> Finding:
        host = self._host
        if not host.seen.get("socketio"):
            return not_checked("polls", host.why_not or "the host serves no clients of Socket.IO")
        with _opened(host) as session:
            if session.interval_s + _LATE_S > host.options.hold_s:
                return not_checked("polls", f"a poll waits for {session.interval_s:g} s, and is watched for "
                                   f"{host.options.hold_s:g} s at most (--hold)")
            # Who has asked for no namespace is closed before a poll has waited for long.
            _send(host, session.url, f"40{_NOWHERE},")
            host.ask("GET", session.url)
            return _judge_poll(host, session)


def _judge_poll(host: ExaminedHost, session: _Opened) -> Finding:
    started = time.perf_counter()
    try:
        answer = host.ask("GET", session.url, timeout=session.interval_s + _LATE_S)
    except TimeoutError:
        return problem("polls", "poll_unanswered", f"a poll was not answered in {session.interval_s + _LATE_S:g} s, "
                       f"though the host sends a ping after {session.interval_s:g} s",
                       remedy="look at what holds answers up on the path")
    except OSError as error:
        return _cut(session, time.perf_counter() - started, f"it broke off: {error or type(error).__name__}")
    waited = time.perf_counter() - started
    if answer.status == 200 and answer.body == b"2":
        return ok("polls", f"a poll may wait for {waited:.1f} s", interval_s=session.interval_s)
    if answer.status < 500:
        return not_checked("polls", f"a poll was answered with {answer.status} {answer.body[:80]!r}")
    return _cut(session, waited, f"it was answered with {answer.status}")


def _cut(session: _Opened, waited: float, how: str) -> Finding:
    return problem("polls", "poll_cut", f"a poll is cut after {waited:.1f} s, before the host's answer of "
                   f"{session.interval_s:g} s: a proxy on the path waits no longer, and clients of Socket.IO connect "
                   "anew each time", how, remedy="have the proxy wait longer between two reads (nginx: "
                   "proxy_read_timeout 60s), or lower the keyword ping_interval of SocketIO(…) below it",
                   cut_after_s=round(waited, 2), interval_s=session.interval_s)


@contextlib.contextmanager
def _opened(host: ExaminedHost) -> Iterator[_Opened]:
    """Open a session, and close it afterwards.

    :raises _Refused: if the host does not let us.
    """
    path = f"{host.seen['socketio']}/?EIO=4&transport="
    answer = host.ask("GET", f"{path}polling")
    said = _open_packet(answer)
    if said is None:
        shown = answer.body[:200].decode(errors="replace")
        raise _Refused(f"the host does not open a session ({answer.status} {shown})")
    query = f"&sid={said['sid']}"
    session = _Opened(f"{path}polling{query}", f"{path}websocket{query}", "websocket" in said["upgrades"],
                      said["pingInterval"] / 1000)
    try:
        yield session
    finally:
        with contextlib.suppress(OSError):
            _send(host, session.url, "1")


def _open_packet(answer: Answer) -> Any:
    """Return what the first packet says; ``None`` if it is none."""
    try:
        said = json.loads(answer.body[1:]) if answer.status == 200 and answer.body[:1] == b"0" else None
    except ValueError:
        return None
    return said if isinstance(said, dict) and {"sid", "upgrades", "pingInterval"} <= said.keys() else None


def _send(host: ExaminedHost, url: str, packet: str) -> None:
    """Send a packet by a request: not as JSON, as other requests of ours are."""
    with connected(host.base, host.address, host.options.connect_s) as sock:
        sock.settimeout(host.options.wait_s)
        with open_response(host.base, sock, "POST", url, {**host.headers, "Content-Type": "text/plain"},
                           packet.encode()) as response:
            response.raw.read(100)
