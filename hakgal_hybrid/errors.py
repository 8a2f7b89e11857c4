"""Errors: everything this package raises. Each one carries the status and code of the answer that it becomes."""

from __future__ import annotations

import errno
import json
from http import HTTPStatus
from typing import Any


class HybridError(Exception):
    """Root of all errors raised by :mod:`hakgal_hybrid`.

    :param detail: one sentence for a person: what happened, with which value, and what to do.
    :param code: stable code for programs; the class has a default.
    :param status: HTTP status of the answer; the class has a default.
    :param extra: further members of the problem document (JSON values).
    :ivar headers: further headers of the answer.
    """

    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(self, detail: str, *, code: str | None = None, status: int | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        self.headers: dict[str, str] = {}
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
            if type(self) is HybridError:
                self.title = HTTPStatus(status).phrase

    def problem(self) -> dict[str, Any]:
        """Return the members of the problem document (RFC 9457)."""
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }


class ConfigurationError(HybridError, ValueError):
    """A setting or a way of starting that cannot work. To be corrected by the operator."""

    code = "configuration"
    title = "Configuration error"

    @classmethod
    def bad_value(cls, variable: str, value: object, accepted: str) -> ConfigurationError:
        """Return the error for one wrong setting.

        :param variable: the setting's name, as the operator has written it.
        :param value: what it was.
        :param accepted: what it may be, as the rest of "use …".
        :return: the error.
        """
        return cls(f"{variable}={value!r} is not accepted; use {accepted}", variable=variable, accepted=accepted)


class EventError(HybridError, ValueError):
    """An event that cannot be sent: a bad name, no JSON payload, too large. To be corrected where it is emitted."""

    status = 422
    code = "bad_event"
    title = "Event refused"


class RequestError(HybridError):
    """A request for something that does not exist, or with invalid values. To be corrected by the client."""

    status = 422
    code = "bad_request"
    title = "Request refused"


class AccessDenied(HybridError):
    """A request that is not permitted: no key, a foreign origin, a stolen ``sid``."""

    status = 403
    code = "forbidden"
    title = "Access denied"


class UnsuitableServer(HybridError):
    """The server this app runs under cannot do what was requested. To be corrected by the operator."""

    status = 503
    title = "Unsuitable server"


class ForkedProcess(HybridError, RuntimeError):
    """The clients are those of the process that this one was forked from. To be corrected where it is raised."""

    status = 503
    code = "forked_process"
    title = "Forked process"


class NotHere(HybridError, KeyError):
    """What was asked of a client is known in another process only: its rooms, its session, its environment.

    :param sid: the client's ``sid``.
    :param process: the name of the process that has it.
    :param host: the name of that process' machine.
    :param pid: its process id there.
    """

    status = 409
    code = "not_here"
    title = "Not here"
    __str__ = Exception.__str__  # a KeyError would quote it

    def __init__(self, sid: str, process: str, host: str, pid: int) -> None:
        super().__init__(f"the client {sid!r} is one of another process (pid {pid} on {host}), and what is asked of it "
                         "is known there only", process=process, host=host, pid=pid)
        self.sid, self.process, self.host, self.pid = sid, process, host, pid


class Overloaded(HybridError):
    """A bound was hit, and the client may try again later.

    :param detail: one sentence for a person.
    :param retry_after: when, in seconds from now; sent as ``Retry-After``.
    :param extra: as those of :class:`HybridError`.
    """

    status = 503
    code = "overloaded"
    title = "Overloaded"

    def __init__(self, detail: str, *, retry_after: int = 1, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after
        self.headers["Retry-After"] = str(retry_after)


class Unfinished(ConnectionResetError):
    """The end of a stream whose client has to come back: the server closes the connection without the end of the body.

    Werkzeug, gunicorn and gevent do so, and log nothing, for a connection that is reset.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the stream goes on with the client's next request")


#: The headers of an answer, as WSGI has them.
Headers = list[tuple[str, str]]
_STATUS_LINES = {
    200: "200 OK", 400: "400 Bad Request", 401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found",
    405: "405 Method Not Allowed", 408: "408 Request Timeout", 409: "409 Conflict", 413: "413 Content Too Large",
    414: "414 URI Too Long", 431: "431 Request Header Fields Too Large",
    415: "415 Unsupported Media Type", 422: "422 Unprocessable Content", 426: "426 Upgrade Required",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error", 501: "501 Not Implemented", 503: "503 Service Unavailable",
}


def problem_response(error: HybridError) -> tuple[str, Headers, bytes]:
    """Return the problem document for an error (RFC 9457).

    :param error: the error.
    :return: status line, headers and body.
    """
    body = json.dumps(error.problem()).encode()
    status = _STATUS_LINES.get(error.status, f"{error.status} Error")
    return status, [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body))),
                    ("Cache-Control", "no-store"), *error.headers.items()], body
