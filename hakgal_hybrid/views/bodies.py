"""JSON in and out of our views, and who speaks in a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Response, request

from ..client import Client
from ..errors import AccessDenied, HybridError, RequestError
from ..event import MAX_NAME, json_safe, payload_text, restore_binary

if TYPE_CHECKING:
    from ..extension import HybridTransport


def read_object(transport: HybridTransport) -> dict[str, Any]:
    """Return the request's body, a JSON object; read by the host's own JSON module if it has chosen one.

    :raises RequestError: 400 if it is anything else.
    """
    loads = json.loads if transport.json is None else transport.json.loads
    try:
        body = loads(request.get_data())
    except RecursionError:
        body = None
    except Exception as error:
        raise RequestError("the body is not valid JSON", status=400, code="bad_json") from error
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object", code="bad_json", status=400)
    return body


def namespace_of(message: dict[str, Any]) -> str:
    """Return the namespace a message names, by default ``/``.

    :raises RequestError: if it cannot be one.
    """
    namespace = message.get("namespace", "/")
    if not isinstance(namespace, str) or not namespace.startswith("/") or len(namespace) > MAX_NAME:
        raise RequestError("'namespace' must begin with '/'", code="bad_namespace")
    return namespace


def arguments_of(message: dict[str, Any]) -> list[Any]:
    """Return the ``args`` of a message.

    :raises RequestError: if they are no array; :class:`~hakgal_hybrid.errors.EventError`: for what is no base64.
    """
    args = message.get("args", [])
    if not isinstance(args, list):
        raise RequestError("'args' must be an array", code="bad_arguments")
    return list(restore_binary(args))


def speaker(transport: HybridTransport, message: dict[str, Any]) -> Client:
    """Return the client in whose name the request speaks, which it must prove.

    :raises AccessDenied: if it does not.
    """
    client = transport.hub.client(message.get("sid"))
    if client is None or not client.proves(request.headers.get("X-Hybrid-Token", "")):
        # One answer for both, so that nobody can find out which sids exist.
        raise AccessDenied("'sid' is no open client, or X-Hybrid-Token is not its token", code="bad_token")
    if message.get("namespace", client.namespace) != client.namespace:
        raise RequestError(f"this client is in namespace {client.namespace!r}", code="bad_namespace")
    return client


def answer(value: dict[str, Any], status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(text_of(value), status, content_type="application/json", headers={"Cache-Control": "no-store"})


def text_of(value: Any) -> str:
    """Return ``value`` as JSON text, whatever it is."""
    try:
        return payload_text("response", (value,))
    except HybridError:
        # The handler ran; an odd return value must not look like a failure of it.
        return payload_text("response", (json_safe(value),))
