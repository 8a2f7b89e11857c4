"""Replay: what one client of Socket.IO has missed, given before its stream goes on with what is new for it.

Each client of a session says for itself what it has, while their stream has one place in the log. So a client that
joins a session with a past has a reader of its own, up to the newest event of that moment. The stream gives the client
what comes after that.
"""

from __future__ import annotations

from collections.abc import Callable

from .client import Client, Session, bad_ticket
from .cursor import Cursor
from .entry import Entry, Gap
from .event import Target
from .formats import Format
from .hub import Hub
from .log import EventLog
from .reading import MAX_LOOK, MAX_TAKE
from .states import SessionState

#: Says whether an event that is to be acknowledged is still to be sent to a client.
Unanswered = Callable[[Entry, Client], bool]


class Replay:
    """Reads the log for one client, in pieces. It is not thread-safe.

    :param log: the log.
    :param client: the client.
    :param position: the number of the last event that it has.
    :param upto: the number of the last event that is replayed.
    :param unanswered: says whether an event that is to be acknowledged is to be sent; one that was answered is not.
    :ivar gap: what is lost, once something is; nothing more may be sent then.
    """

    def __init__(self, log: EventLog, client: Client, position: int, upto: int, unanswered: Unanswered) -> None:
        self.gap: Gap | None = None
        self._log, self._client, self._upto, self._unanswered = log, client, upto, unanswered
        self._cursor = Cursor(log, position, self._wants)

    @property
    def client(self) -> Client:
        """The client."""
        return self._client

    @property
    def done(self) -> bool:
        """True once everything was taken."""
        return self._cursor.position >= self._upto

    @property
    def complete(self) -> bool:
        """True if the log still has everything that the client has missed."""
        oldest, position = self._log.oldest, self._cursor.position
        return position >= oldest - 1 or self._log.missed(position, oldest - 1, self._wants) == 0

    def take(self, form: Format, most: int) -> tuple[bytes, int]:
        """Return the next events.

        :param form: how they are carried.
        :param most: how many, at most.
        :return: their blocks, and how many events those are.
        """
        batch = self._cursor.read(max_bytes=MAX_TAKE, max_entries=MAX_LOOK, upto=self._upto, most=most)
        self.gap = batch.gap
        blocks = [self._log.blocks.block(entry, form) for entry in batch.entries
                  if not entry.event.ack or self._unanswered(entry, self._client)]
        return b"".join(blocks), sum(map(bool, blocks))

    def _wants(self, seq: int, name: str | None, target: Target) -> bool:
        return self._client.is_for(seq, target)


def bring_back(hub: Hub, client: Client, session: Session, last: str | None, unanswered: Unanswered) -> Replay | None:
    """Have a session carry a client that another one has carried until now.

    :param hub: where clients are.
    :param client: the client.
    :param session: the session, which has a stream.
    :param last: the id of the last event that the client has; ``None`` if it has none.
    :param unanswered: see :class:`Replay`.
    :return: what the client has missed; ``None`` if not all of it can be had any more, or the client has ended.
    :raises AccessDenied: if the session has ended.
    """
    log, old = hub.log, client.session
    with log.held():
        if session.state is not SessionState.OPEN:
            raise bad_ticket()
        if client.ended or old is None or old is session or old.state is SessionState.ENDED:
            return None
        position, gap = (client.since, None) if last is None else log.resume(last)
        replay = Replay(log, client, max(position, client.since), log.newest, unanswered)
        if gap is not None or not replay.complete:
            return None
        old.change(tuple(item for item in old.clients if item is not client))
        client.session, client.replayed_upto = session, log.newest
        session.change((*session.clients, client))
    hub.sessions.drop(old, even_with_clients=False)
    if not old.clients and old.on_deserted is not None:
        old.on_deserted()
    return replay


def replay_from(hub: Hub, client: Client, last: str, unanswered: Unanswered) -> Replay | None:
    """Give a new client what was emitted to its whole namespace since an event of an earlier process.

    :param hub: where clients are.
    :param client: the client; it was admitted just now.
    :param last: the id of the last event that it has.
    :param unanswered: see :class:`Replay`.
    :return: what it has missed; ``None`` if that is not known, or ``last`` is of this process.
    """
    log = hub.log
    if last.partition("-")[0] == str(log.epoch):
        return None
    with log.held():
        position, gap = log.resume(last)
        if gap is not None or position < log.oldest - 1:
            return None
        client.replayed_upto, client.since = client.since, position
    return Replay(log, client, position, client.replayed_upto, unanswered)
