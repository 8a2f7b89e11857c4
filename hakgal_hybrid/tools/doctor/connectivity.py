"""Getting there: name resolution, and connecting to each address by itself."""

from __future__ import annotations

import ssl
import time
from typing import Any

from ..remote.request import Address, Base, connected, is_loopback, resolve
from .findings import Finding, ok, problem, warning
from .target import ExaminedHost, ms

#: What resolving may take, and what an address that does not serve may cost, in milliseconds.
_RESOLVE_SLOW_MS, _LOST_MS = 100.0, 100.0

LISTEN = ('have the host listen on every address of its name (run(host="localhost") does, with this package), or use '
          "the address that works in place of the name")


def check_resolution(host: ExaminedHost) -> tuple[Finding, list[Address]]:
    """Time the resolution of the host's name.

    :param host: the host that is examined.
    """
    base = host.base
    started = time.perf_counter()
    try:
        addresses = resolve(base)
    except OSError as error:
        took = ms(time.perf_counter() - started)
        return problem("resolution", "name", f"the name {base.host!r} does not resolve: {error}",
                       f"failed after {took} ms", remedy="mend the name, the hosts file or DNS", took_ms=took), []
    took = ms(time.perf_counter() - started)
    shown = f"{base.host} is {', '.join(map(str, addresses))}, in this order"
    data: dict[str, Any] = {"took_ms": took, "addresses": list(map(str, addresses))}
    if took > _RESOLVE_SLOW_MS:
        return problem("resolution", "name", f"resolving {base.host!r} takes {took} ms, for every new connection",
                       shown, remedy="use the address, or put the name into the hosts file", **data), addresses
    return ok("resolution", f"{base.host} resolves in {took} ms", shown, **data), addresses


def check_addresses(host: ExaminedHost, addresses: list[Address]) -> Finding:
    """Connect to every address by itself, and choose the first that accepts.

    A client tries one address after the other. What an address costs before it is given up is lost with each new
    connection: on Windows about 2 s even where nobody listens, because a refusal is tried again.

    :param host: the host that is examined.
    :param addresses: what its name resolves to.
    """
    base, limit = host.base, host.options.connect_s
    known = {str(address) for address in addresses}
    others = [(name, address) for name in _neighbours(base) for address in _resolved(base, name)
              if str(address) not in known]
    tried = [_Try(base.host, address, limit, base) for address in addresses]
    tried += [_Try(name, address, limit, base) for name, address in {str(a): (n, a) for n, a in others}.values()]
    evidence = [attempt.text for attempt in tried]
    data = {"addresses": [attempt.to_dict() for attempt in tried]}
    own = tried[:len(addresses)]
    host.address = next((attempt.address for attempt in own if attempt.accepted), None)
    if host.address is None and any("TLS" in attempt.outcome for attempt in own):
        return problem("addresses", "tls", f"no connection to {base.netloc} can be trusted", *evidence,
                       remedy="mend the certificate; where it is of a private authority, name its file in the "
                       "environment variable SSL_CERT_FILE; where the host speaks no TLS, ask by http://", **data)
    if host.address is None:
        return problem("addresses", "nobody_listens", f"nobody accepts connections at {base.netloc}", *evidence,
                       remedy="start the host, or mend the port, the address or the firewall", **data)
    before = own[:next(place for place, attempt in enumerate(own) if attempt.accepted)]
    lost = sum(attempt.took_ms for attempt in before)
    if lost > _LOST_MS:
        return problem("addresses", "address_family", f"{base.host} leads to {before[0].address} first, which costs "
                       f"{lost:.0f} ms before {host.address} is tried; this happens before the request, and has "
                       "nothing to do with the host's own speed", *evidence, remedy=LISTEN, lost_ms=lost, **data)
    chosen = next(attempt for attempt in own if attempt.accepted)
    if chosen.took_ms > host.options.slow_ms:
        return problem("addresses", "connect", f"connecting to {chosen.address} takes {chosen.took_ms} ms", *evidence,
                       remedy="look for packet loss, a firewall, or a host that does not accept (its backlog is full)",
                       **data)
    if before:
        return warning("addresses", "address_family", f"nobody listens on {before[0].address}, to which {base.host} "
                       f"leads first; that costs {lost:.0f} ms here, and about 2 s on Windows", *evidence,
                       remedy=LISTEN, lost_ms=lost, **data)
    slow = [attempt for attempt in tried if not attempt.accepted and attempt.took_ms > _LOST_MS]
    if slow:
        return warning("addresses", "address_family", f"{chosen.address} accepts at once, but {slow[0].address} "
                       f"({slow[0].name}) costs {slow[0].took_ms:.0f} ms before it is given up: who uses that name is "
                       "slow", *evidence, remedy=LISTEN, **data)
    return ok("addresses", f"{chosen.address} accepts in {chosen.took_ms} ms", *evidence, **data)


class _Try:
    """One attempt to connect.

    :param name: the name that leads to the address.
    :param address: one address of the host.
    :param limit: how long it may take, in seconds.
    :param base: the host.
    """

    def __init__(self, name: str, address: Address, limit: float, base: Base) -> None:
        self.name, self.address = name, address
        started = time.perf_counter()
        try:
            connected(base, address, limit).close()
            self.outcome, self.accepted = "accepts", True
        except TimeoutError:
            self.outcome, self.accepted = "does not answer", False
        except ssl.SSLError as error:
            self.outcome, self.accepted = f"speaks no TLS that we trust ({error.reason or error})", False
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            self.outcome, self.accepted = "refuses" if refused else f"fails ({error})", False
        self.took_ms = ms(time.perf_counter() - started)

    @property
    def text(self) -> str:
        """One line of evidence."""
        given_up = " (given up)" if self.outcome == "does not answer" else ""
        return f"{self.name} -> {self.address}: {self.outcome} after {self.took_ms} ms{given_up}"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"name": self.name, "address": str(self.address), "outcome": self.outcome, "took_ms": self.took_ms}


def _neighbours(base: Base) -> list[str]:
    """What else leads to this machine, and may be what a browser or another tool uses."""
    return ["localhost", "127.0.0.1", "::1"] if is_loopback(base.host) else []


def _resolved(base: Base, name: str) -> list[Address]:
    try:
        return resolve(Base(base.scheme, name, base.port))
    except OSError:
        return []
