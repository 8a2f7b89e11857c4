"""What the transport is doing: ``/api/hybrid/status``, ``clients``, ``history`` and ``metrics``."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any

from flask import Blueprint, Response, request

from ..monitoring.clients import DEFAULT_CLIENTS, MAX_CLIENTS, list_clients
from ..monitoring.metrics import Exporter
from .services import Services
from .stream_query import parse_whole
from .urls import CLIENTS, HISTORY, METRICS, STATUS


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that shows what is counted.

    :param services: the parts that the views use.
    """
    views = Blueprint("monitor", __name__)
    exporter = cache(lambda: Exporter(services.statistics))

    @views.get(STATUS)
    def status() -> Response:
        return _json(dataclasses.asdict(services.statistics()))

    @views.get(CLIENTS)
    def clients() -> Response:
        return _json(list_clients(services.node.hub, services.backlog, _limit()))

    @views.get(HISTORY)
    def history() -> Response:
        return _json(services.samples.statistics())

    @views.get(METRICS)
    def metrics() -> Response:
        body, content_type = exporter().expose(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type, headers={"Cache-Control": "no-store"})

    return views


def _json(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value), content_type="application/json", headers={"Cache-Control": "no-store"})


def _limit() -> int:
    return parse_whole("limit", request.args.get("limit", str(DEFAULT_CLIENTS)), 1, MAX_CLIENTS)
