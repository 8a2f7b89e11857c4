"""Another machine: an address of this one that is not loopback, or a proxy's word for one."""

from __future__ import annotations

import socket

import psutil

#: Of nobody (RFC 5737).
NOBODY = "203.0.113.9"


def elsewhere() -> tuple[str, dict[str, str]]:
    """Return where a server that listens on every address is reached as from another machine, and the headers for it.

    Who asks an address of this machine that is not loopback has that address as well. Where there is none, a header
    says that a proxy on this machine has passed the request on.
    """
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith(("127.", "169.254.")):
                return address.address, {}
    return "127.0.0.1", {"X-Forwarded-For": NOBODY}
