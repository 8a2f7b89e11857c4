"""Probes of an orchestrator: ``/api/hybrid/live`` and ``/api/hybrid/ready``. Everybody may ask."""

from __future__ import annotations

from flask import Blueprint, Response

from ..commands.node import Node
from ..errors import Overloaded
from .bodies import answer
from .services import Services
from .urls import LIVE, READY

#: For how long the backplane may be away until no more clients are to be sent here, in seconds.
PATIENCE_S = 30.0


def blueprint(services: Services) -> Blueprint:
    """Return the blueprint that answers probes.

    :param services: the parts that the views use.
    """
    views = Blueprint("probes", __name__)

    @views.get(LIVE)
    def live() -> Response:
        return answer({"live": True})

    @views.get(READY)
    def ready() -> Response:
        state = unready(services.node)
        if state is not None:
            raise Overloaded(f"this process is not to be sent clients now ({state})", code="not_ready", state=state)
        return answer({"ready": True})

    return views


def unready(node: Node, patience_s: float = PATIENCE_S) -> str | None:
    """Return why no clients are to be sent to this process now, or ``None``.

    :param node: what serves them.
    :param patience_s: for how long the backplane may be away, in seconds.
    :return: ``stopping``; until it has read what the backplane has from before ``misconfigured`` if that refuses this
        process, else ``starting``; afterwards its state, ``away`` or ``misconfigured``, once it has been away for so
        long.
    """
    if node.stopping:
        return "stopping"
    backplane = node.backplane
    if backplane is None:
        return None
    backplane.begin()
    state = backplane.statistics().state
    if not backplane.begun:
        return state if state == "misconfigured" else "starting"
    return state if backplane.unreachable_s() >= patience_s else None
