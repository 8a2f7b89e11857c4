"""The same handlers without this library: under Werkzeug's threaded server, or as an app for gunicorn."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, run_simple

from ..publisher import Publisher
from . import handlers

app = Flask("plain")
handlers.install(app)


@app.get("/health")
def health() -> Any:
    return {"status": "ok"}


if "BENCH_CONTROL" in os.environ:  # nothing to publish, but the suite asks whether it is there
    _orders = Publisher(int(os.environ["BENCH_CONTROL"]), lambda payload: None, 0)
    threading.Thread(target=_orders.serve, daemon=True).start()


class Kept(WSGIRequestHandler):
    """Keeps connections, as the others do."""

    protocol_version = "HTTP/1.1"


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=Kept)
