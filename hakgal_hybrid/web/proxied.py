"""Seeing the addresses that the host sees, behind a ``ProxyFix`` that stands between us and the host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

from werkzeug.middleware.proxy_fix import ProxyFix

WSGIApp = Callable[..., Iterable[bytes]]


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
