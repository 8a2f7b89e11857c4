"""Who may open a session of Engine.IO, and what its client may do, by the rules of :mod:`.access`.

Clients of Socket.IO can show the key in the header ``X-API-Key``, in the query as ``apiKey``, or when they ask for a
namespace. One of another machine may show it as late as that, so it may open a session without; nothing is delivered to
it before.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..commands.socketio_admission import FULL_ADMISSION, Admission
from ..errors import AccessDenied, Overloaded
from ..logs import get_logger
from . import access
from .services import Services

logger = get_logger(__name__)

#: How many sessions of clients there may be at once that still have to show the key.
MAX_PROVISIONAL = 64


class EngineAccess:
    """Judges requests of one app's clients of Socket.IO.

    :param services: the settings, and whose pages may be clients.
    :param max_provisional: how many sessions there may be whose client still has to show the key.
    :ivar provisional: how many there are.
    """

    def __init__(self, services: Services, max_provisional: int = MAX_PROVISIONAL) -> None:
        self.provisional = 0
        self._services, self._settings, self._most = services, services.node.settings, max_provisional
        self._lock = threading.Lock()
        self._warned = False

    def check(self, environ: Mapping[str, Any], key: str | None) -> AccessDenied | None:
        """Let a request pass, or refuse it.

        :param environ: the WSGI environment of the request.
        :param key: the key in its query, if it has one.
        :return: why the client may not listen before it has shown the key, if it may not.
        :raises AccessDenied: if the request is refused: by its origin, address, ``Host`` or key.
        """
        self._services.origins.check(environ, client=True)
        settings = self._settings
        judged = environ if key is None or "HTTP_X_API_KEY" in environ else {**environ, "HTTP_X_API_KEY": key}
        if access.has_key(judged, settings) or settings.access == "app":
            return None
        try:
            access.check(judged, settings, commands=False, known_as=self._services.known_as())
        except AccessDenied as refusal:
            if refusal.code != "key_required":
                raise
            return refusal
        return None

    def admit(self, environ: Mapping[str, Any], key: str | None) -> Admission:
        """Return what the client of a new session may do.

        :param environ: the WSGI environment of the request that opens it.
        :param key: the key in its query, if it has one.
        :return: what it may do; to be ended with the session.
        :raises AccessDenied: as :meth:`check` does.
        :raises Overloaded: if too many clients still have to show the key.
        """
        settings, refusal = self._settings, self.check(environ, key)
        check_key = partial(access.check_key, settings=settings, name="apiKey")
        if refusal is not None:
            self._take_place()
            return Admission(refusal, provisional=True, check_key=check_key, on_end=self._free_place)
        if settings.api_key is None or settings.access == "app" or key is not None or "HTTP_X_API_KEY" in environ:
            return FULL_ADMISSION
        self._warn()
        return Admission(AccessDenied("this needs the key", status=401, code="key_required"), check_key=check_key)

    def _take_place(self) -> None:
        with self._lock:
            if self.provisional >= self._most:
                raise Overloaded(f"{self._most} clients of other machines have not shown the key yet; try again",
                                 code="too_many_without_key", retry_after=5)
            self.provisional += 1

    def _free_place(self) -> None:
        with self._lock:
            self.provisional -= 1

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("a client of Socket.IO on this machine has not shown HAKGAL_API_KEY: it may listen, and "
                           "nothing that it sends is carried out; it can show the key as auth.apiKey, as apiKey in its "
                           "query or in the header X-API-Key")
