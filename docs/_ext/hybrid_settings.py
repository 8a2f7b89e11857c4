"""The directive ``hybrid-settings``: the table of all settings, made of the fields of ``Settings`` themselves.

:func:`table` needs no Sphinx, so that the tests can read the table without it.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from typing import Any

from hakgal_hybrid.settings import Settings

HEADINGS = ("Environment variable", "`app.config` key", "Default", "Accepted", "Meaning")


def table() -> list[str]:
    """Return the table as lines of Markdown, one row a setting, in the order of the fields."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *map(_row, dataclasses.fields(Settings))]
    return [f"| {' | '.join(row)} |" for row in rows]


def _row(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    env, config = field.metadata["env"], field.metadata["config"]
    in_bytes = field.name.endswith("_bytes")
    return (f"`{env}`", "the same" if env == config else f"`{config}`", _default(field.default, in_bytes),
            _accepted(field.metadata["parse"], in_bytes), field.metadata["doc"])


def _default(value: Any, in_bytes: bool) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, enum.Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return _number(value, in_bytes)


def _accepted(parse: Any, in_bytes: bool) -> str:
    """Say what a parser takes: its bounds if it has some, else what it says itself when it refuses a value."""
    bounds = inspect.getclosurevars(parse).nonlocals
    if {"kind", "low", "high"} <= bounds.keys():
        return f"{bounds['kind']} from {_number(bounds['low'], in_bytes)} to {_number(bounds['high'], in_bytes)}"
    for nonsense in ("\0", object()):
        try:
            parse(nonsense)
        except ValueError as refused:
            return str(refused)
    raise AssertionError(f"{parse!r} accepts anything")


def _number(value: float, in_bytes: bool) -> str:
    text = f"`{value}`"
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if in_bytes and value and value % (1 << power) == 0:
            return f"{text} ({int(value) >> power} {unit})"
    return text


def setup(app: Any) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    from docutils import nodes
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    class HybridSettings(SphinxDirective):
        """Print :func:`table`."""

        def run(self) -> list[nodes.Node]:
            self.env.note_dependency(inspect.getfile(Settings))
            self.env.note_dependency(__file__)
            parent = nodes.Element()
            self.state.nested_parse(StringList(table(), source=__file__), self.content_offset, parent)
            return parent.children

    app.add_directive("hybrid-settings", HybridSettings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
