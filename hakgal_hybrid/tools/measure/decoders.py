"""Decoders: what comes over a client's connection, as events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ...broker.sse import Decoder


class EventDecoder:
    """The events of one client: of an event stream, or of a WebSocket whose messages are JSON objects."""

    def __init__(self) -> None:
        self._stream = Decoder()

    def feed(self, part: bytes | list[str]) -> Iterator[tuple[str, str]]:
        """Return the events that are complete by now.

        :param part: the next bytes of an event stream; or the next messages of a WebSocket, each
            ``{"event": name, "data": payload}``.
        :return: the name of each, and its payload as text. Events about the stream itself are among them.
        """
        if isinstance(part, bytes):
            for message in self._stream.feed(part):
                yield message.event, message.data
            return
        for text in part:
            document = json.loads(text)
            yield document["event"], json.dumps(document["data"])


def emitted_at(payload: str) -> float | None:
    """Return when the host made an event: the last ``"timestamp"`` of its payload, in seconds since 1970.

    It is searched for in the text, because parsing what every client gets would cost more than all the rest.

    :param payload: JSON.
    :return: ``None`` if there is none.
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
