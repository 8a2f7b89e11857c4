"""SharedLog: the interface of a log that several processes append to and read. Pure.

An *id* is ``generation-number``: numbers have no holes, and a new generation begins with an *opening*, which names the
id that the one before had come to. Where no backplane is set, a process has its log to itself
(:class:`~hakgal_hybrid.broker.log.EventLog`), and nothing of this is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

_POSITION = re.compile(r"([0-9]{1,15})-([0-9]{1,18})")


class Position(NamedTuple):
    """The id of an entry of a shared log.

    :ivar generation: the first part; a later generation has a greater one.
    :ivar number: the second part: 1, 2, 3 … in each generation; 0 for its opening.
    """

    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.number}"

    @classmethod
    def parse(cls, text: str | bytes) -> Position:
        """Return the position that an id names.

        :param text: the id.
        :return: the position.
        :raises ValueError: if the text is no id.
        """
        match = _POSITION.fullmatch(text.decode() if isinstance(text, bytes) else text)
        if match is None:
            raise ValueError(f"{text!r} is no id")
        return cls(int(match[1]), int(match[2]))


#: The position before the first entry of any log.
START = Position(0, 0)


class Record(NamedTuple):
    """An entry of a shared log.

    :ivar at: its id.
    :ivar ends: for an opening, the id that the generation before had come to; else ``None``.
    :ivar sender: who has appended it; empty for an opening, and for what is none of ours.
    :ivar q: its number among those of its sender; 0 for none of ours.
    :ivar payload: what it carries; empty if what had this number is lost.
    :ivar lost: how many of the same sender just before it are lost.
    """

    at: Position
    ends: Position | None = None
    sender: str = ""
    q: int = 0
    payload: bytes = b""
    lost: int = 0


class Item(NamedTuple):
    """What a sender appends.

    :ivar q: its number among those of the sender.
    :ivar lost: how many just before it are lost.
    :ivar payload: what it carries; empty if it is lost itself.
    """

    q: int
    lost: int
    payload: bytes


class Append(NamedTuple):
    """One call of :meth:`SharedLog.append`.

    :ivar position: the last id that this process has read.
    :ivar sender: who appends.
    :ivar expect: the number of its last item that the log has acknowledged.
    :ivar previous: the token of the batch with which it was appended.
    :ivar token: the token of this batch. A batch that is sent again has the same one.
    :ivar generation: the generation in which the log has acknowledged that.
    :ivar items: what is appended.
    """

    position: Position
    sender: str
    expect: int
    previous: str
    token: str
    generation: int
    items: Sequence[Item]


class Appended(NamedTuple):
    """The log holds all that was to be appended.

    :ivar at: the newest id of the log.
    """

    at: Position


class Settling(NamedTuple):
    """The log has lost something, and waits for those that have read it to put it back.

    :ivar ms: for how long nothing is appended, in milliseconds.
    :ivar at: the newest id of the log.
    """

    ms: float
    at: Position


class Forgotten(NamedTuple):
    """The log has lost what it had acknowledged to the sender.

    :ivar q: the last number that it has of the sender.
    :ivar token: the token that it has of the sender; empty for any.
    """

    q: int
    token: str


class Twin(NamedTuple):
    """Another process goes by the name of the sender."""


class Order(NamedTuple):
    """A command that some process has given.

    :ivar command: its id.
    :ivar generation: the generation of the log in which it was given.
    :ivar until_ms: until when it may be claimed, by the log's clock: milliseconds since 1970.
    """

    command: str
    generation: int
    until_ms: int


#: What :meth:`SharedLog.claim` answers: run it; it was run or is being run; another process is to run it; never run it.
ClaimAnswer = Literal["go", "had", "other", "stale"]


class Claim(NamedTuple):
    """The answer of :meth:`SharedLog.claim`.

    :ivar answer: what to do.
    :ivar owner: who has claimed it before, with ``had``.
    :ivar term: how many processes had the desk before, with ``go``: a fencing token.
    """

    answer: ClaimAnswer
    owner: str = ""
    term: int = 0


class Said(NamedTuple):
    """What a process says of itself.

    :ivar process: its name.
    :ivar about: JSON; empty if it ends.
    :ivar age_s: how long ago it said so, in seconds.
    """

    process: str
    about: bytes
    age_s: float = 0.0


class Tailed(NamedTuple):
    """What :meth:`SharedLog.tail` returns.

    :ivar records: the entries, in order.
    :ivar messages: what other processes have sent to this one, in order.
    :ivar said: what processes say of themselves, in order.
    """

    records: list[Record]
    messages: list[bytes]
    said: list[Said]


class SharedLog(Protocol):
    """One connection to a shared log, for one thread. Every method may raise :class:`.Away` or :class:`.Misconfigured`.

    A call that raised may have been carried out. It is made again with the same arguments, on a new connection.
    """

    def append(self, call: Append) -> Appended | Settling | Forgotten | Twin:
        """Append items, those that the log has already left out.

        :param call: what is appended, and by whom.
        :return: what became of it.
        """

    def look(self, position: Position) -> Appended | Settling:
        """Look whether the log is still there as a reader knows it; without items, nothing is appended.

        :param position: the last id that the reader has read.
        :return: the state of the log.
        """

    def tail(self, position: Position, block_s: float) -> Tailed:
        """Return what is after a position, and wait for it if there is nothing.

        :param position: the last id that was read.
        :param block_s: how long to wait, in seconds.
        :return: the entries, messages for this process, and what others say of themselves; none if nothing has come.
        """

    def newest(self, count: int) -> list[Record]:
        """Return the newest entries.

        :param count: how many, at most.
        :return: the entries, in order.
        """

    def between(self, after: Position, upto: Position, count: int) -> list[Record]:
        """Return entries from an id on.

        :param after: the first id.
        :param upto: the last id.
        :param count: how many, at most.
        :return: the entries, in order.
        """

    def refill(self, records: Sequence[Record], *, more: bool = False) -> int:
        """Put entries back under their own ids that the log has lost, while it waits for that.

        :param records: the entries, in order; those that it has are left out.
        :param more: true if there are more, which follow at once.
        :return: how many were put back; 0 if it waits no longer, or if they do not follow what it has.
        """

    def claim(self, process: str, order: Order) -> Claim:
        """Claim a command, so that nobody else runs it.

        :param process: the name of this process.
        :param order: the command.
        :return: whether to run it.
        """

    def lease(self, process: str, lease_s: float) -> bool:
        """Take the desk, or keep it: its holder claims commands.

        :param process: the name of this process.
        :param lease_s: for how long, in seconds.
        :return: true if this process has it.
        """

    def to(self, process: str, message: bytes) -> bool:
        """Send a message to one process, at most once.

        :param process: the name of the process.
        :param message: the message.
        :return: false if there is no such process (any more).
        """

    def here(self, about: str, seconds: float) -> int:
        """Say that this process is there, to those that are and to those that come.

        :param about: what is to be known of it, JSON.
        :param seconds: for how long; 0 if it ends.
        :return: the time by the log's clock, in milliseconds since 1970.
        """

    def trim(self) -> None:
        """Drop what is more than the log is to hold."""

    def close(self) -> None:
        """Close the connection."""
