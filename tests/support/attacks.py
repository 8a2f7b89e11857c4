"""What the attack suite shares: a server with a key, secrets that must not show, and raw requests."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from hakgal_hybrid.web import tickets

from .servers import Answer, Http, Server

KEY = "k3y-of-the-house-5f1d"
#: What ``support.app`` signs with.
SECRET = "only for tests"
TICKET = "/api/events/ticket"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
#: As a proxy on this machine writes it for a client of another.
REMOTE = {"X-Forwarded-For": "203.0.113.9"}


def code(answer: Answer) -> tuple[int, str]:
    """Return status and problem code of an answer."""
    try:
        return answer.status, str(json.loads(answer.body).get("code", ""))
    except ValueError:
        return answer.status, ""


def refusals(server: Server) -> dict[str, int]:
    """Return what the server has counted."""
    return dict(json.loads(server.ask("GET", "/api/hybrid/status", headers={"X-API-Key": KEY}).body)["refusals"])


@contextlib.contextmanager
def counted(server: Server, name: str, least: int = 1) -> Iterator[None]:
    """Check that what is done meanwhile is counted under this name."""
    before = refusals(server).get(name, 0)
    yield
    assert refusals(server).get(name, 0) >= before + least, name


def said(server: Server, data: bytes, *, until: Callable[[bytes], bool] = lambda text: False) -> bytes:
    """Send bytes on a connection of their own; return everything that comes until the server closes it."""
    with Http(server.port) as http:
        http.send(data)
        with contextlib.suppress(ConnectionError):
            while not until(http._buffer) and http._more():
                pass
        return http._buffer


def statuses(text: bytes) -> list[int]:
    """Return the statuses of the answers in what a server has sent."""
    return [int(part[:3]) for part in text.split(b"HTTP/1.1 ")[1:]]


def make_ticket(query: str = "", *, secret: str = SECRET, age: float = 0, salt: str = tickets._SALT,
                number: str = "0123456789abcdef", digest: str | None = None) -> str:
    """Sign a ticket as the server does, with whatever is wrong with it."""
    import hashlib

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - age)

    serializer: Any = URLSafeTimedSerializer(secret, salt=salt, signer=Signer,
                                             signer_kwargs={"digest_method": hashlib.sha256})
    return str(serializer.dumps([number, tickets.query_digest(query) if digest is None else digest]))


def issue(server: Server, query: str = "") -> str:
    """Ask for a ticket."""
    answer = server.ask("POST", TICKET, {"query": query}, {"X-API-Key": KEY})
    assert answer.status == 200, answer
    assert answer.json()["expires_s"] == 60
    return str(answer.json()["ticket"])
