"""JSON in and out of our views, and who speaks in a request."""

from __future__ import annotations

import json
import math
from typing import Any

from flask import Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from ..broker.client import Client
from ..broker.event import MAX_NAME
from ..broker.payload import json_safe, payload_text, restore_binary
from ..errors import AccessDenied, HybridError, RequestError
from .services import Services


def read_object(services: Services) -> dict[str, Any]:
    """Return the request's body, a JSON object; read by the host's own JSON module if it has chosen one.

    :raises RequestError: 400 if it is anything else.
    """
    try:
        text = request.get_data()
    except RequestEntityTooLarge as error:  # the host's own MAX_CONTENT_LENGTH
        raise RequestError("the body is larger than this host accepts", status=413, code="body_too_large") from error
    except OSError as error:  # nobody is there to read the answer; but it is no failure of ours, with a traceback
        raise RequestError("the client went away in the middle of the body", status=400, code="bad_http") from error
    try:
        # JSON that others can read is UTF-8 (RFC 8259); json.loads would guess at UTF-16 and UTF-32.
        body = loads(services, text if services.node.json is not None else text.decode("utf-8"))
    except RecursionError:
        body = None
    except Exception as error:
        raise RequestError("the body is not valid JSON", status=400, code="bad_json") from error
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object", code="bad_json", status=400)
    return body


def loads(services: Services, text: str | bytes) -> Any:
    """Parse JSON, by the host's own module if it has chosen one; NaN, Infinity and a key that comes twice are none."""
    if services.node.json is not None:
        return services.node.json.loads(text)
    return json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_unambiguous)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what two readers could read differently."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that JSON knows")
    return number


def namespace_of(message: dict[str, Any]) -> str:
    """Return the namespace a message names, by default ``/``.

    :raises RequestError: if it cannot be one.
    """
    namespace = message.get("namespace", "/")
    if not isinstance(namespace, str) or not namespace.startswith("/") or len(namespace) > MAX_NAME:
        raise RequestError("'namespace' must begin with '/'", code="bad_namespace")
    if not namespace.isprintable():  # lone surrogates among others
        raise RequestError("'namespace' holds what is no text", code="bad_namespace")
    return namespace


def arguments_of(message: dict[str, Any]) -> list[Any]:
    """Return the ``args`` of a message.

    :raises RequestError: if they are no array; :class:`~hakgal_hybrid.errors.EventError`: for what is no base64.
    """
    args = message.get("args", [])
    if not isinstance(args, list):
        raise RequestError("'args' must be an array", code="bad_arguments")
    return list(restore_binary(args))


def speaker(services: Services, message: dict[str, Any]) -> Client:
    """Return the client in whose name the request speaks, which it must prove.

    :raises AccessDenied: if it does not.
    """
    client = services.node.hub.client(message.get("sid"))
    if client is None or not client.proves(token_of_request()):
        # One answer for both, so that nobody can find out which sids exist.
        raise AccessDenied("'sid' is no open client, or X-Hybrid-Token is not its token", code="bad_token")
    if message.get("namespace", client.namespace) != client.namespace:
        raise RequestError(f"this client is in namespace {client.namespace!r}", code="bad_namespace")
    return client


def token_of_request() -> str:
    """Return the token by which the request proves in whose name it speaks."""
    return request.headers.get("X-Hybrid-Token", "")


def answer(value: dict[str, Any], status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(text_of(value), status, content_type="application/json", headers={"Cache-Control": "no-store"})


def answer_text(text: str) -> Response:
    """Return a JSON response whose body is there already."""
    return Response(text, content_type="application/json", headers={"Cache-Control": "no-store"})


def text_of(value: Any) -> str:
    """Return ``value`` as JSON text, whatever it is."""
    try:
        return payload_text("response", (value,))
    except HybridError:
        # The handler ran; an odd return value must not look like a failure of it.
        return payload_text("response", (json_safe(value),))
