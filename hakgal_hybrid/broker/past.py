"""What a new client missed before the oldest event that this process still has, as bytes of its stream."""

from __future__ import annotations

from collections.abc import Callable

from .backplane.payloads import SharedEvent, read_payload
from .backplane.shared_log import Position, Record
from .blocks import encode_entry
from .client import Session
from .content import StreamContent
from .cursor import Cursor
from .entry import Gap
from .log import EventLog
from .reading import read
from .segments import Origin, Segments
from .subscription import StreamRequest

#: How many bytes of events one client may have to be given that way.
MAX_BYTES = 4 * 1024 * 1024

#: Returns the entries of the shared log between two ids, see :meth:`.BackReader.read`.
LookBack = Callable[[Position, Position], list[Record] | None]


def resume(log: EventLog, request: StreamRequest, session: Session,
           look_back: LookBack | None) -> tuple[int, Gap | None, bytes]:
    """Say where a stream goes on, see :meth:`.EventLog.resume`, and what comes before that.

    :param log: the log of this process.
    :param request: what the client asks for.
    :param session: the session of its stream.
    :param look_back: reads the shared log; ``None`` for what is not to be read.
    :return: the position, a gap if the stream cannot just go on there, and blocks of events before that position.
    """
    position, gap = log.resume(request.last_event_id or "")
    if gap is None or gap.reason != "evicted" or look_back is None:
        return position, gap, b""
    past = past_blocks(look_back, session, request, log.id_of(gap.upto))
    return (position, gap, b"") if past is None else (position, None, past)


def past_blocks(look_back: LookBack, session: Session, request: StreamRequest, upto: str) -> bytes | None:
    """Return the events after the one that a client resumes after, as far as its process has them no more.

    :param look_back: reads the shared log.
    :param session: the session of its stream. Its clients must be new: in which rooms older ones were is not known.
    :param request: what the client asks for.
    :param upto: the id of the last event that the process has dropped.
    :return: the blocks; ``None`` if not all of it can be had, or it is too much.
    """
    if request.last_event_id is None or any(client.since for client in session.clients):
        return None
    records = look_back(Position.parse(request.last_event_id), Position.parse(upto))
    log = None if records is None else _log_of(records)
    if log is None:
        return None
    content = StreamContent(session, log, request, lambda client, gap: None)
    cursor, parts = Cursor(log, 0, content.wants), list[bytes]()
    while cursor.position < log.newest:
        parts.append(read(content, cursor, float("-inf"), None).data)
    return b"".join(parts)


def _log_of(records: list[Record]) -> EventLog | None:
    log = EventLog(epoch=-1, clock=float, wall_ms=int, encode=encode_entry, max_events=len(records) + 1,
                   max_bytes=MAX_BYTES, max_event_bytes=MAX_BYTES, segments=Segments())
    for record in records:
        if record.lost or not record.payload:
            return None  # something is missing there
        try:
            carried = read_payload(record.payload)
        except ValueError:
            return None
        if isinstance(carried, SharedEvent):
            log.append(carried.event, origin=Origin(record.at, carried.ts))
    return log if log.oldest == 1 else None
