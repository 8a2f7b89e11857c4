"""flask-sse, and at the same time the configuration of the gunicorn that runs it."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from flask_sse import sse

worker_class = "gevent"
workers = 1
worker_connections = 20_000
backlog = 2048
loglevel = "error"
graceful_timeout = 1

FRAMING = len("event:tick\ndata:\nid:1234\n\n") + 5  # its JSON has spaces


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["REDIS_URL"] = os.environ["REDIS_URL"]
    app.register_blueprint(sse, url_prefix="/events")

    @app.get("/health")
    def health() -> Any:
        return {"status": "ok"}

    return app


def post_worker_init(worker: Any) -> None:
    """Start the publisher inside of gunicorn's worker, which has patched the process by now."""
    import gevent

    from ..publisher import Payload, Publisher

    app = worker.wsgi

    def emit(payload: Payload) -> None:
        with app.app_context():
            sse.publish(payload, type="tick", id=payload["n"])

    gevent.spawn(Publisher(int(os.environ["BENCH_CONTROL"]), emit, FRAMING).serve)
