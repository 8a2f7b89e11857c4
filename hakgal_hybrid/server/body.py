"""The body of a request, which is read before a thread is taken for it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import gevent

from ..broker.budget import Budget
from ..errors import Overloaded, RequestError
from ..settings import Settings
from .timeout import Limit

#: A body larger than this (bytes) waits in a temporary file.
SPOOL = 1 << 20

_PIECE = 64 * 1024


class UnreadBody:
    """Stands for a body that is not read because the request seems not to be permitted.

    :param wanted: what is appended to if somebody in front of our URLs wants to read it nevertheless.
    """

    def __init__(self, wanted: list[bool]) -> None:
        self._wanted = wanted

    def read(self, size: int = -1) -> bytes:
        """Note that the body is wanted.

        :param size: is of no interest.
        :raises OSError: always.
        """
        self._wanted.append(True)
        raise OSError("the body of this request has not been read")

    readline = readlines = read

    def __iter__(self) -> UnreadBody:
        return self

    def __next__(self) -> bytes:
        return self.read()


class BodyLimit(NamedTuple):
    """How large a body may be.

    :ivar size: in bytes.
    :ivar name: what sets it.
    """

    size: int
    name: str


def read_body(source: Any, declared: int | None, settings: Settings, budget: Budget, loop: Any, *,
              limit: BodyLimit, proceed: Callable[[], object]) -> tuple[BinaryIO, int]:
    """Read a whole body, bounded in size and in the time each piece of it takes.

    :param source: what is read from; ``read(size)`` returns that many bytes, less only at the end of the body.
    :param declared: its ``Content-Length``, ``None`` if it comes in chunks.
    :param settings: the bounds.
    :param budget: what the bodies that are being read may hold together.
    :param loop: the loop of the calling greenlet.
    :param limit: how large it may be.
    :param proceed: called before anything is read, unless there is nothing to be read, or too much.
    :return: the body, to be closed by the caller, and its length (bytes).
    :raises RequestError: 413 if it is too large, 408 if it comes too slowly, 400 if its chunks make no sense.
    :raises Overloaded: 503 if too much is being read.
    :raises OSError: if the client goes away.
    """
    if declared is not None and declared > limit.size:
        raise _too_large(limit)
    if declared == 0:
        return io.BytesIO(), 0
    proceed()
    body: Any = io.BytesIO()
    length = 0
    try:
        while piece := _read_piece(source, loop, settings.request_s):
            if length + len(piece) > limit.size:
                raise _too_large(limit)
            if not budget.take(len(piece)):
                raise Overloaded("the bodies that are being read are too large together (HYBRID_QUEUE_BYTES)",
                                 code="too_many_requests_waiting", retry_after=2)
            length += len(piece)
            if length > SPOOL and isinstance(body, io.BytesIO):
                body = _in_a_file(body)
            body.write(piece)
    except BaseException:
        body.close()
        raise
    finally:
        budget.give_back(length)
    if isinstance(body, io.BytesIO):
        body.getvalue()  # has it hold no more than that, so that to read it all makes no copy
    body.seek(0)
    return body, length


def _in_a_file(body: io.BytesIO) -> Any:
    """Move a body that has grown large to disk. (Python 3.10's SpooledTemporaryFile is no full file object.)"""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(body.getvalue())
    return file


def _read_piece(source: Any, loop: Any, seconds: float) -> bytes:
    try:
        with Limit(loop, seconds):
            return bytes(source.read(_PIECE))
    except gevent.Timeout:
        raise RequestError("the request's body came too slowly", status=408, code="request_timeout") from None


def _too_large(limit: BodyLimit) -> RequestError:
    return RequestError(f"the body is larger than {limit.name} ({limit.size})", status=413, code="body_too_large")
