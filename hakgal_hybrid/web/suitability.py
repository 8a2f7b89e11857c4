"""What kind of server calls the app, as its WSGI environment says: streams need threads, and all in one process."""

from __future__ import annotations

from typing import Any

from ..broker.environ import PEER
from ..errors import UnsuitableServer
from ..logs import get_logger
from ..settings import Settings
from ..settings.audience import audience
from .peers import hidden, is_loopback

logger = get_logger(__name__)

_SINGLE_THREADED = ("this server handles one request at a time, so that a stream would block it for ever; use "
                    "socketio.run, a threaded server, or gunicorn with --worker-class gthread or gevent")
_MULTIPROCESS = ("this app runs in several processes, each of which would hold a part of the events only; "
                 "set HYBRID_BACKPLANE to a Redis that they share, or use one process with threads (gunicorn "
                 "--workers 1 --worker-class gthread --threads 32)")


def check_server(environ: dict[str, Any], settings: Settings) -> None:
    """Refuse to open a stream where it would block the server, or show a part of the events only.

    :param environ: the WSGI environment of the request.
    :param settings: whether there is a backplane.
    :raises UnsuitableServer: 503, saying what would do.
    """
    if environ.get("wsgi.multiprocess") and settings.backplane is None:
        raise UnsuitableServer(_MULTIPROCESS, code="several_processes")
    # The test client says neither that it is threaded nor what server it is.
    if "SERVER_SOFTWARE" in environ and not environ.get("wsgi.multithread"):
        raise UnsuitableServer(_SINGLE_THREADED, code="single_threaded_server")


def warn_of_server(environ: dict[str, Any], settings: Settings) -> None:
    """Log what is refused under this server to everybody: streams, and requests of other machines, or of all.

    Our own server says at its start who is served.

    :param environ: the WSGI environment of the first request.
    :param settings: the key, and who may be a client.
    """
    if PEER not in environ and (settings.access == "app" or not hidden(environ)):
        away = not is_loopback(str(environ.get("SERVER_NAME", "")))  # waitress does not say what it listens on
        logger.log(*audience(settings, away=away))
    try:
        check_server(environ, settings)
    except UnsuitableServer as error:
        logger.warning("streams are refused (%s), so that what is emitted reaches nobody: %s", error.code, error)
