"""JSON in and out of our views, and the client that a request is made for."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from typing import Any

from flask import Response, request

from ..broker.client import Client
from ..broker.event import MAX_NAME, is_namespace
from ..broker.payload import LARGE, json_safe, payload_text, restore_binary
from ..commands.invocation import request_body
from ..errors import AccessDenied, HybridError, RequestError
from .services import Services

#: Held while :data:`.LARGE` text is read.
_one_at_a_time = threading.Lock()


def read_object(services: Services) -> dict[str, Any]:
    """Return the body of the request, which must be a JSON object.

    :param services: has the host's own JSON module, if the host has chosen one; the body is read by that.
    :raises RequestError: 400 if the body is anything else.
    """
    try:
        text = request_body()
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
    """Return what JSON text stands for.

    :param services: has the host's own JSON module, if the host has chosen one; the text is read by that.
    :param text: the text. NaN, Infinity and an object with a key that comes twice are no JSON.
    :raises ValueError: if the text is no JSON; the host's own module may raise something else.
    """
    if services.node.json is not None:
        return services.node.json.loads(text)
    with _one_at_a_time if len(text) > LARGE else contextlib.nullcontext():
        return _loads(text)


def _loads(text: str | bytes) -> Any:
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
    """Return the namespace that a message names, by default ``/``.

    :param message: the body of a request.
    :raises RequestError: if this cannot be a namespace.
    """
    namespace = message.get("namespace", "/")
    if not is_namespace(namespace):
        raise RequestError(f"'namespace' must be '/' and a name, of at most {MAX_NAME} printable characters",
                           code="bad_namespace")
    return str(namespace)


def arguments_of(message: dict[str, Any]) -> list[Any]:
    """Return the ``args`` of a message, binary values restored.

    :param message: the body of a request.
    :raises RequestError: if ``args`` is no array.
    :raises EventError: if a binary value is no base64.
    """
    args = message.get("args", [])
    if not isinstance(args, list):
        raise RequestError("'args' must be an array", code="bad_arguments")
    return list(restore_binary(args))


def client_of(services: Services, message: dict[str, Any]) -> Client:
    """Return the client that the request is made for. The request names its ``sid``, and proves it by its token.

    :param services: knows the clients.
    :param message: the body of the request.
    :raises AccessDenied: if there is no such client, or this is not its token.
    :raises RequestError: if the client is in another namespace than the body says.
    """
    client = services.node.hub.client(message.get("sid"))
    if client is None or not client.proves(token_of_request()):
        # One answer for both, so that nobody can find out which sids exist.
        raise AccessDenied("'sid' is no open client, or X-Hybrid-Token is not its token", code="bad_token")
    if message.get("namespace", client.namespace) != client.namespace:
        raise RequestError(f"this client is in namespace {client.namespace!r}", code="bad_namespace")
    return client


def token_of_request() -> str:
    """Return the token that the request carries, or an empty text."""
    return request.headers.get("X-Hybrid-Token", "")


def answer(value: dict[str, Any], status: int = 200) -> Response:
    """Return an answer with a JSON body.

    :param value: the body.
    :param status: the HTTP status.
    """
    return Response(text_of(value), status, content_type="application/json", headers={"Cache-Control": "no-store"})


def answer_text(text: str) -> Response:
    """Return an answer with a JSON body.

    :param text: the body, as JSON text.
    """
    return Response(text, content_type="application/json", headers={"Cache-Control": "no-store"})


def text_of(value: Any) -> str:
    """Return a value as JSON text.

    :param value: any object. One that JSON cannot hold becomes something near it: its text, or ``null``.
    """
    try:
        return payload_text("response", (value,))
    except HybridError:
        # The handler ran; an odd return value must not look like a failure of it.
        return payload_text("response", (json_safe(value),))
