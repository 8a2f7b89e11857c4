"""Event: what happened, for whom. Validated and turned into JSON where it is made, in the caller's traceback."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import EventError

#: Names that begin so are the protocol's own (``hybrid_open``, ``hybrid_gap``, …).
RESERVED_PREFIX = "hybrid_"
MAX_NAME = 256
#: A namespace that no client has, and every client gets: for the protocol's own events.
EVERYWHERE = "*"

_BINARY_KEY = re.compile(r"\$+binary\Z")
_LINE_BREAKERS = re.compile(r"[\r\n\x00]")


class Target(NamedTuple):
    """For whom an event is: a namespace, in it everybody (``rooms=None``) or some rooms, less some clients.

    Every client is alone in a room named by its ``sid``, as in Flask-SocketIO, so one ``sid`` is a room too.
    """

    namespace: str = "/"
    rooms: frozenset[Hashable] | None = None
    skip: frozenset[Hashable] = frozenset()

    @property
    def everybody(self) -> bool:
        """True if every client of the default namespace gets it."""
        return self.rooms is None and not self.skip and self.namespace == "/"


EVERYBODY = Target()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    :ivar name: the event's name, one line of text.
    :ivar data: its arguments as JSON text: ``null`` for none, the argument itself for one, an array for several.
    :ivar count: how many arguments there were (an array of one argument that is a list looks like several).
    :ivar target: for whom.
    :ivar ack: under which id a client that got it may acknowledge it; ``None`` if nobody asked for that.
    """

    name: str
    data: str
    count: int = 0
    target: Target = EVERYBODY
    ack: str | None = None

    @classmethod
    def create(
        cls,
        name: str,
        args: tuple[Any, ...] = (),
        *,
        namespace: str | None = None,
        to: Hashable | Iterable[Hashable] = None,
        skip: Hashable | Iterable[Hashable] = None,
        ack: str | None = None,
        dumps: Callable[..., str] | None = None,
    ) -> Event:
        """Validate and serialise an event.

        :param args: the positional arguments, each made of JSON values and ``bytes``.
        :param to: a room, a ``sid``, or several; ``None`` or ``"/"`` mean the whole namespace.
        :param skip: a ``sid`` or several that must not get it.
        :param dumps: the ``dumps`` of another JSON module than the standard library's.
        :raises EventError: if the name cannot stand in a stream or the payload cannot be sent as JSON.
        """
        target = EVERYBODY
        if to is not None or skip or (namespace and namespace != "/"):
            target = _target(namespace, to, skip)
        if type(name) is not str or name not in _good_names:
            name = _remembered(checked_name(name))
        text = payload_text(name, args) if dumps is None else foreign_text(name, args, dumps)
        # What the constructor of a frozen dataclass does, in half the time.
        event = _new(cls)
        _set_name(event, name)
        _set_data(event, text)
        _set_count(event, len(args))
        _set_target(event, target)
        _set_ack(event, ack)
        return event

    @property
    def args_text(self) -> str:
        """The arguments as the JSON array that envelopes carry."""
        if self.count > 1:
            return self.data
        return f"[{self.data}]" if self.count else "[]"


_new = object.__new__
_set_name, _set_data, _set_count, _set_target, _set_ack = (
    vars(Event)[field].__set__ for field in ("name", "data", "count", "target", "ack"))

#: Names that have been emitted, so they are good: a host has few, and emits each of them again and again.
_good_names: set[str] = set()
_NAMES_REMEMBERED = 4096


def checked_name(name: object) -> str:
    """Return ``name``, as plain text, if it can be an event's name.

    :raises EventError: if it is no text, empty, too long, holds CR, LF, NUL or a lone surrogate, or is reserved.
    """
    if isinstance(name, str):
        name = str.__str__(name)  # of a subclass (an Enum's member) its text, not what it is formatted as
    if not isinstance(name, str) or not name or len(name) > MAX_NAME:
        raise EventError(f"event name {name!r:.80} is not a text of 1 to {MAX_NAME} characters", code="bad_event_name")
    if name.startswith(RESERVED_PREFIX):
        raise EventError(f"event name {name!r}: names beginning with {RESERVED_PREFIX!r} are reserved for the protocol",
                         code="bad_event_name")
    if _LINE_BREAKERS.search(name):
        raise EventError(f"event name {name!r} holds CR, LF or NUL, which end a field of an event stream",
                         code="bad_event_name")
    _refuse_surrogates(name, f"event name {name!r}")
    return name


def _remembered(name: str) -> str:
    if len(_good_names) >= _NAMES_REMEMBERED:
        _good_names.clear()
    _good_names.add(name)
    return name


def payload_text(name: str, args: tuple[Any, ...]) -> str:
    """Serialise the arguments of an event named ``name``: ``null``, the only one, or an array of several.

    ``bytes`` become ``{"$binary": "<base64>"}``; a caller's own key ``$binary`` is escaped as ``$$binary``.

    :raises EventError: if they hold what JSON cannot (RFC 8259): other types, NaN, cycles, lone surrogates.
    """
    value = None if not args else args[0] if len(args) == 1 else args
    try:
        try:
            text = _dumps(value)
        except TypeError:
            text = _dumps(_with_binary(value))
        else:
            if 'binary":' in text:
                text = _dumps(_with_binary(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError(f"payload of event {name!r} cannot be sent as JSON: {error}; convert it before emit",
                         code="bad_payload") from error
    if not text.isascii():
        _refuse_surrogates(text, f"payload of event {name!r}")
    return text


def foreign_text(name: str, args: tuple[Any, ...], dumps: Callable[..., str]) -> str:
    """Serialise like :func:`payload_text`, by the ``dumps`` of a JSON module that a host has chosen.

    :raises EventError: also for what that module writes and JSON does not know (``NaN``, say).
    """
    value = None if not args else args[0] if len(args) == 1 else list(args)
    try:
        text = dumps(_with_binary(value), separators=(",", ":"))
        json.loads(text, parse_constant=_refuse_constant)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError(f"payload of event {name!r} cannot be sent as JSON: {error}; convert it before emit",
                         code="bad_payload") from error
    _refuse_surrogates(text, f"payload of event {name!r}")
    return text


def restore_binary(value: Any) -> Any:
    """Turn what a client sent back into Python values: the inverse of what :func:`payload_text` does to ``bytes``.

    :raises EventError: if ``$binary`` does not hold base64, or the value is nested too deeply.
    """
    try:
        return _restored(value)
    except RecursionError:
        raise EventError("the value is nested too deeply", code="bad_payload") from None


def json_safe(value: Any) -> Any:
    """Return ``value`` with everything JSON cannot hold replaced by its ``repr``.

    For what others report about themselves (a governor's status may hold live ``Popen`` objects): a strange value
    must not cost the answer. Never raises, not even for objects whose ``repr`` does; cycles and what lies deeper or
    is more than anybody would read are left out, visibly.
    """
    return _Sanitizer().clean(value, ())


def glob_matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate that is true for names matching one of ``patterns``, in which ``*`` stands for anything.

    It takes linear time, whatever the patterns: they may be a client's.
    """
    exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
    globs = [pattern.split("*") for pattern in patterns if "*" in pattern]
    if not globs:  # as by default; it is asked for every event
        return exact.__contains__
    return lambda name: name in exact or any(_matches(parts, name) for parts in globs)


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


class _Sanitizer:
    """Makes one value safe for JSON, within a budget."""

    max_depth = 20
    max_values = 100_000

    def __init__(self) -> None:
        self._left = self.max_values

    def clean(self, value: Any, parents: tuple[int, ...]) -> Any:
        self._left -= 1
        if self._left < 0:
            return "<left out: too much>"
        try:
            return self._cleaned(value, parents)
        except Exception:  # a subclass of dict or str may raise anywhere; the answer must still go out
            return _safe_repr(value)

    def _cleaned(self, value: Any, parents: tuple[int, ...]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and value.bit_length() <= 1024:
            return int(value)
        if isinstance(value, str):
            return str.__str__(value).encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, float) and value - value == 0:
            return float(value)
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return _safe_repr(value)
        if id(value) in parents or len(parents) >= self.max_depth:
            return "<left out: a cycle>" if id(value) in parents else "<left out: too deep>"
        parents = (*parents, id(value))
        if isinstance(value, dict):
            return {_safe_key(key): self.clean(item, parents) for key, item in list(value.items())}
        return [self.clean(item, parents) for item in list(value)]


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_no_form, _quoted = _encoder.default, json.encoder.encode_basestring
_new_encoder = getattr(json.encoder, "c_make_encoder", None)


def _dumps(value: Any) -> str:
    if _new_encoder is None:
        return _encoder.encode(value)
    # What ``_encoder.encode`` does, without what it does around that; the dict is how cycles are noticed.
    return "".join(_new_encoder({}, _no_form, _quoted, None, ":", ",", False, False, False)(value, 0))


def _with_binary(value: Any) -> Any:
    """Copy ``value`` with bytes and ``$binary`` keys put into the form the wire has."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$binary": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {("$" + key if isinstance(key, str) and _BINARY_KEY.match(key) else key): _with_binary(item)
                for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_binary(item) for item in value]
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$binary"}:
        try:
            return base64.b64decode(value["$binary"], validate=True)
        except (TypeError, ValueError):
            raise EventError("the value of $binary is not base64 text", code="bad_payload") from None
    return {(key[1:] if key.startswith("$$") and _BINARY_KEY.match(key) else key): _restored(item)
            for key, item in value.items()}


def _rooms(names: Hashable | Iterable[Hashable]) -> frozenset[Hashable] | None:
    if names is None or names == "/":
        return None
    try:
        rooms = frozenset(names if isinstance(names, (list, tuple, set, frozenset)) else (names,))
    except TypeError:
        raise EventError(f"{names!r:.80} is neither a room nor several rooms", code="bad_room") from None
    return None if "/" in rooms else rooms


def _target(namespace: str | None, to: Hashable | Iterable[Hashable], skip: Hashable | Iterable[Hashable]) -> Target:
    place, rooms = _checked_namespace(namespace), _rooms(to)
    if not skip and rooms is None and place == "/":
        return EVERYBODY
    return Target(place, rooms, _rooms(skip) or frozenset())


def _checked_namespace(namespace: str | None) -> str:
    if not namespace or namespace == "/":
        return "/"
    if not isinstance(namespace, str) or not namespace.startswith("/"):
        raise EventError(f"namespace {namespace!r} does not begin with '/'", code="bad_namespace")
    _refuse_surrogates(namespace, f"namespace {namespace!r}")
    return namespace


def _refuse_surrogates(text: str, what: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise EventError(f"{what} holds a lone surrogate at position {error.start}, which UTF-8 cannot carry",
                             code="bad_payload") from None


def _safe_key(key: object) -> str:
    return str(json_safe(key)) if isinstance(key, (str, int, float)) else _safe_repr(key)


def _safe_repr(value: object) -> str:
    try:
        return repr(value).encode("utf-8", "replace").decode("utf-8")
    except Exception as error:  # a repr may raise anything; the answer must still go out
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
