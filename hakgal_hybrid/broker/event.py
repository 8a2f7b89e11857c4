"""Event: what happened, for whom. Validated and turned into JSON where it is made, in the caller's traceback."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import EventError
from .markup import LINE_BREAKERS, Html, html_text, is_html
from .payload import payload_text, refuse_surrogates

#: Names that begin so are the protocol's own (``hybrid_open``, ``hybrid_gap``, …).
RESERVED_PREFIX = "hybrid_"
MAX_NAME = 256
#: A namespace that no client has, and every client gets: for the protocol's own events.
EVERYWHERE = "*"


class Target(NamedTuple):
    """For whom an event is: all clients of a namespace, or those in some rooms; without those that are skipped.

    Every client is alone in a room named by its ``sid``, as in Flask-SocketIO, so one ``sid`` is a room too.

    :ivar namespace: the namespace; it begins with ``/``, or is :data:`EVERYWHERE`.
    :ivar rooms: the rooms; ``None`` means every client of the namespace.
    :ivar skip: the ``sid`` of each client that does not get it.
    """

    namespace: str = "/"
    rooms: frozenset[Hashable] | None = None
    skip: frozenset[Hashable] = frozenset()

    @classmethod
    def create(cls, namespace: str | None = None, to: Hashable | Iterable[Hashable] = None,
               skip: Hashable | Iterable[Hashable] = None) -> Target:
        """Make a target of what an emitter names.

        :param namespace: a namespace; ``None`` and ``""`` mean ``/``.
        :param to: a room, a ``sid``, or a list, tuple or set of them; ``None`` and ``"/"`` mean the whole namespace.
        :param skip: a ``sid``, or a list, tuple or set of them.
        :return: the target; always the same object, :data:`EVERYBODY`, for every client of the default namespace.
        :raises EventError: if the namespace does not begin with ``/``, or a room cannot be one.
        """
        if to is None and not skip and (not namespace or namespace == "/"):
            return EVERYBODY
        target = cls(_checked_namespace(namespace), _rooms(to), (_rooms(skip) if skip else None) or frozenset())
        return EVERYBODY if target == EVERYBODY else target

    @property
    def everybody(self) -> bool:
        """True if every client of the default namespace gets it."""
        return self.rooms is None and not self.skip and self.namespace == "/"


EVERYBODY = Target()
#: The ``ack`` of what stands in the log and is no event.
MARKER = ""


class Event(NamedTuple):
    """One thing that happened.

    :ivar name: the event's name, one line of text.
    :ivar data: its arguments as JSON text: ``null`` for none, the argument itself for one, an array for several.
    :ivar arg_count: how many arguments there were (an array of one argument that is a list looks like several).
    :ivar target: for whom it is.
    :ivar ack: the id under which clients acknowledge it; ``None`` if its emitter does not want to know.
    :ivar html: ``None`` if the payload is JSON. If it is HTML: where Datastar puts it, see :attr:`.Html.placement`.
    """

    name: str
    data: str
    arg_count: int = 0
    target: Target = EVERYBODY
    ack: str | None = None
    html: str | None = None

    @classmethod
    def create(cls, name: str, args: tuple[Any, ...] = (), target: Target = EVERYBODY, *, ack: str | None = None,
               encode: Callable[[str, tuple[Any, ...]], str] = payload_text) -> Event:
        """Validate and serialise an event.

        :param name: one line of text, of 1 to 256 characters.
        :param args: the positional arguments, each made of JSON values and ``bytes``; or one that is HTML, which has
            ``__html__``.
        :param target: for whom it is.
        :param ack: the id under which clients acknowledge it.
        :param encode: returns the JSON text of an event of this name with these arguments.
        :return: the event.
        :raises EventError: if the name cannot stand in a stream or the payload cannot be sent as JSON.
        """
        name = checked_name(name)
        if len(args) != 1 or not is_html(args[0]):
            return cls(name, encode(name, args), len(args), target, ack)
        placement = args[0].placement if isinstance(args[0], Html) else ""
        return cls(name, encode(name, (html_text(args[0]),)), 1, target, ack, placement)

    @property
    def args_text(self) -> str:
        """The arguments as the JSON array that envelopes carry."""
        if self.arg_count > 1:
            return self.data
        return f"[{self.data}]" if self.arg_count else "[]"


def is_marker(event: Event) -> bool:
    """True for what stands in the log and is no event: a loss, say.

    :param event: what stands there.
    """
    return event.ack == MARKER


def checked_name(name: object) -> str:
    """Return ``name`` as plain text if it can be an event's name.

    :param name: the name that an emitter or a client gave.
    :return: the same text, of the class ``str``.
    :raises EventError: if it is no text, empty, too long, holds CR, LF, NUL or a lone surrogate, or is reserved.
    """
    if isinstance(name, str):  # of a subclass (an Enum's member) its text, not what it is formatted as
        return _checked_text(str.__str__(name))
    raise _no_name(name)


@lru_cache(maxsize=1024)  # a host has few, and emits each of them again and again
def _checked_text(name: str) -> str:
    if not name or len(name) > MAX_NAME:
        raise _no_name(name)
    if name.startswith(RESERVED_PREFIX):
        raise EventError(f"event name {name!r}: names beginning with {RESERVED_PREFIX!r} are reserved for the protocol",
                         code="bad_event_name")
    if LINE_BREAKERS.search(name):
        raise EventError(f"event name {name!r} holds CR, LF or NUL, which end a field of an event stream",
                         code="bad_event_name")
    refuse_surrogates(name, f"event name {name!r}")
    return name


def _no_name(name: object) -> EventError:
    return EventError(f"event name {name!r:.80} is not a text of 1 to {MAX_NAME} characters", code="bad_event_name")


#: Of how many names a matcher remembers whether they match.
_REMEMBERED = 64


def glob_matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate that is true for names that match one of some patterns.

    It takes linear time, whatever the patterns are: a client may have written them. What it found of the last names is
    remembered, because few names come again and again, and every stream may have patterns of its own.

    :param patterns: names in which ``*`` stands for any text.
    :return: a function of a name.
    """
    exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
    globs = [pattern.split("*") for pattern in patterns if "*" in pattern]
    if not globs:  # the default, and the predicate is called for every event
        return exact.__contains__
    known: dict[str, bool] = {}

    def matches(name: str) -> bool:
        found = known.get(name)
        if found is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[name] = name in exact or any(_matches(parts, name) for parts in globs)
        return found

    return matches


def _matches(parts: list[str], name: str) -> bool:
    first, *middle, last = parts
    position, end = len(first), len(name) - len(last)
    if end < position or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        position = name.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def is_namespace(text: object) -> bool:
    """True if a client may name a namespace so.

    :param text: what it sent.
    """
    return (isinstance(text, str) and text.startswith("/") and len(text) <= MAX_NAME
            and text.isprintable())  # which lone surrogates are not


def _rooms(names: Hashable | Iterable[Hashable]) -> frozenset[Hashable] | None:
    if names is None or names == "/":
        return None
    try:
        rooms = frozenset(names if isinstance(names, (list, tuple, set, frozenset)) else (names,))
    except TypeError:
        raise EventError(f"{names!r:.80} is neither a room nor several rooms", code="bad_room") from None
    return None if "/" in rooms else rooms


def _checked_namespace(namespace: str | None) -> str:
    if not namespace or namespace == "/":
        return "/"
    if not isinstance(namespace, str) or not namespace.startswith("/"):
        raise EventError(f"namespace {namespace!r} does not begin with '/'", code="bad_namespace")
    refuse_surrogates(namespace, f"namespace {namespace!r}")
    return namespace
