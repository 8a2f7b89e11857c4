"""Payload: JSON text of what is emitted, and values of what clients send, with ``bytes`` in both."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

from ..errors import EventError

#: JSON text larger than this (bytes) is read by few threads: until it is read, no other thread runs.
LARGE = 128 * 1024

#: How deep what holds ``bytes`` may be nested. A thread that reads it must have that many calls left.
MAX_DEPTH = 200

_BINARY_KEY = re.compile(r"\$+binary\Z")


def payload_text(name: str, args: tuple[Any, ...], default: Callable[[Any], Any] | None = None) -> str:
    """Serialise the arguments of an event.

    ``bytes`` become ``{"$binary": "<base64>"}``; a caller's own key ``$binary`` is escaped as ``$$binary``.

    :param name: the event's name, for the error.
    :param args: the arguments.
    :param default: returns a JSON value for one that is none, or raises ``TypeError``; ``None`` if there is no such.
    :return: JSON text: ``null`` for none, the argument itself for one, an array for several.
    :raises EventError: if they hold what JSON cannot (RFC 8259): other types, NaN, cycles, lone surrogates.
    """
    value = None if not args else args[0] if len(args) == 1 else args
    try:
        try:
            text = _dumps(value)
        except TypeError:
            text = _dumps(_with_binary(value)) if default is None else _dumps_by(default, value)
        else:
            if 'binary":' in text:
                text = _dumps(_with_binary(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError(f"payload of event {name!r} cannot be sent as JSON: {error}; convert it before emit",
                         code="bad_payload") from error
    if not text.isascii():
        refuse_surrogates(text, f"payload of event {name!r}")
    return text


def foreign_text(name: str, args: tuple[Any, ...], dumps: Callable[..., str]) -> str:
    """Serialise like :func:`payload_text`, by a JSON module that a host has chosen.

    :param name: the event's name, for the error.
    :param args: the arguments.
    :param dumps: the module's ``dumps``.
    :return: JSON text.
    :raises EventError: also for what that module writes and JSON does not know (``NaN``, say).
    """
    value = None if not args else args[0] if len(args) == 1 else list(args)
    try:
        text = dumps(_with_binary(value), separators=(",", ":"))
        value = json.loads(text, parse_constant=_refuse_constant)
        plain = _dumps(value) if "\\ud" in text.lower() else text  # escaped surrogates must be pairs, too
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError(f"payload of event {name!r} cannot be sent as JSON: {error}; convert it before emit",
                         code="bad_payload") from error
    refuse_surrogates(plain, f"payload of event {name!r}")
    return text


def restore_binary(value: Any) -> Any:
    """Turn a client's ``{"$binary": "<base64>"}`` into ``bytes``: the inverse of :func:`payload_text`.

    :param value: what a client has sent, parsed.
    :return: the same with ``bytes``.
    :raises EventError: if ``$binary`` does not hold base64, or the value is nested too deeply.
    """
    try:
        return _restored(value)
    except RecursionError:
        raise EventError("the value is nested too deeply", code="bad_payload") from None


def json_safe(value: Any) -> Any:
    """Replace whatever JSON cannot hold by its ``repr``. Never raises, not even for objects whose ``repr`` does.

    A governor's status, for example, may hold live ``Popen`` objects; such a value must not cost the answer. Cycles,
    and what is too deep or too much for a reader, are replaced by a text that says so.

    :param value: anything.
    :return: a value that JSON can hold.
    """
    return _Sanitizer().clean(value, ())


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


_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _dumps_by(default: Callable[[Any], Any], value: Any) -> str:
    """Serialise what holds bytes, or values that ``default`` makes something of; bytes may be in what it returns."""

    def convert(item: Any) -> Any:
        if isinstance(item, (bytes, bytearray, memoryview)):
            return _with_binary(item)
        return _with_binary(default(item))

    return json.dumps(_with_binary(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=convert)


def _with_binary(value: Any, left: int = MAX_DEPTH) -> Any:
    """Copy ``value`` with bytes and ``$binary`` keys put into the form the wire has.

    :raises RecursionError: if it is nested more than ``left`` times.
    """
    if not left:
        raise RecursionError(f"it is nested more than {MAX_DEPTH} times")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$binary": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {("$" + key if isinstance(key, str) and _BINARY_KEY.match(key) else key): _with_binary(item, left - 1)
                for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_binary(item, left - 1) for item in value]
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


def refuse_surrogates(text: str, what: str) -> None:
    """Check that a text can be encoded in UTF-8.

    :param text: the text.
    :param what: names the text at the beginning of the error's message.
    :raises EventError: if it holds a lone surrogate.
    """
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
