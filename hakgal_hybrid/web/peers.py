"""Where a request comes from: this machine or another one, by all that the connection, the server and proxies say."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ..broker.environ import CONNECTIONS, PEER, SOCKETS

#: One ``name=value`` of a ``Forwarded`` header, up to the separator behind it.
_FORWARDED_PAIR = re.compile(
    r"""\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s";,]+))\s*(?=[;,]|\Z)""")

#: How long a name can be (RFC 1035, section 2.3.4).
_LONGEST_NAME = 255

#: Names that hosts files have for this machine; nobody else can own one.
_LOOPBACK_NAMES = ("localhost", "ip6-localhost", "localhost.localdomain")

#: Where servers leave the socket of a request; the last one is of gunicorn's worker with gevent's server.
_SOCKETS = (*SOCKETS, "gunicorn.sock")

#: Servers that leave ``REMOTE_ADDR`` as the connection has it, and forwarding headers as they come.
_HONEST = ("gevent/", "Werkzeug/", "gunicorn/", "WSGIServer/")

#: What servers have as ``REMOTE_ADDR`` for a Unix socket.
_NAMELESS = ("", "<local>")

#: Headers by which a proxy, or a network in front of one, names the visitor; the last address is the nearest one.
_ADDRESSES = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_CF_CONNECTING_IP",
              "HTTP_TRUE_CLIENT_IP", "HTTP_X_CLIENT_IP", "HTTP_X_CLUSTER_CLIENT_IP", "HTTP_X_ORIGINAL_FORWARDED_FOR",
              "HTTP_FLY_CLIENT_IP", "HTTP_FASTLY_CLIENT_IP", "HTTP_X_ENVOY_EXTERNAL_ADDRESS", "HTTP_X_AZURE_CLIENTIP")

#: Headers that say there is a proxy, and nothing of the visitor.
_OF_A_PROXY = ("HTTP_VIA", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT",
               "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_SERVER", "HTTP_X_FORWARDED_SSL", "HTTP_X_FORWARDED_SCHEME",
               "HTTP_X_SCHEME")

#: How many addresses of one header are looked at, the nearest ones.
_MOST_PROXIES = 16

#: What all nonsense together counts as.
_UNKNOWN = "unknown"


def from_loopback(environ: Mapping[str, Any]) -> bool:
    """Return true if a request comes from this machine.

    Every address must be one of this machine: the one that the connection has, ``REMOTE_ADDR`` before and after
    ``ProxyFix``, and all of each forwarding header, because a visitor may come through several proxies on this machine.
    A header that cannot be understood counts as another machine. A Unix socket is a connection of this machine. Where a
    proxy may hide its visitors (:func:`hidden`), nothing comes from this machine.

    :param environ: the WSGI environment of the request.
    """
    return all(map(is_loopback, _addresses(environ))) and not hidden(environ) and _can_be_checked(environ)


def address_of(environ: Mapping[str, Any]) -> str:
    """Return the address that limits go by: of all addresses of a request the first that is of another machine.

    For the peers of Unix sockets that is ``localhost``, if no proxy wrote another one. All nonsense together counts as
    one address. So does the network of 64 bits that an IPv6 address is in: who has one address of it has them all.

    :param environ: the WSGI environment of the request.
    """
    addresses = list(_addresses(environ))
    return _limited_as(next((address for address in addresses if not is_loopback(address)), addresses[0]))


@lru_cache(maxsize=256)
def _limited_as(address: str) -> str:
    """Return what one address counts as."""
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(address.strip("[]"))
        if isinstance(found, ipaddress.IPv6Address):
            if found.ipv4_mapped is None and not found.is_loopback:
                return f"{ipaddress.IPv6Address(int(found) >> 64 << 64)}/64"
            return str(found.ipv4_mapped or found)
        return str(found)
    return "localhost" if is_loopback(address) else _UNKNOWN


def peer_of(environ: Mapping[str, Any]) -> str:
    """Return the other end of the connection, whatever middleware has put in its place; ``localhost`` on a Unix socket.

    :param environ: the WSGI environment of the request.
    """
    connected = _connected(environ)
    return str(before_proxy_fix(environ).get("REMOTE_ADDR", "")) if connected is None else connected


def hidden(environ: Mapping[str, Any]) -> str:
    """Return what may hide a proxy behind a peer of this machine, and the options that open it; else an empty text.

    waitress takes ``X-Forwarded-For`` away, unless it was given the proxy's address: a visitor who comes through a
    proxy on this machine looks like this machine then. So does one whose proxy says that it is there, and no more.

    :param environ: the WSGI environment of the request.
    """
    channel = _waitress(environ)
    if channel is None and "waitress" not in str(environ.get("SERVER_SOFTWARE", "")):
        return _silent_proxy(environ)
    peer = str((getattr(channel, "addr", None) and channel.addr[0]) or "127.0.0.1")
    options = getattr(channel, "adj", None)
    if not is_loopback(peer) or (options is not None and (not options.clear_untrusted_proxy_headers or (
            options.trusted_proxy in ("*", peer) and "x-forwarded-for" in options.trusted_proxy_headers))):
        return _silent_proxy(environ)
    return ("waitress removes X-Forwarded-For, so that every visitor behind a proxy looks like this machine; with "
            f"trusted_proxy={peer!r} and trusted_proxy_headers='x-forwarded-for' (waitress-serve "
            f"--trusted-proxy={peer} --trusted-proxy-headers=x-forwarded-for) it does not; nor, without a proxy, with "
            "clear_untrusted_proxy_headers=False (--no-clear-untrusted-proxy-headers)")


def _silent_proxy(environ: Mapping[str, Any]) -> str:
    """Return what is wrong with a proxy on this machine that does not say whose requests it passes on."""
    header = next((name for name in _OF_A_PROXY if name in environ), None)
    if header is None or _forwarded(environ) or not all(map(is_loopback, _addresses(environ))):
        return ""
    name = header.removeprefix("HTTP_").replace("_", "-").title()
    return (f"a proxy on this machine has sent {name} and not who its visitor is; have it write the visitor's address "
            "into X-Forwarded-For (nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for)")


def is_loopback(host: str) -> bool:
    """Return true for ``localhost`` (and names below it) and addresses in ``127.0.0.0/8`` or ``::1``.

    :param host: a name or an address, without a port.
    """
    return len(host) <= _LONGEST_NAME and _is_loopback(host)


@lru_cache(maxsize=256)  # every request asks about the same few names several times
def _is_loopback(host: str) -> bool:
    host = host.strip().strip("[]").rstrip(".").lower()
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def host_of(header: str) -> str:
    """Return the name or address in a ``Host`` header or a forwarded address, without the port.

    :param header: as it came.
    """
    if header.startswith("["):
        return header[1:].split("]")[0]
    return header.rsplit(":", 1)[0] if header.count(":") == 1 else header


def _addresses(environ: Mapping[str, Any]) -> Iterator[str]:
    """Return every address that a request has, ``REMOTE_ADDR`` first; at least one."""
    connected = _connected(environ)
    for place in (environ, before_proxy_fix(environ)):
        address = host_of(str(place.get("REMOTE_ADDR", "")))
        yield connected if connected == "localhost" and address in _NAMELESS else address
    yield from _forwarded(environ)
    if connected is not None:
        yield connected


def _connected(environ: Mapping[str, Any]) -> str | None:
    """Return the address that the connection itself has, where the server lets us see it; ``localhost`` if it is Unix.

    No middleware changes it. Middleware does change ``REMOTE_ADDR``, and two ``ProxyFix`` remember only what the first
    of them wrote.
    """
    if PEER in environ:
        return str(environ[PEER])
    sock = next((environ[name] for name in _SOCKETS if name in environ), getattr(_waitress(environ), "socket", None))
    if sock is None and "eventlet.input" not in environ:
        return None
    try:
        sock = sock or environ["eventlet.input"].get_socket()
        if sock.family == getattr(socket, "AF_UNIX", None):
            return "localhost"
        return str(sock.getpeername()[0])
    except (OSError, AttributeError, LookupError, TypeError):  # it is gone
        return None


def _waitress(environ: Mapping[str, Any]) -> Any:
    """Return the connection of a request that waitress serves, which knows the options; ``None`` for other servers."""
    return getattr(environ.get("waitress.client_disconnected"), "__self__", None)


def before_proxy_fix(environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a ``ProxyFix`` has found in the place of what it has put there; without one, the environment.

    :param environ: the WSGI environment of the request.
    """
    before: Mapping[str, Any] = environ.get("werkzeug.proxy_fix.orig", environ)
    return before


def _can_be_checked(environ: Mapping[str, Any]) -> bool:
    """Return false if a proxy's word for this machine may as well be the visitor's own.

    A server that believes forwarding headers of everybody puts into ``REMOTE_ADDR`` what a visitor made up. So what
    they say does not count under servers that neither show the connection nor are known to leave it alone, nor once
    the connection is gone. Requests that no server made, as those of a test client, name none.
    """
    if not _forwarded(environ) or _connected(environ) is not None:
        return True
    if any(name in environ for name in CONNECTIONS):
        return False
    software = str(environ.get("SERVER_SOFTWARE", ""))
    return software.startswith(_HONEST) if software else not environ.get("wsgi.multiprocess")  # as ASGI's wrappers say


def _forwarded(environ: Mapping[str, Any]) -> list[str]:
    """Return the address that each forwarding header names."""
    return [_named(_forwarded_for(environ[name]) if name == "HTTP_FORWARDED" else
                   [host_of(part.strip()) for part in environ[name].rsplit(",", _MOST_PROXIES)])
            for name in _ADDRESSES if name in environ]


def _named(addresses: list[str]) -> str:
    """Return the last of some addresses that is of another machine: proxies on this machine wrote those after it."""
    return next((address for address in reversed(addresses) if not is_loopback(address)), addresses[-1])


def _forwarded_for(header: str) -> list[str]:
    """Return the ``for=`` of each element of a ``Forwarded`` header (RFC 7239), as an empty text where there is none.

    A client chooses parts of this header (its ``Host``, say), so that quotes must be honoured: a comma or ``for=``
    inside them separates and says nothing.
    """
    position, found, addresses = 0, False, [""]
    while pair := _FORWARDED_PAIR.match(header, position):
        if pair["name"].lower() == "for":
            if found:
                return [""]
            found, addresses[-1] = True, host_of(pair["token"] or re.sub(r"\\(.)", r"\1", pair["quoted"] or ""))
        position = pair.end()
        if position == len(header):
            return addresses
        if header[position] == ",":
            found = False
            addresses.append("")
        position += 1
    return [""]
