"""``GET /api/hybrid/status``: what the transport is doing, as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from flask import Blueprint, Response

from .gate import STATUS, behind_the_gate

if TYPE_CHECKING:
    from ..extension import HybridTransport


def blueprint(transport: HybridTransport) -> Blueprint:
    """Return the blueprint that tells about ``transport``."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_monitor", __name__))

    @views.get(STATUS, provide_automatic_options=False, strict_slashes=True)
    def status() -> Response:
        return Response(json.dumps(dataclasses.asdict(transport.statistics())), content_type="application/json",
                        headers={"Cache-Control": "no-store"})

    return views
