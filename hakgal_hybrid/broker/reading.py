"""Reading the log for a stream. Streams at the same position that asked for the same share one read."""

from __future__ import annotations

from typing import NamedTuple

from .client import Client, namespaces_of, steady
from .content import StreamContent
from .cursor import Cursor
from .formats import Format

#: How many bytes one read takes, about, at most: it ends with the event that exceeds this. Bounds the memory of a slow
#: client.
MAX_TAKE = 256 * 1024
#: How often one read checks, at most, whether an event is for a client. Bounds its time for streams of many clients.
MAX_LOOK = 20_000


class Written(NamedTuple):
    """What one read gave.

    :ivar data: the bytes.
    :ivar position: the number up to which they go.
    :ivar delivered: how many events are in them.
    :ivar conflated: for how many others these stand.
    :ivar gap: true if a gap is in them.
    :ivar released: the clients whose ``hybrid_disconnect`` is in them.
    """

    data: bytes
    position: int
    delivered: int
    conflated: int
    gap: bool
    released: tuple[Client, ...] = ()


class SharedKey(NamedTuple):
    """What two streams must have in common to be sent the same bytes: their position, and what they asked for.

    :ivar position: the number of the last event before.
    :ivar namespaces: the namespaces of their clients.
    :ivar events: globs of the names that they asked for.
    :ivar format: how their events are carried.
    :ivar chunked: whether what is written comes as chunks of an HTTP/1.1 body.
    :ivar replaying: whether they resume: then there is no limit to the age of events.
    """

    position: int
    namespaces: frozenset[str]
    events: tuple[str, ...]
    format: Format
    chunked: bool
    replaying: bool


Shared = dict[SharedKey, Written]


def read(content: StreamContent, cursor: Cursor, min_at: float, upto: int | None,
         most: int | None = None) -> Written:
    """Read and encode what is new for one stream.

    :param content: chooses and encodes.
    :param cursor: the stream's place, which moves on.
    :param min_at: entries older than this clock reading become a gap.
    :param upto: number of the last event that is looked at.
    :param most: how many events are read, at most.
    :return: what was read.
    """
    session, before = content.session, cursor.position
    look_at = max(64, MAX_LOOK // max(1, len(session.clients)))
    batch = cursor.read(max_bytes=MAX_TAKE, min_at=min_at, max_entries=look_at, upto=upto, most=most)
    # After the log was read: every client that had ended before one of these events is known to have ended now.
    released = sorted((client for client in session.clients
                       if client.ended_at is not None and client.ended_at <= cursor.position),
                      key=lambda client: client.ended_at or 0)
    return Written(content.encode(batch, before, released), cursor.position, len(batch.entries),
                   sum(batch.conflated.values()), batch.gap is not None, tuple(released))


def read_shared(shared: Shared, content: StreamContent, cursor: Cursor, min_at: float, upto: int | None, *,
                replaying: bool) -> Written:
    """Do what :func:`read` does, but use what another stream has read, if all that is new is for everybody.

    :param shared: what others have read. What is read now is added, unless it is for this stream alone.
    :param content: chooses and encodes.
    :param cursor: the stream's place, which moves on.
    :param min_at: entries older than this clock reading become a gap.
    :param upto: number of the last event that is looked at; the same for all that share.
    :param replaying: whether the stream resumes.
    :return: what was read.
    """
    log, clients, request = content.log, content.session.clients, content.request
    key = SharedKey(cursor.position, namespaces_of(clients), request.events, request.format, content.chunked,
                    replaying)

    def is_for_all() -> bool:
        return log.last_partial <= key.position and cursor.plain and steady(clients, key.position)

    if not is_for_all():
        return read(content, cursor, min_at, upto)
    written = shared.get(key)
    if written is None:
        written = read(content, cursor, min_at, upto)
        if is_for_all() and not written.gap and content.session.clients is clients:  # also after the read
            shared[key] = written
    else:
        cursor.position = written.position
        if written.conflated:
            log.note(conflated=written.conflated)
    return written
