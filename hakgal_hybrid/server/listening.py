"""Listening sockets: every address that a name resolves to."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from gevent import socket as gevent_socket

from ..errors import ConfigurationError
from ..logs import get_logger

logger = get_logger(__name__)

#: For how long (seconds) an address that is in use is tried again. On Windows, where we ask for it exclusively, it is
#: taken until the last connection of the server before us has ended.
PATIENCE_S = 5.0 if sys.platform == "win32" else 0.0
_RETRY_S = 0.25
#: How many connections may wait to be accepted. The system's own bound counts (``net.core.somaxconn`` on Linux):
#: a connection that finds no place is dropped, and its client's system tries again after a second.
QUEUE = 65535
_REMEDY = "choose a free port (port=, --port; HAKGAL_PORT for transport.run)"
#: The address is taken, or, on Windows, taken exclusively.
_IN_USE = (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1), getattr(errno, "WSAEACCES", -1))


def listening_sockets(host: str, port: int, resolve: Callable[..., Any] = socket.getaddrinfo, *,
                      reuse_port: bool = False, patience_s: float = PATIENCE_S,
                      sleep: Callable[[float], object] = time.sleep) -> list[Any]:
    """Listen on every address that a host name resolves to, all on the same port.

    :param host: a name or address; ``::`` stands for ``0.0.0.0`` as well, where the system has IPv4.
    :param port: the port; 0 for any free one.
    :param resolve: resolves names, as :func:`socket.getaddrinfo` does.
    :param reuse_port: true to listen beside other processes that do so too; the system divides connections among them.
    :param patience_s: for how long an address that is in use is tried again, in seconds.
    :param sleep: waits for so many seconds.
    :return: a gevent socket for each address.
    :raises ConfigurationError: if host or port cannot be one, the name is unknown, or none of its addresses can be
        listened on.
    """
    if not isinstance(host, str):
        raise ConfigurationError.bad_value("host", host, "a name or an address, as text")
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError.bad_value("reuse_port", reuse_port, "False: this system has no SO_REUSEPORT")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ConfigurationError.bad_value("port", port, "a whole number from 0 to 65535")
    try:
        found = resolve(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"host={host!r} cannot be resolved: {error}") from error
    sockets: list[Any] = []
    failures = []
    wanted = dict.fromkeys((item[0], item[4]) for item in found)
    if any(address[0] == "::" for _, address in wanted):
        # A socket of its own, and not one for both: clients of IPv4 keep the addresses that rules and limits know.
        wanted[socket.AF_INET, ("0.0.0.0", port)] = None  # noqa: S104 (it was asked for)
    for family, address in wanted:
        try:
            sock = _patiently_bound(family, (address[0], port, *address[2:]), reuse_port, patience_s, sleep)
        except OSError as error:
            if error.errno in _IN_USE:  # the program that has it would get a part of our clients
                raise ConfigurationError(f"{address[0]}:{port} is in use; {_REMEDY}") from error
            failures.append(f"{address[0]}:{port}: {error.strerror or error}")
            continue
        sockets.append(sock)
        port = sock.getsockname()[1]
    if not sockets:
        raise ConfigurationError(f"cannot listen on {'; '.join(failures)}; {_REMEDY}")
    if failures:
        logger.warning("not listening on %s", "; ".join(failures))
    return sockets


def _patiently_bound(family: int, address: Any, reuse_port: bool, patience_s: float,
                     sleep: Callable[[float], object]) -> Any:
    for attempt in range(int(patience_s / _RETRY_S)):
        try:
            return _bound(family, address, reuse_port)
        except OSError as error:
            if error.errno not in _IN_USE:
                raise
            if attempt == 0:
                logger.warning("%s:%s is in use; trying again for %g s", *address[:2], patience_s)
            sleep(_RETRY_S)
    return _bound(family, address, reuse_port)


def _bound(family: int, address: Any, reuse_port: bool) -> Any:
    sock = gevent_socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There, SO_REUSEADDR would let another process take the port over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(QUEUE)
    except OSError:
        sock.close()
        raise
    return sock


def bracketed(host: str) -> str:
    """Return a host as URLs have it: an IPv6 address in brackets.

    :param host: a name or address.
    """
    return f"[{host}]" if ":" in host else host
