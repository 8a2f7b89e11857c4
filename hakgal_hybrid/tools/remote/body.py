"""The body of an HTTP/1.1 answer, taken out of the bytes as they come: chunked, or until the end. Pure."""

from __future__ import annotations

#: Longest line that announces a chunk; a longer one is no HTTP.
_MAX_LINE = 4096
#: Longest head of an answer.
MAX_HEAD = 65536


class BodyReader:
    """Incremental reader of one answer.

    :ivar status: once the head is there, else ``None``.
    :ivar headers: names in lower case; of several with one name the last.
    :ivar ended: true once a chunked body is complete; any other ends with the connection.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.ended = False
        self._rest = bytearray()
        self._chunked = False
        self._left = 0  # bytes of the current chunk, its line end included

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they come; return those of the body in them.

        :raises ValueError: if this is no HTTP.
        """
        if self.status is not None and not self._chunked:
            return data
        self._rest += data
        if self.status is None and not self._head():
            return b""
        if not self._chunked:
            body = bytes(self._rest)
            self._rest.clear()
            return body
        return b"".join(iter(self._chunk, b""))

    def _head(self) -> bool:
        end = self._rest.find(b"\r\n\r\n")
        if end < 0:
            if len(self._rest) > MAX_HEAD:
                raise ValueError("the head of the answer does not end")
            return False
        first, *lines = bytes(self._rest[:end]).decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ValueError(f"this is no HTTP answer: {first[:80]!r}")
        del self._rest[:end + 4]
        self.status = int(words[1])
        self.headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        return True

    def _chunk(self) -> bytes:
        """Return what there is of the next chunk, or nothing."""
        while not self.ended:
            if self._left > 2:
                part = bytes(self._rest[:self._left - 2])
                del self._rest[:len(part)]
                self._left -= len(part)
                return part
            if self._left:
                if len(self._rest) < self._left:
                    return b""
                del self._rest[:self._left]
                self._left = 0
            end = self._rest.find(b"\r\n")
            if end < 0:
                if len(self._rest) > _MAX_LINE:
                    raise ValueError("a chunk has no size")
                return b""
            size = int(bytes(self._rest[:end]).partition(b";")[0], 16)
            if size < 0:
                raise ValueError("a chunk has a negative size")
            del self._rest[:end + 2]
            self.ended = size == 0
            self._left = size + 2 if size else 0
        return b""
