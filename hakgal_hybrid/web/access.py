"""Who may read and who may command, by address and key. Pure rules over a WSGI environment and the settings.

The rules, in the order in which they are applied to a request for one of our URLs (:mod:`.urls` says which is what):

1. A web page of a foreign origin may do nothing, key or no key: :mod:`.origins`.
2. With the right ``X-API-Key`` everything is allowed; a wrong key is refused even where none is needed.
3. Without a key, only this machine (:mod:`.peers`), which must also have addressed us by a loopback name (a foreign
   ``Host`` is how DNS rebinding looks). If ``HAKGAL_API_KEY`` is set, it may read but not command.

With ``HYBRID_ACCESS=app`` the third rule does not hold for the URLs of clients.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from ..errors import AccessDenied, RequestError
from ..settings import Settings
from .peers import before_proxy_fix, from_loopback, hidden, host_of, is_loopback

#: A ``Host`` header: a name or an address, and perhaps a port.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]*)?")


def check(environ: Mapping[str, Any], settings: Settings, *, commands: bool, known_as: str = "") -> None:
    """Let a request pass, or refuse it.

    :param environ: the WSGI environment of the request.
    :param settings: the key.
    :param commands: true if the request changes something, false if it only reads.
    :param known_as: the name that the operator gave this server; a ``Host`` like it is as good as a loopback name.
    :raises AccessDenied: 401 without the key where one is needed or with a wrong one, 403 otherwise.
    """
    if has_key(environ, settings):
        return
    if commands and settings.api_key is not None:
        raise AccessDenied("this needs the header X-API-Key", status=401, code="key_required")
    if not from_loopback(environ):
        hint = f"; {why}" if (why := hidden(environ)) else ""
        if settings.api_key is not None:
            raise AccessDenied(f"from another machine this needs the header X-API-Key{hint}", status=401,
                               code="key_required")
        raise AccessDenied(f"only requests from this machine are accepted, because HAKGAL_API_KEY is not set{hint}",
                           code="loopback_only")
    # The one that a ProxyFix has replaced counts, too: a page that has rebound its name can send any other header.
    for addressed in (environ.get("HTTP_HOST"), before_proxy_fix(environ).get("HTTP_HOST")):
        if addressed is not None:  # no browser leaves it out; HTTP/1.0 clients may
            _check_host(addressed, known_as)


def _check_host(addressed: str, known_as: str) -> None:
    """Refuse a ``Host`` that is not this machine's."""
    host = host_of(addressed)
    named = is_loopback(host) or (known_as and host.lower() == host_of(known_as).lower())
    if not named or not _HOST.fullmatch(addressed):
        raise AccessDenied(f"Host {host!r} is not a loopback name; address this server as localhost, or set "
                           "HAKGAL_API_KEY and send it", code="foreign_host")


def has_key(environ: Mapping[str, Any], settings: Settings) -> bool:
    """Return true if a request has the key, false if it has none or none is set.

    :param environ: the WSGI environment of the request.
    :param settings: the key.
    :raises AccessDenied: 401, code ``wrong_key``, if it has another one.
    """
    key = environ.get("HTTP_X_API_KEY")
    if key is None or settings.api_key is None:
        return False
    check_key(key, settings)
    return True


def check_key(key: str, settings: Settings, name: str = "X-API-Key") -> None:
    """Refuse a wrong key.

    :param key: what a client shows.
    :param settings: the key, which is set.
    :param name: what the client calls it.
    :raises AccessDenied: 401, code ``wrong_key``.
    """
    assert settings.api_key is not None
    # Compared as bytes: hmac refuses text that is not ASCII, and WSGI hands headers over as Latin-1.
    if not same_secret(key.encode("latin-1", "replace"), settings.api_key.encode("ascii")):
        raise AccessDenied(f"{name} is wrong", status=401, code="wrong_key")


def same_secret(given: bytes, secret: bytes) -> bool:
    """Return true if two secrets are the same. The time it takes says nothing about them, nor about their lengths.

    :param given: what the request has.
    :param secret: what it should have.
    """
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(secret).digest())


def require_json(environ: Mapping[str, Any]) -> None:
    """Refuse a body that is not declared as plain JSON in UTF-8, which a form of another site could send.

    :param environ: the WSGI environment of the request.
    :raises RequestError: 415, code ``not_json``.
    """
    content_type, _, parameters = str(environ.get("CONTENT_TYPE", "")).partition(";")
    if content_type.strip().lower() != "application/json":
        raise RequestError(f"Content-Type {content_type.strip()!r:.80} is not application/json", status=415,
                           code="not_json")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise RequestError(f"charset {value.strip()!r:.80} is not utf-8", status=415, code="not_json")
    encoding = str(environ.get("HTTP_CONTENT_ENCODING", "identity")).strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(f"Content-Encoding {encoding!r:.80} is not accepted; send the body as it is", status=415,
                           code="not_json")
