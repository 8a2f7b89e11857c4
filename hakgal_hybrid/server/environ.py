"""The WSGI environment (PEP 3333) of a request."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

import gevent

from ..broker.environ import PATH
from .file_wrapper import FileWrapper
from .http1 import RequestHead, parse_head

#: How many heads are remembered, and how large one may be (bytes).
_KNOWN, _KNOWN_BYTES = 256, 2048


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
            "wsgi.multiprocess": False, "wsgi.run_once": False, "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper}


def read_request(data: bytes) -> tuple[RequestHead, dict[str, Any]]:
    """Parse the head of a request.

    Clients that ask again and again, by polling for example, send the same bytes each time: these are parsed once. No
    two handshakes of WebSockets are the same.

    :param data: its bytes, from the request line to the empty line.
    :return: what it says, and the part of the environment that it says; the latter is not to be changed.
    :raises RequestError: 400 or 431; see :func:`.parse_head`.
    """
    return _known(data) if len(data) <= _KNOWN_BYTES and b"Sec-WebSocket-Key" not in data else _read(data)


def _read(data: bytes) -> tuple[RequestHead, dict[str, Any]]:
    head = parse_head(data)
    return head, _head_environ(head)


_known = lru_cache(maxsize=_KNOWN)(_read)


def _head_environ(head: RequestHead) -> dict[str, Any]:
    """Return what a head says. A header whose name has an underscore is left out: it could pass for another one."""
    path = unquote_to_bytes(head.path).decode("latin-1") if "%" in head.path else head.path
    environ = {"REQUEST_METHOD": head.method, "QUERY_STRING": head.query, "SERVER_PROTOCOL": head.version,
               "PATH_INFO": path, PATH: path}
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
