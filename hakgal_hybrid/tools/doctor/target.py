"""The host that is examined: how to reach it, and what it has answered so far."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigurationError
from ..remote.request import Address, Answer, Base, request

STATUS, SEEN, STACKS, STREAM = "/api/hybrid/status", "/api/hybrid/seen", "/api/hybrid/stacks", "/api/events/stream"
CLIENTS, BACKPLANE = "/api/hybrid/clients", "/api/hybrid/backplane"


@dataclass(frozen=True)
class Probe:
    """A request by which the host is timed."""

    method: str = "GET"
    path: str = "/health"
    body: Any = None

    @classmethod
    def of(cls, text: str) -> Probe:
        """Read ``METHOD PATH [JSON]``.

        :param text: as it was typed.
        :raises ConfigurationError: if it is something else.
        """
        method, _, rest = text.strip().partition(" ")
        path, _, body = rest.strip().partition(" ")
        try:
            value = json.loads(body) if body.strip() else None
        except ValueError:
            path = ""
        if not method.isalpha() or not path.startswith("/") or shlex.quote(method) != method:
            raise ConfigurationError.bad_value("probe", text, 'METHOD PATH [JSON], such as POST /api/search {"query": '
                                               '"x"}')
        return cls(method.upper(), path, value)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Options:
    """How the examination is done; times are seconds, unless the name says otherwise.

    :ivar probes: what is timed.
    :ivar requests: how often each is made.
    :ivar slow_ms: what takes longer is slow.
    :ivar connect_s: how long an address may take to accept.
    :ivar wait_s: how long the first event of a stream may take.
    :ivar hold_s: how long a silent stream is watched at most.
    :ivar sample_s: how long the stacks of the host are looked at.
    :ivar origin: the web origin whose pages shall be able to read.
    :ivar direct: URL of the host itself, where a proxy stands in front of it.
    :ivar probe_stall: open clients that do not read, and see what becomes of everybody else's requests.
    :ivar stall_requests: requests after which such a client is believed to hold up nobody; its socket takes some
        megabytes of events before it is full, if the host has not made it smaller.
    :ivar stall_paths: WebSockets of the host's own on which to do so, besides Socket.IO's and our stream.
    """

    probes: tuple[Probe, ...] = (Probe(),)
    requests: int = 5
    slow_ms: float = 150.0
    connect_s: float = 3.0
    wait_s: float = 5.0
    hold_s: float = 40.0
    sample_s: float = 3.0
    origin: str = "http://localhost:5173"
    direct: str | None = None
    probe_stall: bool = False
    stall_requests: int = 600
    stall_paths: tuple[str, ...] = ()


@dataclass
class ExaminedHost:
    """A host under examination.

    :ivar address: the address that is used from now on, once one has accepted.
    :ivar seen: how the host sees our requests, if it has this package and lets us ask.
    :ivar why_not: why it does not, else nothing.
    """

    base: Base
    headers: dict[str, str]
    options: Options
    address: Address | None = None
    seen: dict[str, Any] = field(default_factory=dict)
    seen_from: tuple[Any, ...] = ()
    why_not: str = ""

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *,
            timeout: float = 20.0) -> Answer:
        """Make a request at the address that was chosen.

        :param method: the HTTP method.
        :param path: the path with its query.
        :param body: a JSON value; ``None`` sends no body.
        :param headers: sent with the request, by name.
        :param timeout: how long an address may take to accept, and each part of an answer, in seconds.
        :raises OSError: if it is not answered.
        """
        return request(self.base, method, path, body, {**self.headers, **(headers or {})}, address=self.address,
                       timeout=timeout)

    def identify(self) -> None:
        """Find out whether the host has this package, and how it sees us."""
        try:
            answer = self.ask("GET", SEEN)
        except OSError as error:
            self.why_not = f"GET {SEEN} was not answered ({error or type(error).__name__})"
            return
        document = answer.json()
        if answer.status == 200 and isinstance(document, dict) and "patched" in document:
            self.seen, self.seen_from = document, answer.local
        elif answer.status in (401, 403):
            said = document if isinstance(document, dict) else {}
            self.why_not = (f"the host does not let us ask ({answer.status} {said.get('code')}: {said.get('detail')}); "
                            "give the key (HAKGAL_API_KEY)")
        else:
            self.why_not = f"this package is not loaded in the host (GET {SEEN}: {answer.status})"

    def status(self, member: str) -> Any:
        """Return a member of the host's status, if it tells.

        :param member: its name.
        :return: its value; ``None`` without one.
        """
        try:
            document = self.ask("GET", STATUS).json()
        except OSError:
            return None
        return document.get(member) if isinstance(document, dict) else None

    def clients(self) -> int | None:
        """Return how many clients are connected to the host, by what it tells; ``None`` if it tells nothing."""
        counts = []
        for path, members in ((STATUS, ("streams",)), ("/api/status", ("websocket", "connected_clients"))):
            try:
                document = self.ask("GET", path).json()
            except OSError:
                continue
            for member in members:
                document = document.get(member) if isinstance(document, dict) else None
            if isinstance(document, int):
                counts.append(document)
        return max(counts, default=None)


def ms(seconds: float) -> float:
    """Return a duration in milliseconds.

    :param seconds: a duration in seconds.
    """
    return round(seconds * 1000, 1)
