"""One HTTP request to one address, timed in its parts.

Not :mod:`urllib.request`, because that resolves, connects and falls back between addresses by itself: exactly what has
to be kept apart here. A request is made on a connection of its own and follows no redirect.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...errors import ConfigurationError

#: How long to wait for an address to accept, and for each part of an answer, in seconds.
TIMEOUT_S = 15.0
#: More than this of a body is not read.
MAX_BODY = 16 << 20


@dataclass(frozen=True, slots=True)
class Base:
    """Where a host is: ``scheme://host:port``, and a path in front of its own if it is mounted below one."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def of(cls, url: str) -> Base:
        """Read a URL as an operator types it; ``http://`` may be left out.

        :param url: where the host is; ``http://`` may be left out.
        :raises ConfigurationError: if it is none, or carries a user name or password.
        """
        text = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigurationError.bad_value("URL", _without_user(url), "a URL such as http://127.0.0.1:5001")
        return cls(parts.scheme, parts.hostname, port or {"http": 80, "https": 443}[parts.scheme],
                   parts.path.rstrip("/"))

    @property
    def netloc(self) -> str:
        """Host and port, as the header ``Host`` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return f"{self.scheme}://{self.netloc}{self.path}"


@dataclass(frozen=True, slots=True)
class Address:
    """One address a name resolves to."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and when: durations in seconds.

    :ivar connect_s: TCP, and TLS where it is spoken.
    :ivar first_byte_s: from the end of connecting to the first byte of the answer.
    :ivar total_s: from the beginning of connecting to the end of the body.
    :ivar local: our own address and port on that connection.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    connect_s: float
    first_byte_s: float
    total_s: float
    local: tuple[Any, ...] = ()

    def json(self) -> Any:
        """The body as JSON, or ``None`` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def resolve(base: Base) -> list[Address]:
    """Return the addresses of a host in the order in which a client would try them.

    :param base: the host, whose name is resolved.
    :raises OSError: if the name has none.
    """
    found = socket.getaddrinfo(base.host, base.port, type=socket.SOCK_STREAM)
    return [Address(family, tuple(sockaddr)) for family, _, _, _, sockaddr in found]


def is_loopback(host: str) -> bool:
    """Return whether a name or an address without brackets is that of this machine.

    :param host: ``localhost``, a name below it, or an address; every other name is taken for another machine.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def connected(base: Base, address: Address | None = None, timeout: float = TIMEOUT_S, *,
            receive_buffer: int | None = None) -> socket.socket:
    """Return a connection to one address (by default to the first that accepts), TLS included.

    :param base: the host.
    :param address: the only address that is tried.
    :param timeout: seconds for each address to accept.
    :param receive_buffer: what the kernel shall hold for us, in bytes; by default what it likes.
    :raises OSError: if nobody accepts in time.
    """
    last: OSError | None = None
    for candidate in [address] if address is not None else resolve(base):
        sock = socket.socket(candidate.family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(timeout)
            sock.connect(candidate.sockaddr)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if base.scheme == "https":
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=base.host)
            return sock
        except OSError as error:
            sock.close()
            last = error
    raise last or OSError(f"{base.host} has no address")


def request(base: Base, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, *,
            address: Address | None = None, timeout: float = TIMEOUT_S) -> Answer:
    """Make one request; a status that is an error is an answer like any other.

    :param base: the host.
    :param method: the HTTP method.
    :param path: the path with its query.
    :param body: JSON, or ``None`` for none.
    :param headers: sent with the request, by name.
    :param address: where to connect to; by default the first address that accepts.
    :param timeout: how long an address may take to accept, and each part of an answer, in seconds.
    :raises OSError: if there was no answer (``http.client``'s errors come as ``ConnectionError``).
    """
    data = None if body is None else json.dumps(body).encode()
    head = {"Accept": "application/json, */*", **({} if data is None else {"Content-Type": "application/json"}),
            **(headers or {})}
    started = time.perf_counter()
    with connected(base, address, timeout) as sock:
        local = tuple(sock.getsockname()[:2])
        with open_response(base, sock, method, path, head, data) as response:
            return _read(response, started, local)


def _read(response: OpenResponse, started: float, local: tuple[Any, ...]) -> Answer:
    try:
        content = response.raw.read(MAX_BODY)
    except http.client.HTTPException as error:
        raise ConnectionError(f"the answer broke off: {error}") from error
    return Answer(response.raw.status, response.raw.headers, content, response.asked_at - started,
                  response.answered_at - response.asked_at, time.perf_counter() - started, local)


@dataclass(frozen=True, slots=True)
class OpenResponse:
    """An answer of which the body is still to be read; times are those of :func:`time.perf_counter`."""

    raw: http.client.HTTPResponse
    asked_at: float
    answered_at: float


@contextlib.contextmanager
def open_response(base: Base, sock: socket.socket, method: str, path: str, headers: Mapping[str, str],
                  data: bytes | None = None) -> Iterator[OpenResponse]:
    """Send a request over a connection, and wait for the head of its answer.

    :param base: the host.
    :param sock: a new connection to the host.
    :param method: the HTTP method.
    :param path: the path with its query.
    :param headers: sent with the request, by name.
    :param data: the body as bytes.
    :raises OSError: if there is none.
    """
    connection = http.client.HTTPConnection(base.host, base.port)
    connection.sock = sock
    asked_at = time.perf_counter()
    try:
        connection.request(method, base.path + path, data, {"Host": base.netloc, "Connection": "close", **headers})
        if not isinstance(sock, ssl.SSLSocket):
            sock.recv(1, socket.MSG_PEEK)  # the first byte, not the last one of the headers
        answered_at = time.perf_counter()
        with connection.getresponse() as raw:
            yield OpenResponse(raw, asked_at, answered_at)
    except http.client.HTTPException as error:
        raise ConnectionError(f"this is no HTTP answer: {error!r}") from error


def key_headers(key: str | None = None) -> dict[str, str]:
    """The header with the key (by default that of the environment's ``HAKGAL_API_KEY``), if there is one.

    :param key: the API key; by default that of the environment's ``HAKGAL_API_KEY``.
    """
    key = key or os.environ.get("HAKGAL_API_KEY") or None
    return {} if key is None else {"X-API-Key": key}


def _without_user(url: str) -> str:
    return f"…@{url.rsplit('@', 1)[1]}" if "@" in url else url
