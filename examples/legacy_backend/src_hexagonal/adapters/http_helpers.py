"""What several routes need: reading bodies and numbers, the key, a long piece of work."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import threading
import time
from typing import Any, NoReturn

from flask import abort, jsonify, make_response, request

from adapters.settings import api_key

STATEMENT = re.compile(r"[A-Za-z]\w*\(\w+,\s*\w+\)\.", re.ASCII)
MAX_LIMIT = 5000
MAX_WORK_S = 120.0


def refuse(status: int, message: str) -> NoReturn:
    """End the request with a JSON error."""
    abort(make_response(jsonify(error=message), status))


def text_field(name: str) -> str:
    """A text of the JSON body; a body without it ends the request with 400."""
    body = request.get_json(silent=True)
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value.strip():
        refuse(400, f"a JSON body with the text {name!r} is needed")
    return value.strip()


def limit_argument(default: int = 50) -> int:
    """The ``limit`` of the query string, held between 1 and 5,000."""
    return max(1, min(request.args.get("limit", default, type=int), MAX_LIMIT))


def seconds_argument() -> float:
    """The ``seconds`` of the query string, held between 0 and 120."""
    seconds = request.args.get("seconds", 1.0, type=float)
    if not math.isfinite(seconds):
        refuse(400, "seconds must be a finite number")
    return max(0.0, min(seconds, MAX_WORK_S))


def key_accepted(given: Any) -> bool:
    """Whether a key opens the commands; without ``HAKGAL_API_KEY`` anything does."""
    expected = api_key()
    return not expected or hmac.compare_digest(str(given or "").encode(), expected.encode())


def require_key() -> None:
    """End the request with 401 unless it carries the key, if one is set."""
    if not key_accepted(request.headers.get("X-API-Key")):
        refuse(401, "X-API-Key is missing or wrong")


def work(seconds: float, burn: bool) -> int:
    """Be busy for that long: computing if ``burn``, else waiting as for a slow disk.

    :return: the number of rounds that were computed.
    """
    if not burn:
        threading.Event().wait(seconds)
        return 0
    rounds, digest, end = 0, b"report", time.monotonic() + seconds
    while time.monotonic() < end:
        digest = hashlib.sha256(digest).digest()
        rounds += 1
    return rounds
