"""Running the server, and what runs beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask import Flask

from ..errors import ConfigurationError
from ..logs import get_logger
from ..web.transport import Transport
from ..web.urls import is_stream, lane_of
from .server import Server

logger = get_logger(__name__)

#: Keywords of ``run`` that other servers need and ours has no use for.
_MEANINGLESS = ("allow_unsafe_werkzeug", "socket_timeout", "max_size", "debug_exceptions", "keepalive", "server_side",
                "suppress_ragged_eofs", "do_handshake_on_connect")


class Running:
    """The part of :class:`.SocketIO` that serves."""

    transport: Transport
    server: Server
    _running: Any
    _stop_asked = False

    def run(self, app: Flask | None = None, host: str | None = None, port: int | None = None, *,
            debug: bool | None = None, use_reloader: bool | None = None, log_output: bool | None = None,
            extra_files: Any = None, reloader_options: dict[str, Any] | None = None, certfile: str | None = None,
            keyfile: str | None = None, ssl_context: Any = None, **kwargs: Any) -> None:
        """Serve the app until Ctrl-C, SIGTERM (CTRL_BREAK on Windows) or :meth:`stop`.

        :param host: a name or address, default ``127.0.0.1``; ``localhost`` listens on every loopback address the
            name resolves to.
        :param port: default the one in ``SERVER_NAME``, else 5000; 0 for any free one.
        :param debug: Flask's debug mode with Werkzeug's debugger; ``use_reloader`` follows it unless given.
        :param log_output: log every request to the logger ``hakgal_hybrid.access``; follows ``debug`` unless given.
        :param certfile: certificate chain (PEM) for TLS, with its ``keyfile``; or an ``ssl_context``: a pair of both,
            or a :class:`gevent.ssl.SSLContext`.
        :param kwargs: options that only other servers have are ignored.
        :raises ConfigurationError: if the address cannot be listened on or an option cannot be honoured.
        """
        from ..monitoring.patching import refuse_patched_process  # below us: only a server needs it

        transport = self.transport
        app = app if app is not None else transport.app
        for name in kwargs.keys() - set(_MEANINGLESS):
            logger.warning("run(%s=…) means nothing to this server and is ignored", name)
        debug = app.debug if debug is None else debug
        app.debug = debug
        transport.refuse_conflicts()
        refuse_patched_process()
        application = _with_debugger(app) if debug else app
        address = host or "127.0.0.1", _default_port(app) if port is None else port

        def serve() -> None:
            from ..server.server import Server  # gevent is imported only where it serves

            self._running = Server(transport.node, application, *address, lane_of=lane_of, is_stream=is_stream,
                                   backlog=transport.services.backlog,
                                   log_output=debug if log_output is None else log_output,
                                   ssl_args=_ssl_arguments(certfile, keyfile, ssl_context))
            if self._stop_asked:  # by somebody who saw it listen before we could tell whom to stop
                self._running.stop()
            self._running.serve_forever()

        self._stop_asked = False
        if debug if use_reloader is None else use_reloader:
            from werkzeug._reloader import run_with_reloader

            options = dict(reloader_options or {})
            if extra_files:
                options["extra_files"] = extra_files
            run_with_reloader(serve, **options)
        else:
            serve()

    def stop(self) -> None:
        """End :meth:`run`. May be called from any thread."""
        self._stop_asked = True
        if self._running is not None:
            self._running.stop()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Run ``target`` in a daemon thread; return the thread, which is started."""
        return self.server.start_background_task(target, *args, **kwargs)

    def sleep(self, seconds: float = 0) -> None:
        """Sleep in the calling thread; everybody else goes on."""
        self.server.sleep(seconds)


def _default_port(app: Flask) -> int:
    name, _, number = (app.config["SERVER_NAME"] or "").rpartition(":")
    return int(number) if name else 5000


def _with_debugger(app: Flask) -> Any:
    from werkzeug.debug import DebuggedApplication

    return DebuggedApplication(app, evalex=True)


def _ssl_arguments(certfile: str | None, keyfile: str | None, ssl_context: Any) -> dict[str, Any]:
    if ssl_context is None and certfile is None:
        return {}
    from gevent import ssl

    if isinstance(ssl_context, tuple):
        certfile, keyfile = ssl_context
    elif ssl_context is not None:
        if not isinstance(ssl_context, ssl.SSLContext):
            raise ConfigurationError.bad_value("ssl_context", ssl_context, "certfile= and keyfile=, a pair of both, or "
                                               "a gevent.ssl.SSLContext (the standard library's blocks the loop)")
        return {"ssl_context": ssl_context}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(certfile), keyfile)
    except OSError as error:
        raise ConfigurationError.bad_value("certfile", certfile, f"a certificate chain in PEM ({error})") from error
    return {"ssl_context": context}
