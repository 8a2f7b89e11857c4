"""Responses that several views give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Response, request

from ..broker.environ import REFUSED
from ..errors import HybridError, problem_response

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def problem(error: HybridError) -> Response:
    """Return the same as a response of a view."""
    request.environ[REFUSED] = error.code
    _, headers, body = problem_response(error)
    return Response(body, error.status, headers)
