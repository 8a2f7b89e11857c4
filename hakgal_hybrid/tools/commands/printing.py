"""How values are printed: as JSON, with nothing in it that a terminal would obey."""

from __future__ import annotations

import json
from typing import Any


def shown(value: Any) -> str:
    """JSON on one line, readable: letters of every script as they are, whatever a terminal might obey escaped.

    :param value: any JSON value.
    """
    return harmless(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def harmless(text: str) -> str:
    """``text`` without control characters, which could be meant for the terminal and not for who reads.

    :param text: what is to be printed.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xd800 + (code >> 10):04x}\\u{0xdc00 + (code & 0x3ff):04x}"


def pretty(value: Any) -> str:
    """JSON over several lines.

    :param value: any JSON value.
    """
    return "\n".join(map(harmless, json.dumps(value, ensure_ascii=False, indent=2).split("\n")))
