"""RedisLog: a shared log that is a Redis Stream, over one connection."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import redis
from redis.exceptions import NoScriptError, RedisError

from ...broker.backplane.faults import Away
from ...broker.backplane.shared_log import (
    Append,
    Appended,
    Claim,
    Forgotten,
    Order,
    Position,
    Record,
    Said,
    Settling,
    Tailed,
    Twin,
)
from .cursors import Cursor, time_of
from .inbox import Inbox
from .redis_faults import WRONG_APP, WRONG_VERSION, fault_of, misconfigured
from .scripts import APPEND, CLAIM, LEASE, REFILL, Script

#: How long the log takes nothing after it was cut, in milliseconds.
SETTLE_MS = 2000
#: How long a sender's record, and the claim of a command, is kept, in milliseconds.
RECORD_MS = 24 * 3600 * 1000
#: How many messages for one process are kept, about, and for how long (milliseconds).
TO_LENGTH, TO_MS = 1000, 60_000
#: How many signs of life of all processes are kept, about, and for how long (milliseconds). A sign of life counts for
#: thirty seconds, in which a thousand processes give three thousand of them.
HERE_LENGTH, HERE_MS = 3000, 60_000
#: How many entries one call of XREAD returns, at most.
READ_COUNT = 512

#: Seconds between two questions whether the log is elsewhere by now.
MOVED_EACH_S = 10.0

Answer = TypeVar("Answer")
Moved = Callable[[], bool]


class LogOptions(NamedTuple):
    """What all connections of one process to its log have in common.

    :ivar name: the name of the log: what its keys begin with, in braces.
    :ivar app: which application it is; another one must not use the same log. Empty for an emitter.
    :ivar process: the name of this process, by which others send it messages; empty for none.
    :ivar max_events: how many entries the log keeps, about.
    :ivar settle_ms: how long it takes nothing after it was cut, in milliseconds.
    """

    name: str
    app: str = ""
    process: str = ""
    max_events: int = 10_000
    settle_ms: int = SETTLE_MS


class RedisLog:
    """One connection; see :class:`~hakgal_hybrid.broker.backplane.shared_log.SharedLog` for what it does.

    :param client: the connection, which is this log's own.
    :param options: which log it is.
    :param moved: returns true if the log is elsewhere by now; a server that was replaced may go on answering.
    :param inbox: what was taken by connections before this one.
    """

    def __init__(self, client: redis.Redis, options: LogOptions, moved: Moved | None = None,
                 inbox: Inbox | None = None) -> None:
        self._client, self._options, self._moved, self._inbox = client, options, moved, inbox or Inbox()
        self._asked_at = time.monotonic()
        self._log, self._meta, self._desk, self._record, self._claim, self._to, self._here, self._said = (
            f"{{{options.name}}}:{key}" for key in ("log", "meta", "desk", "q:", "claim:", "to:", "here:", "here"))
        self._read_to = Cursor()

    def append(self, call: Append) -> Appended | Settling | Forgotten | Twin:
        """Append items, those that the log has already left out.

        :param call: what is appended, and by whom.
        :return: what became of it.
        """
        options = self._options
        self._stay_with_the_log()
        arguments: list[Any] = [
            *call.position, options.settle_ms, secrets.randbelow(100), options.max_events, RECORD_MS, call.sender,
            call.expect, call.previous, call.token, call.generation, options.app]
        for item in call.items:
            arguments += item
        kind, *rest = self._run(APPEND, [self._log, self._meta, self._record + (call.sender or "-")], arguments)
        if kind == b"OK":
            return Appended(Position.parse(rest[0]))
        if kind == b"SETTLE":
            return Settling(float(rest[0]), Position.parse(rest[1]))
        if kind == b"LOST":
            return Forgotten(int(rest[0]), rest[1].decode())
        if kind == b"TWIN":
            return Twin()
        raise misconfigured(WRONG_VERSION if rest[0] == b"v" else WRONG_APP, options.name, rest[1].decode())

    def _stay_with_the_log(self) -> None:
        if self._moved is not None and time.monotonic() >= self._asked_at + MOVED_EACH_S:
            self._asked_at = time.monotonic()
            if self._call(self._moved):
                raise Away("the Sentinels name another server now")

    def look(self, position: Position) -> Appended | Settling:
        """Look whether the log is still there as a reader knows it; nothing is appended.

        :param position: the last id that the reader has read.
        :return: the state of the log.
        """
        return cast("Appended | Settling", self.append(Append(position, "", 0, "", "", 0, ())))

    def tail(self, position: Position, block_s: float) -> Tailed:
        """Return what is after a position, and wait for it if there is nothing.

        :param position: the last id that was read.
        :param block_s: how long to wait, in seconds.
        :return: the entries, messages for this process, and what others say of themselves.
        """
        streams, cursor = {self._log: str(position)}, self._inbox.said
        own = self._to + self._options.process
        if self._options.process:
            streams[own] = self._read_to.at or "0-0"
        if cursor.at:
            streams[self._said] = cursor.at
        got = self._call(lambda: self._client.xread(cast(Any, streams), count=READ_COUNT,
                                                    block=max(1, round(block_s * 1000))))
        records, messages, said = list[Record](), list[bytes](), list[Said]()
        for key, entries in cast("Iterable[tuple[bytes, list[tuple[bytes, Any]]]]", got or ()):
            if key.decode() == own:
                self._read_to.at = entries[-1][0].decode()
                messages = self._inbox.take(entries)
            elif key.decode() == self._said:
                cursor.at = entries[-1][0].decode()
                said = [Said(fields[b"s"].decode(), fields[b"p"], max(0, cursor.now - time_of(at.decode())) / 1000)
                        for at, fields in entries if fields and b"s" in fields and b"p" in fields]
            else:
                records = _records(entries)
        return Tailed(records, messages, said)

    def newest(self, count: int) -> list[Record]:
        """Return the newest entries.

        :param count: how many, at most.
        :return: the entries, in order.
        """
        entries = self._call(lambda: self._client.xrevrange(self._log, count=max(1, count)))
        return _records(reversed(cast("list[tuple[bytes, Any]]", entries)))

    def between(self, after: Position, upto: Position, count: int) -> list[Record]:
        """Return entries from an id on.

        :param after: the first id.
        :param upto: the last id.
        :param count: how many, at most.
        :return: the entries, in order.
        """
        entries = self._call(lambda: self._client.xrange(self._log, str(after), str(upto), count=count))
        return _records(cast("list[tuple[bytes, Any]]", entries))

    def refill(self, records: Sequence[Record], *, more: bool = False) -> int:
        """Put entries back under their own ids that the log has lost, while it waits for that.

        :param records: the entries, in order; those that it has are left out.
        :param more: true if there are more, which follow at once.
        :return: how many were put back.
        """
        arguments: list[Any] = [int(more), 0, self._options.settle_ms, RECORD_MS]
        keys: dict[str, int] = {}
        for record in records:
            opening = record.ends is not None
            key = 0 if opening else keys.setdefault(record.sender, len(keys) + 3)
            arguments += [str(record.at), key, str(record.ends) if opening else "", record.sender, record.q,
                          record.lost, record.payload]
        kind, *rest = self._run(REFILL, [self._log, self._meta, *(self._record + sender for sender in keys)],
                                arguments)
        return int(rest[1]) if kind == b"OK" else 0

    def claim(self, process: str, order: Order) -> Claim:
        """Claim a command, so that nobody else runs it.

        :param process: the name of this process.
        :param order: the command.
        :return: whether to run it.
        """
        return _claim(self._run(CLAIM, [self._meta, self._desk, self._claim + order.command],
                                [process, order.generation, order.until_ms]))

    def lease(self, process: str, lease_s: float) -> bool:
        """Take the desk, or keep it: its holder claims commands.

        :param process: the name of this process.
        :param lease_s: for how long, in seconds.
        :return: true if this process has it.
        """
        answer = self._run(LEASE, [self._meta, self._desk], [process, max(1, round(lease_s * 1000))])
        return bool(answer[0] == b"MINE")

    def to(self, process: str, message: bytes) -> bool:
        """Send a message to one process, at most once.

        :param process: the name of the process.
        :param message: the message.
        :return: false if there is no such process (any more).
        """
        if not self._call(lambda: self._client.exists(self._here + process)):
            return False
        key = self._to + process
        self._call(lambda: self._client.xadd(key, {"p": message}, maxlen=TO_LENGTH, approximate=True))
        self._call(lambda: self._client.pexpire(key, TO_MS))
        return True

    def here(self, about: str, seconds: float) -> int:
        """Say that this process is there, to those that are and to those that come.

        :param about: what is to be known of it, JSON.
        :param seconds: for how long; 0 if it ends.
        :return: the time by the clock of Redis, in milliseconds since 1970.
        """
        process, alive_ms = self._options.process, round(seconds * 1000)
        self._call(lambda: self._client.set(self._here + process, about, px=max(1, alive_ms)))
        at = self._call(lambda: self._client.xadd(self._said, {"s": process, "p": about if alive_ms else ""},
                                                  maxlen=HERE_LENGTH, approximate=True))
        self._call(lambda: self._client.pexpire(self._said, HERE_MS))
        now = time_of(cast(bytes, at).decode())
        self._inbox.said.moved(now, alive_ms)
        self._read_to.moved(now, now)
        return now

    def trim(self) -> None:
        """Drop what is more than the log is to hold."""
        self._call(lambda: self._client.xtrim(self._log, maxlen=self._options.max_events, approximate=False))

    def close(self) -> None:
        """Close the connection."""
        try:
            self._client.close()
        except (RedisError, OSError):
            pass

    def _run(self, script: Script, keys: list[str], arguments: list[Any]) -> list[Any]:
        def run() -> Any:
            try:
                return self._client.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return self._client.eval(script.text, len(keys), *keys, *arguments)

        return cast("list[Any]", self._call(run))

    def _call(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except (RedisError, OSError) as error:
            raise fault_of(error, self._options.name) from error


def _records(entries: Iterable[tuple[bytes, Any]]) -> list[Record]:
    return [_record(_position(at), fields or {}) for at, fields in entries]


def _claim(answer: list[Any]) -> Claim:
    kind, *rest = answer
    if kind == b"GO":
        return Claim("go", term=int(rest[0]))
    if kind == b"HAD":
        return Claim("had", owner=rest[0].decode().partition(" ")[0])
    return Claim("other" if kind == b"OTHER" else "stale")


def _position(at: bytes) -> Position:
    generation, _, number = at.partition(b"-")
    return Position(int(generation), int(number))


def _record(at: Position, fields: dict[bytes, bytes]) -> Record:
    try:
        if b"o" in fields:
            return Record(at, ends=Position.parse(fields[b"o"]))
        return Record(at, None, fields[b"s"].decode(), int(fields[b"q"]), fields[b"p"], int(fields.get(b"l", 0)))
    except (KeyError, ValueError):  # none of ours
        return Record(at)
