"""For the doctor: how a request looks from inside, and what the host's requests are waiting for."""

from __future__ import annotations

import importlib.metadata
import platform
import threading
from typing import Any

from flask import Blueprint, Response, request

from ..broker.environ import port_of
from ..commands.backplane.building import examine_backplane
from ..errors import RequestError
from ..monitoring import sampler
from ..monitoring.patching import replaced_parts
from .bodies import answer, read_object
from .peers import from_loopback, hidden, peer_of
from .services import Services
from .urls import BACKPLANE, SEEN, STACKS

#: What a proxy writes, changes or takes away.
_HEADERS = ("Host", "X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto", "Via", "Accept-Encoding",
            "Last-Event-ID", "Origin", "Connection")


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint by which a host is examined.

    :param services: the parts that the views use.
    """
    views = Blueprint("diagnosis", __name__)
    sampling, examining = threading.Lock(), threading.Lock()

    @views.get(SEEN)
    def seen() -> Response:
        return answer(_seen(services))

    @views.post(STACKS)
    def sample() -> Response:
        body = read_object(services)
        seconds = _number(body, "seconds", 2.0, 0.05, sampler.LONGEST_S)
        interval = _number(body, "interval_ms", 10.0, sampler.SHORTEST_INTERVAL_S * 1000,
                           sampler.LONGEST_INTERVAL_S * 1000) / 1000
        if not sampling.acquire(blocking=False):
            raise RequestError("the stacks are being sampled for somebody else; ask again", status=409,
                               code="already_sampling")
        try:
            return answer({**sampler.sample(seconds, interval).to_dict(),
                           "greenlets": bool(replaced_parts()["threading"])})
        finally:
            sampling.release()

    @views.post(BACKPLANE)
    def backplane() -> Response:
        read_object(services)
        if not examining.acquire(blocking=False):
            raise RequestError("the backplane is being examined for somebody else; ask again", status=409,
                               code="already_examining")
        try:
            return answer(examine_backplane(services.node.settings, services.node.app.name))
        finally:
            examining.release()

    return views


def _seen(services: Services) -> dict[str, Any]:
    environ, node = request.environ, services.node
    path = node.engine_options.path
    return {
        "peer": peer_of(environ),
        "peer_port": port_of(environ),
        "loopback": from_loopback(environ),
        "hidden": hidden(environ) or None,
        "protocol": str(environ.get("SERVER_PROTOCOL", "")),
        "server": str(environ.get("SERVER_SOFTWARE", "")),
        "headers": {name: request.headers[name] for name in _HEADERS if name in request.headers},
        "key_set": services.node.settings.api_key is not None,
        "heartbeat_s": services.node.settings.heartbeat_s,
        "socketio": path if node.serves_engineio(path) else None,
        "backplane": services.node.backplane is not None,
        "patched": replaced_parts(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("hakgal_hybrid", "flask", "werkzeug", "gevent", "flask-socketio", "redis"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _number(body: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise RequestError(f"{name} must be a number from {low:g} to {high:g}", code="bad_number")
    return float(value)
