"""flask-sse: Redis publish and subscribe, a greenlet and a connection to Redis for each client, under gunicorn."""

from __future__ import annotations

import shutil
import sys

from .. import system
from ..build import Missing
from ..server import Server
from . import Peer


def _check() -> dict[str, str]:
    if shutil.which("redis-server") is None:
        raise Missing("redis-server is not installed")
    return {**system.versions("flask-sse", "redis", "gunicorn", "gevent"),
            "redis-server": system.first_line("redis-server", "--version") or ""}


def _start(server: Server) -> None:
    redis = system.free_port()
    server.spawn(["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                  "--maxclients", "20000", "--dir", str(server.folder)])
    server.spawn([sys.executable, "-m", "gunicorn", "--config", "python:tests.benchmarks.apps.flask_sse_app",
                  "--bind", f"127.0.0.1:{server.port}", "tests.benchmarks.apps.flask_sse_app:create_app()"],
                 env={"BENCH_CONTROL": str(server.control), "REDIS_URL": f"redis://127.0.0.1:{redis}"})


PEER = Peer("flask-sse", "flask-sse + Redis, gunicorn gevent", _check, _start, window=2000, slow=True,
            most=(1000, "it is overloaded by less"), note="Redis runs on the server's processor too, and counts")
