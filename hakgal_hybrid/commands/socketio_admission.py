"""Admission: what the client of one session of Socket.IO may do, by the key that it has shown or still has to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import AccessDenied


class Admission:
    """Whether a client may be in namespaces, and whether what it sends is carried out. One thread at a time uses it.

    :param refusal: why what it sends is not carried out; ``None`` if it is.
    :param provisional: true if it may not be in a namespace either, before it has shown the key.
    :param check_key: takes a key; raises :class:`.AccessDenied` for a wrong one.
    :param on_end: called once, when the key was shown or the session has ended.
    :ivar refusal: why what the client sends is not carried out; ``None`` if it is.
    :ivar provisional: true while the client may not be in a namespace.
    """

    __slots__ = ("_check_key", "_on_end", "provisional", "refusal")

    def __init__(self, refusal: AccessDenied | None = None, *, provisional: bool = False,
                 check_key: Callable[[str], object] = lambda key: None,
                 on_end: Callable[[], object] | None = None) -> None:
        self.refusal, self.provisional = refusal, provisional
        self._check_key, self._on_end = check_key, on_end

    def connect(self, auth: Any) -> None:
        """Take what the client sends along when it asks for a namespace: its ``apiKey`` may be the key.

        :param auth: what it sends along.
        :raises AccessDenied: 401, if the client needs the key and does not show it, or shows a wrong one.
        """
        if self.refusal is None:
            return
        key = auth.get("apiKey") if isinstance(auth, dict) else None
        if isinstance(key, str):
            self._check_key(key)
            self.refusal, self.provisional = None, False
            self.end()
        elif self.provisional:
            raise self.refusal

    def end(self) -> None:
        """Note that the session has ended."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


#: That of clients that may do everything.
FULL_ADMISSION = Admission()
