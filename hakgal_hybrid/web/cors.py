"""CORS: which pages may read an answer of ours, by its headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import Headers
from .origins import Origins
from .urls import Paths, Route

_REQUEST_HEADERS = "Content-Type, Last-Event-ID, X-API-Key, X-Hybrid-Token, Idempotency-Key, Cache-Control"
_EXPOSED_HEADERS = "Location, Retry-After, Idempotent-Replayed"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")

#: For every page: why a request was refused, and nothing else.
READABLE_BY_ALL: Headers = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", _EXPOSED_HEADERS)]


def cors_headers(environ: Mapping[str, Any], route: Route, origins: Origins) -> Headers:
    """Return the CORS headers of an answer of ours: a page of an allowed origin may read it, no other one.

    :param environ: the WSGI environment of the request.
    :param route: the URL that is answered.
    :param origins: those that are allowed.
    """
    origin = environ.get("HTTP_ORIGIN")
    vary = [("Vary", "Origin"), ("X-Content-Type-Options", "nosniff")]
    if route.clients and not origins.checked:
        return vary
    if origin is None or not origins.allows(origin, environ, client=route.clients):
        return vary
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED_HEADERS),
            ("Access-Control-Allow-Credentials", "true"), *vary]


def refusal_headers(environ: Mapping[str, Any], origins: Origins, paths: Paths) -> Headers:
    """Return the CORS headers of a refusal by our server, which asks no application: the page may read why.

    :param environ: the WSGI environment of the request; empty for bytes that are none.
    :param origins: those that are allowed.
    :param paths: our URLs.
    :return: no headers for the host's URLs; those are the host's affair.
    """
    if not environ:
        return READABLE_BY_ALL
    route = paths.find(environ["PATH_INFO"])
    if route is None:
        return []
    if origins.asks_app:
        return READABLE_BY_ALL
    headers = cors_headers(environ, route, origins)
    foreign = "HTTP_ORIGIN" in environ and not _allows(headers)
    return [*headers, *(READABLE_BY_ALL if foreign else [])]


def preflight_headers(route: Route, cors: Headers, environ: Mapping[str, Any]) -> Headers:
    """Return what a preflight is answered: the page of an allowed origin may send whatever headers it asks for.

    :param route: the URL that it is about.
    :param cors: the CORS headers of the answer.
    :param environ: the WSGI environment of the request.
    """
    if not _allows(cors):
        return []
    asked = (name.strip() for name in environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").split(","))
    names = ", ".join([_REQUEST_HEADERS, *filter(_NAME.fullmatch, asked)])
    private = "HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK" in environ  # of browsers that guard this machine
    return [("Access-Control-Allow-Methods", route.methods), ("Access-Control-Allow-Headers", names),
            ("Access-Control-Max-Age", "600"),
            *([("Access-Control-Allow-Private-Network", "true")] if private else [])]


def _allows(headers: Headers) -> bool:
    return any(name == "Access-Control-Allow-Origin" for name, _ in headers)
