"""Snapshots as text."""

from __future__ import annotations

import json
from typing import Any


def _scalar(value: Any) -> str:
    """JSON, with what YAML does not let stand as it is (control characters, line separators) escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() or ord(char) > 0xffff else f"\\u{ord(char):04x}" for char in text)


def _read_yaml(text: str) -> dict[str, Any]:
    """Read the YAML that :meth:`Snapshot.to_yaml` writes: a map of JSON values and of maps of them."""
    document: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith("  "):
            key, end = json.JSONDecoder().raw_decode(line.strip())
            inner[key] = json.loads(line.strip()[end:].removeprefix(":"))
            continue
        name, _, value = line.partition(":")
        if value.strip():
            document[name] = json.loads(value)
        else:
            document[name] = inner = {}
    return document
