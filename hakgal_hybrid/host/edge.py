"""``hakgal-hybrid edge``: serves the streams of hosts that are elsewhere, in one process or several."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import Any

import click
from flask import Flask

from ..extension import HybridTransport
from ..logs import get_logger, log_to_stderr
from ..settings import load_settings

logger = get_logger(__name__)


def create_app(**settings: Any) -> Flask:
    """Return the app of an edge. It has our URLs, and no others.

    Its configuration comes from the environment: settings, and what Flask itself reads there (``FLASK_SECRET_KEY``).

    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over the environment.
    :return: the app, for a WSGI server that can stream.
    :raises ConfigurationError: for a setting that is not accepted, or if nothing says where the hosts are.
    """
    app = Flask("hakgal_hybrid.edge")
    app.config.from_prefixed_env()
    HybridTransport(app, **{**settings, "role": "edge"})
    return app


@click.command("edge")
@click.option("--backplane", metavar="URL", help="Redis, as redis://host:6379/0; default HYBRID_BACKPLANE.")
@click.option("--name", metavar="NAME",
              help="The hosts' HYBRID_BACKPLANE_NAME, or else their app's import name; default HYBRID_BACKPLANE_NAME.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; default HAKGAL_PORT or 5001.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256),
              help="Processes that share the port.")
@click.option("--of-supervisor", is_flag=True, hidden=True)
def edge(backplane: str | None, name: str | None, host: str, port: int | None, workers: int,
         of_supervisor: bool) -> None:
    """Serve streams of the shared log, and have hosts run what clients send.

    \b
    Examples:
      hakgal-hybrid edge --backplane redis://127.0.0.1:6379/0 --name shop --workers 4 --port 8000
      HYBRID_BACKPLANE=redis://redis:6379/0 HYBRID_BACKPLANE_NAME=shop hakgal-hybrid edge --host 0.0.0.0
    """  # noqa: D301 (click's mark for "do not wrap")
    log_to_stderr()
    for variable, given in (("HYBRID_BACKPLANE", backplane), ("HYBRID_BACKPLANE_NAME", name)):
        if given is not None:
            os.environ[variable] = given  # a worker inherits it; the list of processes does not show its password
    os.environ["HYBRID_ROLE"] = "edge"
    settings = load_settings()
    port = settings.port if port is None else port
    if workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        logger.warning("--workers %d: this system has no SO_REUSEPORT, by which processes share a port; one serves",
                       workers)
        workers = 1
    app = create_app()
    if workers > 1:
        from .supervisor import Supervisor

        port = _free(host, port)
        command = [sys.executable, "-m", "hakgal_hybrid", "edge", "--host", host, "--port", str(port),
                   "--of-supervisor"]
        logger.info("%d workers serve %s:%d", workers, host, port)
        sys.exit(Supervisor(command, workers, settings.drain_s + settings.flush_s).run())
    if of_supervisor:
        threading.Thread(target=_end_with_supervisor, name="hakgal-hybrid-supervised", daemon=True).start()
    HybridTransport.of(app).run(host, port, debug=False, use_reloader=False, reuse_port=of_supervisor)


def _free(host: str, port: int) -> int:
    """Check that a port can be listened on, before several processes share it.

    :return: the port; a free one for 0.
    :raises ConfigurationError: if it cannot.
    """
    from ..server.listening import listening_sockets

    sockets = listening_sockets(host, port)
    found: int = sockets[0].getsockname()[1]
    for sock in sockets:
        sock.close()
    return found


def _end_with_supervisor() -> None:
    """Wait until the process is gone that has started this one, then end as by its request."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _command() -> click.Command:
    return edge


COMMANDS = {"edge": (_command,)}
