"""``GET /api/hybrid/client.js``: the browser client, as an ES module and as a classic script."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_file

from .gate import CLASSIC_CLIENT, CLIENT, behind_the_gate

FOLDER = Path(__file__).parents[1] / "static" / "client"


def blueprint() -> Blueprint:
    """Return the blueprint that serves the browser client."""
    views = behind_the_gate(Blueprint("hakgal_hybrid_assets", __name__))

    def serve(name: str) -> Response:
        # Revalidated each time: a page must not speak yesterday's protocol to today's server.
        return send_file(FOLDER / name, mimetype="text/javascript", max_age=0)

    @views.get(CLIENT, provide_automatic_options=False, strict_slashes=True)
    def module() -> Response:
        return serve("client.js")

    @views.get(CLASSIC_CLIENT, provide_automatic_options=False, strict_slashes=True)
    def script() -> Response:
        return serve("client.classic.js")

    return views
