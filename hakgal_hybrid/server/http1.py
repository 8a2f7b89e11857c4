"""HTTP/1.1 requests as bytes: h11 reads them, and what two programs could read differently is refused.

No request can hide in another one that a proxy has passed on. h11 takes more than RFC 9112 asks for (lines that end in
LF alone, folded lines, lengths in a list), so :func:`check_lines` and :func:`parse_head` look at the bytes first. The
chunks of a body are read here: h11 hides the lines that hold their sizes, and refuses a space before an extension.
Pure: no socket, no clock.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import h11

from ..errors import RequestError

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIRST = re.compile(_TOKEN + rb" (?:\*|(?:/|[hH][tT][tT][pP][sS]?://)[\x21-\x7e\x80-\xff]*) HTTP/1\.[01]\r\n")
_HEADERS = re.compile(rb"(?:" + _TOKEN + rb":[^\r\n\0]*\r\n)*(?:\r\n)?")
#: A Content-Length that is anything but digits. h11 takes lists of equal ones.
_BAD_LENGTH = re.compile(rb"\r\nContent-Length:(?![ \t]*[0-9]+[ \t]*\r)", re.IGNORECASE)
_TARGET = re.compile(r"(?:[a-z]+://(?P<authority>[^/?#@]+))?(?P<path>[^?]*)(?:\?(?P<query>.*))?",
                     re.IGNORECASE | re.DOTALL)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
#: How many headers a request may have: one less than http.client gives up at.
MAX_HEADERS = 99
#: How long a request line may be (bytes, its line end included).
MAX_LINE = 8192
#: Longest line of a chunk's size (bytes), and how long all that comes after the last chunk may be.
_CHUNK_LINE, _TRAILERS = 1024, 8192


class RequestHead(NamedTuple):
    """The head of a request.

    :ivar line: the request line as it came, for logs.
    :ivar method: the method.
    :ivar authority: host and port of a target in absolute form, else ``None``.
    :ivar path: the path, still percent-encoded; ``*`` for the server as a whole.
    :ivar query: what follows the question mark; empty if nothing does.
    :ivar version: ``HTTP/1.0`` or ``HTTP/1.1``.
    :ivar headers: pairs of name in lower case and value, in order.
    :ivar length: the declared length of the body (bytes); ``None`` if none is declared.
    :ivar chunked: whether the body comes in chunks.
    :ivar keep_alive: whether the client may send another request on this connection.
    :ivar expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
    :ivar upgrade: whether the client asks for a WebSocket (RFC 6455, section 4.1).
    """

    line: str
    method: str
    authority: str | None
    path: str
    query: str
    version: str
    headers: list[tuple[str, str]]
    length: int | None
    chunked: bool
    keep_alive: bool
    expects_continue: bool
    upgrade: bool


def check_lines(data: bytes | bytearray, checked: int) -> int:
    """Check the lines of a head that have come so far, so that nobody waits for the rest of what is no request.

    :param data: the head's bytes so far.
    :param checked: how many of them were checked before; 0 at first.
    :return: how many are checked now: all up to the last line end.
    :raises RequestError: 400 if they are malformed.
    """
    ends = data.rfind(b"\n") + 1
    if ends > checked:
        if not checked:
            first = _FIRST.match(data)
            if first is None:
                raise bad_http(f"request line {bytes(data[:80])!r} is malformed")
            checked = first.end()
        if not _HEADERS.fullmatch(data, checked, ends):
            raise bad_http(f"a header line in {bytes(data[checked:ends])!r:.200} is malformed")
    return ends


def parse_head(data: bytes) -> RequestHead:
    """Parse the head of a request.

    :param data: its bytes, from the request line to the empty line.
    :return: what it says.
    :raises RequestError: 400 if it is malformed, or ambiguous as a whole; 431 if it has too many headers.
    """
    if data.count(b"\n") > MAX_HEADERS + 2:
        raise head_too_large()
    check_lines(data, 0)
    if _BAD_LENGTH.search(data):
        raise bad_http("a Content-Length is not one number")
    line, _, rest = data.partition(b"\r\n")
    if not line.isascii():  # which h11 refuses, and browsers do not send, but other clients do
        data = _NOT_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), line) + b"\r\n" + rest
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data))
    connection.receive_data(data)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise bad_http(str(error)) from None
    if not isinstance(request, h11.Request):
        raise bad_http("the head is not complete")
    return _checked(line.decode("latin-1"), request)


def _checked(line: str, request: h11.Request) -> RequestHead:
    method, version = request.method.decode("ascii"), "HTTP/" + request.http_version.decode("ascii")
    target = request.target.decode("ascii")
    found = _TARGET.fullmatch(target)
    path = "/" if found is None else found["path"] or "/"
    if found is None or not (path.startswith("/") or (target == "*" and method == "OPTIONS")):
        raise bad_http(f"target {target!r:.80} is malformed")
    length, chunked, connection, upgrade, expect = None, False, "", "", ""
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers]
    for name, value in headers:
        if name == "content-length":
            length = int(value)
        elif name == "transfer-encoding":
            chunked = True
        elif name == "connection":
            connection += "," + value
        elif name == "upgrade":
            upgrade = value
        elif name == "expect":
            expect = value
    if chunked and (length is not None or version != "HTTP/1.1"):
        raise bad_http("Transfer-Encoding beside Content-Length, or before HTTP/1.1")
    if length and method == "HEAD":
        raise bad_http("a body of a HEAD request")
    tokens = {token.strip() for token in connection.lower().split(",")} if connection else set()
    return RequestHead(
        line, method, found["authority"], path, found["query"] or "", version, headers, length, chunked,
        keep_alive="close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens),
        expects_continue=expect.lower() == "100-continue" and version == "HTTP/1.1",
        upgrade=(upgrade.lower() == "websocket" and "upgrade" in tokens and method == "GET" and not length
                 and not chunked))


class FixedBody:
    """The body of a request whose length is known.

    :param source: what is read from: its ``read(size)`` returns that many bytes, less only at the end of everything.
    :param length: how long it is (bytes).
    """

    def __init__(self, source: Any, length: int) -> None:
        self._source, self._left = source, length

    def read(self, size: int) -> bytes:
        """Return the next bytes of the body.

        :param size: how many at most.
        :return: that many, less only at the end of the body.
        :raises ConnectionError: if the client goes away before.
        """
        size = min(size, self._left)
        data: bytes = self._source.read(size)
        if len(data) < size:
            raise ConnectionError("the body ended early")
        self._left -= size
        return data


class ChunkedBody:
    """The body of a request that comes in chunks (RFC 9112, section 7.1).

    :param source: what is read from: has ``read(size)`` as that of :class:`FixedBody`, and ``readline(limit)``.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return the next bytes of the body. A client that sends a byte a chunk gains no time by it.

        :param size: how many at most.
        :return: that many, less only at the end of the body.
        :raises RequestError: 400 if the chunks make no sense.
        :raises ConnectionError: if the client goes away.
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
        data: bytes = self._source.read(min(size, self._left))
        if not data:
            raise ConnectionError("the body ended within a chunk")
        self._left -= len(data)
        if not self._left and self._line(2) != b"\r\n":
            raise _bad_chunks()
        return data

    def _next_size(self) -> int:
        size = _CHUNK.fullmatch(self._line(_CHUNK_LINE))
        if size is None:
            raise _bad_chunks()
        return int(size[1], 16)

    def _skip_trailers(self) -> None:
        """Read what comes after the last chunk. Nothing of it is used."""
        left = _TRAILERS
        while (line := self._line(left + 1)) != b"\r\n":
            left -= len(line)
            if left < 0 or not _HEADERS.fullmatch(line):
                raise _bad_chunks()

    def _line(self, limit: int) -> bytes:
        line: bytes = self._source.readline(limit)
        if not line:
            raise ConnectionError("the body ended between chunks")
        return line


def bad_http(why: str) -> RequestError:
    """Return the error for what is no request.

    :param why: what is wrong with it, for the log only: it may hold what the client sent.
    :return: an error of status 400.
    """
    error = RequestError("this is not a valid HTTP request", status=400, code="bad_http")
    error.__cause__ = ValueError(why)
    return error


def head_too_large() -> RequestError:
    """Return the error for a head that is larger than it may be.

    :return: an error of status 431.
    """
    return RequestError("the request's head is larger than HYBRID_MAX_HEAD_BYTES", status=431, code="head_too_large")


def _bad_chunks() -> RequestError:
    return RequestError("the body's chunked encoding is broken", status=400, code="bad_http")
