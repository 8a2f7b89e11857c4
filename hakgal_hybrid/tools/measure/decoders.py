"""Readers: what comes over a client's connection, taken apart into events. Pure: bytes in, events out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Protocol

from ...broker.sse import Decoder


class Reader(Protocol):
    """Takes the bytes that follow the head of an answer, in any pieces."""

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """Return the events that are complete by now: name, and the text of the payload."""


class SseReader:
    """An event stream; control events of ours included.

    :param chunked: whether the answer's transfer coding is ``chunked``.
    """

    def __init__(self, chunked: bool) -> None:
        self._decoder = Decoder()
        self._dechunker = Dechunker() if chunked else None

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """Return the events that are complete by now."""
        if self._dechunker is not None:
            chunk = self._dechunker.feed(chunk)
        for message in self._decoder.feed(chunk):
            yield message.event, message.data


class Dechunker:
    """Undoes the transfer coding ``chunked`` (RFC 9112, 7.1); trailers are not looked at."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return what of the body is in ``data``."""
        self._rest += data
        body = []
        while self._rest:
            if self._left > 2:
                piece = self._rest[:self._left - 2]
                body.append(piece)
                self._left -= len(piece)
                self._rest = self._rest[len(piece):]
            elif self._left:  # the line end behind a chunk
                gone = min(self._left, len(self._rest))
                self._left -= gone
                self._rest = self._rest[gone:]
            else:
                line, found, rest = self._rest.partition(b"\r\n")
                if not found:
                    break
                self._rest = rest
                size = int(line.partition(b";")[0] or b"0", 16)
                self._left = size + 2
        return b"".join(body)


class WebSocketReader:
    """Unmasked text frames of a WebSocket, each ``{"event": name, "data": payload}``."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """Return the events that are complete by now."""
        self._rest += chunk
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == 1:
                message = json.loads(payload)
                yield message["event"], json.dumps(message["data"])

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._rest) < 2:
            return None
        size, start = self._rest[1] & 127, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(self._rest) < 2 + width:
                return None
            size, start = int.from_bytes(self._rest[2:2 + width], "big"), 2 + width
        if len(self._rest) < start + size:
            return None
        opcode, payload = self._rest[0] & 15, bytes(self._rest[start:start + size])
        del self._rest[:start + size]
        return opcode, payload


def masked_text_frame(text: str) -> bytes:
    """Return a short text frame of a client, with a mask that changes nothing."""
    payload = text.encode()
    if len(payload) > 125:
        raise ValueError("this is for short texts")
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def emitted_at(payload: str) -> float | None:
    """Return the last ``"timestamp"`` of a payload, in seconds since 1970: when the host made the event.

    Found in the text, because to parse what every client gets would cost more than all the rest.
    """
    at = payload.rfind('"timestamp"')
    if at < 0:
        return None
    text = payload[at + 11:at + 50].lstrip(" :")
    end = next((index for index, char in enumerate(text) if char not in "0123456789.eE+-"), len(text))
    try:
        return float(text[:end])
    except ValueError:
        return None
