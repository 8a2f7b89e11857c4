"""One opened stream, with the times of what came."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

from ...broker.sse import Decoder, Message
from ..remote.request import Base, connected, open_response, resolve
from .target import ExaminedHost


class OpenedStream:
    """One stream: what its head said, and its messages as they come, each with its time since the request.

    :param host: the host that is examined.
    :param path: the path with its query.
    :param headers: sent beside those of the host.
    :param timeout: seconds for everything that is read.
    :param base: another host than the one that is examined.
    """

    def __init__(self, host: ExaminedHost, path: str, headers: dict[str, str], timeout: float, *,
                 base: Base | None = None) -> None:
        self._base = base or host.base
        address = host.address if base is None else resolve(base)[0]
        self._sock = connected(self._base, address, host.options.connect_s)
        self._sock.settimeout(timeout)
        self._deadline = time.perf_counter() + timeout
        self._started = time.perf_counter()
        self._decoder = Decoder()
        self._opening = open_response(self._base, self._sock, "GET", path,
                                      {"Accept": "text/event-stream", **host.headers, **headers})
        try:
            self._response = self._opening.__enter__().raw
        except BaseException:
            self._sock.close()
            raise
        self.head_s = time.perf_counter() - self._started
        self.status, self.headers = self._response.status, self._response.headers
        encoding = (self.headers.get("Content-Encoding") or "").lower()
        self._unpack = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None

    @property
    def is_stream(self) -> bool:
        """Whether this is an event stream at all."""
        return self.status == 200 and self.headers.get_content_type() == "text/event-stream"

    def pieces(self) -> Iterator[tuple[float, bytes, list[Message]]]:
        """Yield what comes until the stream ends: when, the bytes, and the messages in them.

        :raises TimeoutError: at the end of the time given to it.
        """
        while True:
            left = self._deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            data = self._response.read1(65536)
            if not data:
                return
            try:
                plain = data if self._unpack is None else self._unpack.decompress(data)
            except zlib.error as error:
                raise ConnectionError(f"it is no {self.headers['Content-Encoding']}: {error}") from error
            yield time.perf_counter() - self._started, plain, self._decoder.feed(plain)

    @property
    def age_s(self) -> float:
        """Seconds since the request."""
        return time.perf_counter() - self._started

    def end_within(self, seconds: float) -> None:
        """Shorten the time that is given to the stream.

        :param seconds: from now on, at most.
        """
        self._deadline = min(self._deadline, time.perf_counter() + seconds)

    def first(self) -> tuple[float, list[Message]]:
        """Return when the first messages came, and which.

        :raises TimeoutError: if none did in time.
        :raises ConnectionError: if the stream ended before.
        """
        for at, _, messages in self.pieces():
            if messages:
                return at, messages
        raise ConnectionError("the stream ended before its first event")

    def close(self) -> None:
        """Hang up."""
        self._response.close()
        self._sock.close()

    def __enter__(self) -> OpenedStream:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()
