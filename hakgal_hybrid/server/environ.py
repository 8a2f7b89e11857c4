"""The WSGI environment (PEP 3333) of a request."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import unquote_to_bytes

import gevent

from .http1 import RequestHead


def base_environ(address: Any, *, secure: bool) -> dict[str, Any]:
    """Return what the environments of all requests at one listening socket have in common.

    :param address: what is listened on: host and port first.
    :param secure: whether clients speak TLS.
    :return: a dict, to be copied for each request.
    """
    version = "gevent/{}.{} Python/{}.{}".format(*gevent.version_info[:2], *sys.version_info[:2])
    return {"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": version, "SCRIPT_NAME": "",
            "SERVER_NAME": str(address[0]), "SERVER_PORT": str(address[1]), "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if secure else "http", "wsgi.errors": sys.stderr, "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False, "wsgi.input_terminated": True}


def request_environ(base: dict[str, Any], head: RequestHead, peer: Any) -> dict[str, Any]:
    """Return the environment of one request, but for its body.

    A header whose name has an underscore is left out: behind a proxy that passes it on, it could pass for another one.

    :param base: what :func:`base_environ` returned.
    :param head: the head of the request.
    :param peer: the client's address: host and port first.
    :return: a dict of the caller's own.
    """
    environ = base.copy()
    environ["REQUEST_METHOD"] = head.method
    environ["PATH_INFO"] = unquote_to_bytes(head.path).decode("latin-1") if "%" in head.path else head.path
    environ["QUERY_STRING"] = head.query
    environ["SERVER_PROTOCOL"] = head.version
    if isinstance(peer, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(peer[0]), str(peer[1])
    for name, value in head.headers:
        if name in ("content-type", "content-length"):
            environ.setdefault(name.upper().replace("-", "_"), value)
        elif "_" not in name and name != "transfer-encoding":  # the body is handed on without its chunks
            key = "HTTP_" + name.upper().replace("-", "_")
            before = environ.get(key)
            environ[key] = value if before is None else before + ("; " if name == "cookie" else ",") + value
    if head.authority is not None:  # RFC 9112, section 3.2.2
        environ["HTTP_HOST"] = head.authority
    return environ
