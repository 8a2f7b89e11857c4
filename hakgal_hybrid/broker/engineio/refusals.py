"""Refusal: why a request of Engine.IO is not served, by the codes of that protocol."""

from __future__ import annotations

import json
from enum import IntEnum


class RefusalCode(IntEnum):
    """The codes of Engine.IO."""

    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SID = 1
    BAD_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_VERSION = 5


_TEXTS = {
    RefusalCode.UNKNOWN_TRANSPORT: "Transport unknown",
    RefusalCode.UNKNOWN_SID: "Session ID unknown",
    RefusalCode.BAD_METHOD: "Bad handshake method",
    RefusalCode.BAD_REQUEST: "Bad request",
    RefusalCode.FORBIDDEN: "Forbidden",
    RefusalCode.UNSUPPORTED_VERSION: "Unsupported protocol version",
}


class Refusal(Exception):
    """A request is not served.

    :param code: why.
    :param message: what the answer says; by default the text of the code.
    :param status: the status of the answer; by default that of the code.
    :ivar status: the status of the answer.
    :ivar counted_as: the name under which it is counted.
    """

    def __init__(self, code: RefusalCode, message: str = "", status: int | None = None) -> None:
        super().__init__(message or _TEXTS[code])
        self.code, self.counted_as = code, code.name.lower()
        self.status = status or (403 if code is RefusalCode.FORBIDDEN else 400)

    def body(self) -> bytes:
        """Return the body of the answer, an object."""
        return json.dumps({"code": int(self.code), "message": str(self)}).encode()
