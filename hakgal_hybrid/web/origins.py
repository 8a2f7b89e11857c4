"""Which web pages may use our URLs, by their origin, as the settings or the app's ``SocketIO`` say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import AccessDenied
from ..logs import get_logger
from ..settings.values import is_origin
from .peers import is_loopback

logger = get_logger(__name__)

#: The value that stands for every origin.
EVERY = "*"
#: Of how many foreign origins the refusal is logged, each once.
_MAX_LOGGED = 100
#: The ports that browsers leave out of ``Origin`` and ``Host``. Settings and proxies may name them.
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Origins:
    """The origins that are allowed besides the same one and those of this machine.

    Single origins are allowed at all URLs. Every origin, or whom a function of the app allows, only where the app's
    clients come: any page that somebody on this machine opens could command the host otherwise.

    :param named: ``HYBRID_ORIGINS``; ``None`` where it is not set, so that :meth:`take_over` counts.
    :ivar checked: false if the app wants no origin of its clients looked at, and no CORS headers for them.
    """

    def __init__(self, named: tuple[str, ...] | None) -> None:
        self.checked = True
        self._is_set = named is not None
        self._named: frozenset[str] = frozenset()
        self._logged: set[str] = set()
        self._function: Callable[..., object] | None = None
        self._allow(named or (), "HYBRID_ORIGINS")

    @property
    def asks_app(self) -> bool:
        """True if a function of the app is asked, which may take its time."""
        return self._function is not None

    @property
    def open_to(self) -> str:
        """Whose pages may be clients: ``named`` for known origins only, ``app`` if a function says it, ``every``."""
        return "every" if EVERY in self._named or not self.checked else "app" if self.asks_app else "named"

    def take_over(self, given: Any) -> None:
        """Allow what an app allows by ``cors_allowed_origins``, unless ``HYBRID_ORIGINS`` is set.

        :param given: an origin or several, ``"*"``, a function of Flask-SocketIO's form, ``[]`` for origins that are
            not looked at, or ``None`` for none.
        """
        if self._is_set:
            return
        self.checked = given != []
        self._function = given if callable(given) else None
        if not self.checked:
            logger.warning("cors_allowed_origins=[]: the origins of clients are not looked at, and they get no CORS "
                           "headers; HYBRID_ORIGINS would name those that are allowed")
        if given is None or callable(given):
            self._named = frozenset()
        else:
            self._allow(given.split(",") if isinstance(given, str) else given, "cors_allowed_origins")

    def _allow(self, origins: Iterable[Any], source: str) -> None:
        named = {str(origin).strip().lower() for origin in origins}
        known = {origin for origin in named if origin == EVERY or is_origin(origin)}
        for other in sorted(named - known - {""}):
            logger.warning("%s has %r, which is no origin such as https://dash.example:8443: ignored", source, other)
        if EVERY in known:
            logger.warning("%s='*': a page of any site that somebody opens may become a client here, with the cookies "
                           "of that person if their SameSite lets browsers send them; name the origins instead", source)
        self._named = frozenset(map(_without_default_port, known))

    def allows(self, origin: str, environ: Mapping[str, Any], *, client: bool) -> bool:
        """Return true if pages of an origin may use a URL.

        :param origin: the header ``Origin``.
        :param environ: the WSGI environment of the request.
        :param client: true if the URL is for clients of the app.
        """
        origin = _without_default_port(origin.lower())
        if origin in self._named or (client and EVERY in self._named):
            return True
        if is_origin(origin):
            parts = urlsplit(origin)
            same = _without_default_port(f"{parts.scheme}://{environ.get('HTTP_HOST', '').lower()}")
            if is_loopback(parts.hostname or "") or origin == same:
                return True
        return client and self._function is not None and self._ask(self._function, environ)

    def _ask(self, function: Callable[..., object], environ: Mapping[str, Any]) -> bool:
        """Return what the app says of a request's origin; what it raises is a no."""
        origin = environ.get("HTTP_ORIGIN")
        try:
            try:
                return bool(function(origin, environ))
            except TypeError:  # Engine.IO, too, tries both forms in this order
                return bool(function(origin))
        except Exception:
            logger.exception("the function of cors_allowed_origins raised; the origin is refused")
            return False

    def check(self, environ: Mapping[str, Any], *, client: bool) -> None:
        """Refuse a request that a web page of a foreign origin made.

        :param environ: the WSGI environment of the request.
        :param client: true if the URL is for clients of the app.
        :raises AccessDenied: 403, code ``foreign_origin``.
        """
        if client and not self.checked:
            return
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self.allows(origin, environ, client=client):
            raise AccessDenied(f"origin {origin!r:.200} may not use this; add it to HYBRID_ORIGINS to allow it",
                               code="foreign_origin")
        if origin is None and _is_embedded_elsewhere(environ) and not (client and EVERY in self._named):
            raise AccessDenied("a page of another site may not load this", code="foreign_origin")

    def log_refused(self, origin: str) -> None:
        """Tell the operator which origin was refused, once, so that a page in a loop does not fill the log.

        :param origin: the header ``Origin``.
        """
        if origin not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(origin)
            logger.warning("refused a page of the origin %.200r; HYBRID_ORIGINS names the origins that are allowed",
                           origin)


def _without_default_port(origin: str) -> str:
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], ""))


def _is_embedded_elsewhere(environ: Mapping[str, Any]) -> bool:
    """Return true if a browser says that a page of another site loads this, as an image say, without ``Origin``.

    A link that somebody follows, or an address that somebody types, is not loaded by a page.
    """
    return environ.get("HTTP_SEC_FETCH_SITE") == "cross-site" and (
        environ.get("HTTP_SEC_FETCH_MODE") != "navigate" or environ.get("HTTP_SEC_FETCH_DEST") != "document")
