"""Parsers of values that somebody has written: each returns the value, or says what it accepts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

#: A part of a path that stands in a URL as it is.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")


class Refused(ValueError):
    """Raised by a parser: its text says what is accepted."""


_BOOLEAN_WORDS = {"true": True, "1": True, "yes": True, "on": True,
                  "false": False, "0": False, "no": False, "off": False}


def parse_boolean(value: object) -> bool:
    """Return a boolean that somebody has written.

    :param value: a boolean, or one of the texts ``true``, ``false``, ``1``, ``0``, ``yes``, ``no``, ``on``, ``off``.
    :return: the boolean.
    :raises ValueError: for anything else; its text says what is accepted.
    """
    if isinstance(value, bool):
        return value
    parsed = _BOOLEAN_WORDS.get(value.strip().lower()) if isinstance(value, str) else None
    if parsed is None:
        raise Refused("one of true, false, 1, 0, yes, no, on, off")
    return parsed


def number(low: float, high: float, *, whole: bool = False) -> Callable[[object], Any]:
    """Return a parser of numbers.

    :param low: the smallest number that it accepts.
    :param high: the largest one.
    :param whole: true for whole numbers only.
    """
    kind = "a whole number" if whole else "a number"

    def parse(value: object) -> float | int:
        try:
            text = str(value).strip()
            if isinstance(value, bool) or not text.isascii() or "_" in text:  # Python takes more than others do
                raise ValueError
            parsed = int(text) if whole else float(text)
            if parsed == int(parsed):
                parsed = int(parsed)  # so that 15 is shown as 15, not as 15.0
        except (ValueError, OverflowError):
            raise Refused(f"{kind} from {low:g} to {high:g}") from None
        if not low <= parsed <= high:
            raise Refused(f"{kind} from {low:g} to {high:g}")
        return parsed

    return parse


def count(low: int, high: int) -> Callable[[object], Any]:
    """Return a parser of whole numbers.

    :param low: the smallest number that it accepts.
    :param high: the largest one.
    """
    return number(low, high, whole=True)


def choice(*accepted: str) -> Callable[[object], Any]:
    """Return a parser of words, in any case.

    :param accepted: the words that it accepts.
    """

    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in accepted:
            raise Refused(f"{', '.join(accepted[:-1])} or {accepted[-1]}")
        return word

    return parse


def names(value: object) -> tuple[str, ...]:
    """Return the names of a list.

    :param value: a list or tuple of texts, or one text with commas between the names.
    :raises Refused: for anything else.
    """
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        parts = [str(item).strip() for item in value]
    elif isinstance(value, str):
        parts = [item.strip() for item in value.split(",")]
    else:
        raise Refused("a comma-separated list of names, or an empty string for none")
    return tuple(part for part in parts if part)


def origin_list(value: object) -> tuple[str, ...]:
    """Return the origins of a list, in lower case.

    :param value: as for :func:`names`; ``*`` stands for every origin.
    :raises Refused: if one of them is no origin.
    """
    origins = names(value)
    if not all(origin == "*" or is_origin(origin) for origin in origins):
        raise Refused("a comma-separated list of origins such as https://dash.example:8443, or *")
    return tuple(origin.lower() for origin in origins)


def is_origin(text: str) -> bool:
    """True if a browser could send a text as an ``Origin``.

    :param text: the text.
    """
    try:
        parts = urlsplit(text)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if "*" in (host or ""):  # a pattern, which would never be equal to an origin
        return False
    return parts.scheme in ("http", "https") and bool(host) and text.lower() == f"{parts.scheme}://{host}{port}"


def url_prefix(value: object) -> str:
    """Return a prefix of URLs: it begins with a slash and ends without one; empty for none.

    :param value: the prefix; slashes around it mean nothing.
    :raises Refused: for what is no path, or would have to be escaped in a URL.
    """
    parts = value.strip().strip("/").split("/") if isinstance(value, str) else [".."]
    if parts == [""]:
        return ""
    if not all(_SEGMENT.fullmatch(part) and part.strip(".") for part in parts):
        raise Refused("a path such as /live, of letters, digits and -._~, or an empty string for none")
    return "/" + "/".join(parts)


def key_text(value: object) -> str | None:
    """Return a key, or ``None`` for an empty text.

    :param value: the key.
    :raises Refused: for what no header can carry.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
        raise Refused("printable ASCII text without spaces around it (it travels in the X-API-Key header)")
    return value


def file_path(value: object) -> str | None:
    """Return the path of a file, or ``None`` for an empty text.

    :param value: a path.
    :raises Refused: for what is none.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, (str, os.PathLike)) or "\0" in str(value) or str(value).startswith(":"):
        raise Refused("a path of a file, or an empty string for none")
    return str(value)
