"""Files that are the same for everybody: the browser client, and the page that watches (``GET /api/hybrid/``)."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from flask import Blueprint, Response, send_file

from ..errors import ConfigurationError, RequestError
from .urls import CLASSIC_CLIENT, CLIENT, DASHBOARD, DASHBOARD_FILE

_OWN_URL = "const OWN_URL = undefined;"

STATIC = Path(__file__).parent / "static"
FOLDER = STATIC / "client"
#: The page's files; nothing else is looked for in the folder.
PAGE_FILES = {path.name: path for path in sorted((STATIC / "dashboard").iterdir()) if path.suffix in (".js", ".css")}
_TYPES = {".js": "text/javascript", ".css": "text/css"}

#: The page loads nothing from elsewhere, runs nothing that is written into it, and nobody may frame it: its buttons
#: command the governor.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def classic(module: str) -> str:
    """Return the browser client as a classic script, which sets the global ``io``.

    :param module: the text of the JavaScript module, which ends with its one ``export`` statement.
    :raises ConfigurationError: if the text does not end so.
    """
    body, found, export = module.rpartition("\nexport ")
    if not found or "\n" in export.rstrip():
        raise ConfigurationError("client.js does not end with its export statement")
    return f"(() => {{\n{body.rstrip()}\n\nglobalThis.io = io;\n}})();\n"


def sent_as(script: str, url: str) -> bytes:
    """Return a script as it is sent: it knows its own URL, and so what the server's URLs begin with.

    The file itself knows none, because what bundles it may not take ``import.meta``.

    :param script: the text of the script.
    :param url: the JavaScript expression that is the URL.
    :raises ConfigurationError: if the script has no place for it.
    """
    if script.count(_OWN_URL) != 1:
        raise ConfigurationError(f"client.js does not say {_OWN_URL!r} once")
    return script.replace(_OWN_URL, f"const OWN_URL = {url};").encode()


_MODULE = (FOLDER / "client.js").read_text(encoding="utf-8")
MODULE_SCRIPT = sent_as(_MODULE, "import.meta.url")
CLASSIC_SCRIPT = sent_as(classic(_MODULE), "globalThis.document?.currentScript?.src")


def blueprint() -> Blueprint:
    """Return the blueprint that serves the browser client and the dashboard."""
    views = Blueprint("assets", __name__)

    def serve(path: Path, mimetype: str) -> Response:
        # Revalidated each time: a page must not speak yesterday's protocol to today's server.
        return send_file(path, mimetype=mimetype, max_age=0)

    def script(text: bytes) -> Response:
        tag = hashlib.sha256(text).hexdigest()[:32]
        return send_file(io.BytesIO(text), mimetype="text/javascript", max_age=0, etag=tag)

    @views.get(CLIENT)
    def module() -> Response:
        return script(MODULE_SCRIPT)

    @views.get(CLASSIC_CLIENT)
    def classic_script() -> Response:
        return script(CLASSIC_SCRIPT)

    @views.get(DASHBOARD)
    def page() -> Response:
        response = serve(STATIC / "dashboard" / "index.html", "text/html")
        response.headers.update(PAGE_HEADERS)
        return response

    @views.get(DASHBOARD_FILE)
    def part(file: str) -> Response:
        path = PAGE_FILES.get(file)
        if path is None:
            raise RequestError(f"the dashboard has no file {file!r:.80}", status=404, code="no_such_file")
        return serve(path, _TYPES[path.suffix])

    return views
