"""An app below a path, in each of the ways: ``python -m support.mounted WAY``, or gunicorn with :func:`create`.

``GET ROOT/page`` is a page with the browser client from our URLs, ``ROOT/classic`` one with the classic script, and
``ROOT/bundled`` one that has the client from elsewhere and is given the path, as a page of socket.io-client is.
"""

from __future__ import annotations

import argparse
import logging
import threading
from pathlib import Path
from typing import Any

from flask import Flask, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import hakgal_hybrid
from hakgal_hybrid import HybridTransport
from hakgal_hybrid.socketio import SocketIO, emit

#: Where each of them is seen by a browser.
ROOTS = {"keyword": "/live", "setting": "/live", "path": "/live", "mounted": "/live", "both": "/site/live",
         "dispatched": "/live", "proxied": "/site", "proxied inside": "/site"}

_PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,">
<script{kind} src="{src}"></script>
<script type="module">
window.seen = [];
{start}
window.socket = io({options});
socket.on("news", (...args) => seen.push(args));
</script>"""


def _routes(app: Flask, root: str) -> None:
    @app.get("/health")
    def health() -> Any:
        return {"status": "ok"}

    @app.get("/page")
    def page() -> str:
        return _PAGE.format(kind=' type="module"', src="data:text/javascript,", options="", start=(
            f'const {{ io }} = await import("{root}/api/hybrid/client.js");'))

    @app.get("/classic")
    def classic() -> str:
        return _PAGE.format(kind="", src=f"{root}/api/hybrid/client.classic.js", start="", options="")

    @app.get("/bundle.js")
    def bundle() -> Any:
        script = Path(hakgal_hybrid.__file__).parent / "web" / "static" / "client" / "client.js"
        return app.response_class(script.read_text(encoding="utf-8"), content_type="text/javascript")

    @app.get("/bundled")
    def bundled() -> str:
        return _PAGE.format(kind=' type="module"', src="data:text/javascript,", start=(
            'const { io } = await import("./bundle.js");'), options=f'{{ path: "{root}/socket.io" }}')


def create_app(way: str) -> Flask:
    """Return the app, whose ``wsgi_app`` is below its path as far as the app itself can do that."""
    app = Flask("mounted")
    app.config["SECRET_KEY"] = "only for tests"
    if way == "proxied inside":
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]
    if way == "path":
        socketio = SocketIO(app, path="/live/socket.io")
    elif way in ("keyword", "both"):
        socketio = HybridTransport(app, url_prefix="/live").socketio
    elif way == "setting":
        app.config["HYBRID_PREFIX"] = "live"
        socketio = SocketIO(app)
    else:
        socketio = SocketIO(app)
    _routes(app, ROOTS[way])

    released = threading.Event()

    @app.get("/hold")
    def hold() -> str:
        return "released" if released.wait(20) else "held"

    @socketio.on("connect")
    def connected() -> None:
        if "release" in request.args:
            released.set()
        emit("news", {"hello": request.path})

    @socketio.on("ask")
    def ask(value: Any) -> Any:
        emit("news", {"asked": value}, broadcast=True)
        return {"answer": value, "home": url_for("health"), "root": request.script_root}

    inner: Any = app.wsgi_app
    mount = {"mounted": "/live", "both": "/site"}.get(way)
    if mount is not None:
        app.wsgi_app = DispatcherMiddleware(NotFound(), {mount: inner})  # type: ignore[method-assign]
    if way == "proxied":
        app.wsgi_app = ProxyFix(inner, x_for=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]
    return app


def create(way: str = "dispatched") -> Any:
    """Return what gunicorn serves: the app, or a dispatcher around it."""
    app = create_app(way)
    return DispatcherMiddleware(NotFound(), {ROOTS[way]: app}) if way == "dispatched" else app


def main() -> None:
    """Serve the app by our own server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=list(ROOTS))
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
    app = create_app(options.way)
    HybridTransport.of(app).run("127.0.0.1", options.port)


if __name__ == "__main__":
    main()
