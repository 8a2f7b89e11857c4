"""Lines: the head of a request, and chunks of its body, read as strictly as RFC 9112 allows.

Whatever two programs could read differently is refused, so that no request can hide in another one that a proxy has let
through: lines that do not end in CR LF, a CR inside of one, folded lines, two lengths, chunk sizes with signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import RequestError

_FIRST = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+ (?:/|https?://)[\x21-\x7e\x80-\xff]*|OPTIONS \*) "
                    rb"HTTP/1\.[01]\r\n")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\0]*)\r\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
#: How many headers a request may have: one less than http.client gives up at.
_HEADERS = 99
#: Longest line of a chunk's size (bytes), and what may come after the last chunk, together.
_CHUNK_LINE, _TRAILERS = 1024, 8192


class TooLarge(ValueError):
    """The head of a request is larger than it may be."""


def check_first_line(line: bytes) -> None:
    """Refuse a request line that is not one (RFC 9112, section 3).

    :raises ValueError: saying what is wrong.
    """
    if not _FIRST.fullmatch(line):
        raise ValueError(f"request line {line!r:.80} is malformed")


class Headers:
    """The headers of a request, with what pywsgi asks of its own kind, which is made for mail and slow.

    :ivar items: names and values, in order.
    """

    status = ""  # what is wrong with them: nothing, or they would not have got here

    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []
        self._values: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        """Add a line, at the end."""
        self.items.append((name, value))
        self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first header of this name, in whatever case."""
        values = self._values.get(name.lower())
        return values[0] if values else default

    getheader = get

    def get_all(self, name: str) -> list[str]:
        """Return the values of all headers of this name, which is in lower case."""
        return self._values.get(name, [])

    def __delitem__(self, name: str) -> None:
        """Have nothing to delete: pywsgi drops a length beside chunks, but such a head is refused."""
        raise KeyError(name)

    @property
    def typeheader(self) -> str | None:
        """What the body is."""
        return self.get("content-type")

    def environ(self) -> Iterator[tuple[str, str]]:
        """Yield names and values as WSGI has them (PEP 3333), those apart that it keeps elsewhere.

        What has an underscore could pass for another header, behind a proxy that lets it through: it is left out.
        """
        for name, value in self.items:
            if "_" not in name:
                key = name.replace("-", "_").upper()
                if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                    yield "HTTP_" + key, value


class HeadLines:
    """Stands in for a connection's file while the headers of a request are parsed.

    :param file: what is read from. :param limit: how many bytes may come.
    """

    def __init__(self, file: Any, limit: int) -> None:
        self._file, self._left = file, limit
        self.headers = Headers()

    def readline(self, size: int = -1) -> bytes:
        """Return the next line.

        :raises ValueError: if it is malformed, or the head ends before it is complete.
        """
        line: bytes = self._file.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0 or len(self.headers.items) >= _HEADERS:
            raise TooLarge("the request's head is too large")
        if line != b"\r\n":
            header = _HEADER.fullmatch(line)
            if header is None:
                raise ValueError(f"header line {line!r:.80} is malformed, or the head is not complete")
            name, value = header.groups()
            self.headers.add(name.decode("ascii"), value.decode("latin-1").strip(" \t"))
        return line

    def check(self, version: str) -> None:
        """Refuse a head that is ambiguous as a whole (RFC 9112, sections 3.2, 6.1 and 6.3).

        :raises ValueError: for no or several hosts, a length beside chunks, several lengths, unknown encodings.
        """
        hosts = len(self.headers.get_all("host"))
        if hosts > 1 or (hosts == 0 and version == "HTTP/1.1"):
            raise ValueError(f"{hosts} Host headers")
        encodings, lengths = self.headers.get_all("transfer-encoding"), self.headers.get_all("content-length")
        if encodings and (lengths or version != "HTTP/1.1"):
            raise ValueError("Transfer-Encoding beside Content-Length, or before HTTP/1.1")
        if encodings and [item.lower() for item in encodings] != ["chunked"]:
            raise ValueError(f"Transfer-Encoding {encodings!r} is not understood")
        if len(set(lengths)) > 1 or not all(item.isascii() and item.isdigit() for item in lengths):
            raise ValueError(f"Content-Length {lengths!r} is not one number")


class Chunks:
    """The body of a request that comes in chunks (RFC 9112, section 7.1).

    :param file: what is read from.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes of the body, less only at its end. (A byte a chunk must not buy more time.)

        :raises RequestError: 400 if the chunks make no sense. :raises OSError: if the client goes away.
        """
        pieces = []
        while size and (piece := self._piece(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        if not self._left and not self._ended:
            self._left = self._next_size()
            if not self._left:
                self._ended = True
                self._skip_trailers()
        if self._ended:
            return b""
        data: bytes = self._file.read(min(size, self._left))
        if not data:
            raise ConnectionError("the body ended within a chunk")
        self._left -= len(data)
        if not self._left and self._line(2) != b"\r\n":
            raise _broken()
        return data

    def _next_size(self) -> int:
        size = _CHUNK.fullmatch(self._line(_CHUNK_LINE))
        if size is None:
            raise _broken()
        return int(size[1], 16)

    def _skip_trailers(self) -> None:
        """Read what comes after the last chunk; nothing in there counts for anything."""
        trailers = HeadLines(self._file, _TRAILERS)
        try:
            while trailers.readline() != b"\r\n":
                pass
        except ValueError:
            raise _broken() from None

    def _line(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        if not line:
            raise ConnectionError("the body ended between chunks")
        return line


def _broken() -> RequestError:
    return RequestError("the body's chunked encoding is broken", status=400, code="bad_http")
