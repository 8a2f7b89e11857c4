"""Reading: what a stream reads from the log; those at the same place that asked for the same read it once."""

from __future__ import annotations

from typing import NamedTuple

from .client import Client, namespaces_of, steady
from .content import StreamContent
from .cursor import Cursor

#: How much one read gives at most, in bytes (and a last event more): bounds what is copied for a slow client.
MAX_TAKE = 256 * 1024
#: How often one read asks, at most, whether an event is for a client: bounds its time, for streams with many clients.
MAX_LOOK = 20_000


class Written(NamedTuple):
    """What one read gave; any stream at the same place may have the same bytes.

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
    """What two streams must have in common to have the same bytes: their place, and what they asked for.

    :ivar position: number of the last event before.
    :ivar namespaces: the namespaces of their clients.
    :ivar events: globs of the names that they asked for.
    :ivar envelope: whether they get envelopes.
    :ivar chunked: whether what is written comes as chunks of an HTTP/1.1 body.
    :ivar replaying: whether they resume, and may have what is older than an open stream may.
    """

    position: int
    namespaces: frozenset[str]
    events: tuple[str, ...]
    envelope: bool
    chunked: bool
    replaying: bool


Shared = dict[SharedKey, Written]


def read(content: StreamContent, cursor: Cursor, min_at: float, upto: int | None) -> Written:
    """Read and encode what is new for one stream.

    :param content: chooses and encodes.
    :param cursor: the stream's place, which moves on.
    :param min_at: entries older than this clock reading become a gap.
    :param upto: number of the last event that is looked at.
    :return: what was read.
    """
    session, before = content.session, cursor.position
    look_at = max(64, MAX_LOOK // max(1, len(session.clients)))
    batch = cursor.read(max_bytes=MAX_TAKE, min_at=min_at, max_entries=look_at, upto=upto)
    # After the log was read: of every end before an event that was read it is known now.
    released = sorted((client for client in session.clients
                       if client.ended_at is not None and client.ended_at <= cursor.position),
                      key=lambda client: client.ended_at or 0)
    return Written(content.encode(batch, before, released), cursor.position, len(batch.entries),
                   sum(batch.conflated.values()), batch.gap is not None, tuple(released))


def read_shared(shared: Shared, content: StreamContent, cursor: Cursor, min_at: float, upto: int | None, *,
                replaying: bool) -> Written:
    """Do what :func:`read` does by way of what others have read, if all that is new is for everybody.

    :param shared: what others have read; what is read now is put into it, unless it is only this stream's.
    :param content: chooses and encodes.
    :param cursor: the stream's place, which moves on.
    :param min_at: entries older than this clock reading become a gap.
    :param upto: number of the last event that is looked at; the same for all that share.
    :param replaying: whether the stream resumes, and may have what is older than an open stream may.
    :return: what was read.
    """
    log, clients, request = content.log, content.session.clients, content.request
    key = SharedKey(cursor.position, namespaces_of(clients), request.events, request.envelope, content.chunked,
                    replaying)

    def is_common() -> bool:
        return log.last_partial <= key.position and cursor.plain and steady(clients, key.position)

    if not is_common():
        return read(content, cursor, min_at, upto)
    written = shared.get(key)
    if written is None:
        written = read(content, cursor, min_at, upto)
        if is_common() and not written.gap and content.session.clients is clients:
            shared[key] = written  # or it turned out to be this stream's own
    else:
        cursor.position = written.position
        if written.conflated:
            log.note(conflated=written.conflated)
    return written
