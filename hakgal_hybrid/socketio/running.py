"""Running our server for an app."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Flask

from ..errors import ConfigurationError
from ..logs import get_logger, log_to_stderr
from ..monitoring.patching import refuse_patched_threads
from ..web.cors import refusal_headers
from ..web.state import AppState

logger = get_logger(__name__)

#: Keywords of ``run`` that other servers need and ours has no use for.
_MEANINGLESS = ("allow_unsafe_werkzeug", "socket_timeout", "max_size", "debug_exceptions", "keepalive", "server_side",
                "suppress_ragged_eofs", "do_handshake_on_connect")


class Runner:
    """Runs one server at a time, and can be stopped from any thread."""

    def __init__(self) -> None:
        self._server: Any = None
        self._stop_asked = False

    def run(self, state: AppState, app: Flask, address: tuple[str | None, int | None], *, debug: bool | None,
            use_reloader: bool | None, log_output: bool | None, extra_files: Any,
            reloader_options: dict[str, Any] | None, tls: tuple[str | None, str | None, Any],
            others: dict[str, Any]) -> None:
        """Serve an app until it is stopped; the parameters are those of :meth:`.SocketIO.run`.

        :param state: what the app has.
        :param app: the app.
        :param address: host and port.
        :param debug: as there.
        :param use_reloader: as there.
        :param log_output: as there.
        :param extra_files: as there.
        :param reloader_options: as there.
        :param tls: ``certfile``, ``keyfile`` and ``ssl_context``.
        :param others: ``reuse_port``, and keywords that are ignored; those that no server knows are named in a warning.
        :raises ConfigurationError: if the address cannot be listened on or an option cannot be honoured.
        """
        log_to_stderr()
        reuse_port = bool(others.pop("reuse_port", False))
        for name in others.keys() - set(_MEANINGLESS):
            logger.warning("run(%s=…) means nothing to this server and is ignored", name)
        debug = app.debug if debug is None else debug
        app.debug = debug
        state.refuse_conflicts()
        refuse_patched_threads()
        application = _with_debugger(app) if debug else app
        host, port = address
        port = port_of(app, 5000) if port is None else port

        def serve() -> None:
            from ..server.server import Server  # gevent is imported only where it serves

            paths = state.paths
            self._server = Server(state.node, application, host or "127.0.0.1", port, lane_of=paths.lane_of,
                                  is_stream=paths.is_stream, is_ours=paths.is_ours, backlog=state.services.backlog,
                                  refuses=state.refuses,
                                  refusal_headers=partial(refusal_headers, origins=state.services.origins, paths=paths),
                                  log_output=debug if log_output is None else log_output, ssl_args=_ssl_arguments(*tls),
                                  reuse_port=reuse_port)
            if self._stop_asked:  # by somebody who saw it listen before it was kept here
                self._server.stop()
            self._server.serve_forever()

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
        if self._server is not None:
            self._server.stop()


def port_of(app: Flask, otherwise: int) -> int:
    """Return the port in an app's ``SERVER_NAME``.

    :param app: the app.
    :param otherwise: what is returned if it has none.
    """
    name, _, number = (app.config["SERVER_NAME"] or "").rpartition(":")
    return int(number) if name else otherwise


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
