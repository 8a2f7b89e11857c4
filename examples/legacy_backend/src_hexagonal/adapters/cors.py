"""CORS as this host has it: open to every origin, on every response."""

from __future__ import annotations

from flask import Flask, Response

try:
    from flask_cors import CORS
except ImportError:  # the headers set below do nearly the same
    CORS = None


def open_cors(app: Flask) -> None:
    """Open an application to every origin and answer the preflight of any path.

    Because of the catch-all an unknown path answers 405 to GET, not 404.
    """
    if CORS is not None:
        CORS(app, origins="*")
    app.after_request(_allow_every_origin)

    @app.route("/<path:any_path>", methods=["OPTIONS"])
    def preflight(any_path: str) -> tuple[str, int]:
        return "", 204


def _allow_every_origin(response: Response) -> Response:
    """Set the headers, on streaming responses too."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE, OPTIONS"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type, X-API-Key, Authorization"
    return response
