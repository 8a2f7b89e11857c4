"""The Flask app that answers our URLs. It stands beside the host's app, and shares nothing with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

WSGIApp = Callable[..., Iterable[bytes]]


class HybridApp(Flask):
    """Runs the view of a request, and nothing else.

    There are no sessions, hooks or signals around a view: what a host, or a library that it uses, connects to every
    Flask app of the process finds nothing here. Errors are raised; the gate in front makes problem documents of them.

    :param max_body_bytes: the largest body that is read, in bytes.
    """

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__("hakgal_hybrid.web", static_folder=None)
        # The environment's FLASK_DEBUG is about the host.
        self.config.update(DEBUG=False, MAX_CONTENT_LENGTH=max_body_bytes)

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request.

        :param environ: the WSGI environment.
        :param start_response: takes status and headers of the answer.
        :return: the chunks of the answer.
        :raises HybridError: what the view raises.
        :raises HTTPException: what Werkzeug raises: no view for this URL, a body that is too large.
        """
        with self.request_context(environ):
            response = self.make_response(self.dispatch_request())
        return response(environ, start_response)


def behind_same_proxies(host: WSGIApp, app: WSGIApp) -> WSGIApp:
    """Return an app that sees the addresses its host sees.

    A :class:`~werkzeug.middleware.proxy_fix.ProxyFix` that was put around the host before us is not in front of us.
    Handlers are run with requests that came to us, and may ask these for the address of the client.

    :param host: the host's WSGI app, with what was put around it.
    :param app: the app that shall see the same.
    :return: ``app``, in a copy of each ``ProxyFix`` around the host.
    """
    if not isinstance(host, ProxyFix):
        return app
    fixed = copy.copy(host)
    fixed.app = behind_same_proxies(host.app, app)
    return fixed
