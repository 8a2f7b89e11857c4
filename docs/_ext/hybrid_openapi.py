"""The directive ``hybrid-openapi``: the OpenAPI document of the package as readable text.

:func:`text` needs no Sphinx, so that the tests can read it without it.
"""

from __future__ import annotations

import inspect
from typing import Any

from hakgal_hybrid.web import openapi


def text() -> list[str]:
    """Return the document as lines of Markdown, a section for each operation."""
    lines: list[str] = []
    for url, item in openapi.document()["paths"].items():
        for method, operation in item.items():
            lines += [f"## {method.upper()} {url}", "", operation["summary"] + ". " + _security(operation), ""]
            lines += _parameters(operation) + _body(operation) + _responses(operation)
    return lines


def _security(operation: dict[str, Any]) -> str:
    optional = {} in operation["security"]
    return "Needs the key only from other machines." if optional else "Needs the key, where one is set."


def _table(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    table = [headings, ("---",) * len(headings), *rows]
    return [f"**{title}**", "", *(f"| {' | '.join(row)} |" for row in table), ""]


def _parameters(operation: dict[str, Any]) -> list[str]:
    rows = [(f"`{item['name']}`", item["in"], _kind(item["schema"]), item["description"])
            for item in operation.get("parameters", [])]
    return _table("Parameters", ("Name", "In", "Type", "Meaning"), rows)


def _body(operation: dict[str, Any]) -> list[str]:
    if "requestBody" not in operation:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    rows = [(f"`{name}`", _kind(kind), "yes" if name in schema["required"] else "")
            for name, kind in schema["properties"].items()]
    return _table("Body: a JSON object", ("Member", "Type", "Needed"), rows)


def _responses(operation: dict[str, Any]) -> list[str]:
    shared = openapi.document()["components"]["responses"]
    rows = []
    for status, response in operation["responses"].items():
        known = shared[response["$ref"].rsplit("/", 1)[1]] if "$ref" in response else response
        rows.append((f"`{status}`", known["description"], ", ".join(f"`{name}`" for name in known.get("content", {}))))
    return _table("Answers", ("Status", "Meaning", "Content type"), rows)


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "anything")
    return " or ".join(kind) if isinstance(kind, list) else kind


def setup(app: Any) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    from docutils import nodes
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    class HybridOpenapi(SphinxDirective):
        """Print :func:`text`."""

        def run(self) -> list[nodes.Node]:
            self.env.note_dependency(inspect.getfile(openapi))
            self.env.note_dependency(__file__)
            parent = nodes.Element()
            self.state.nested_parse(StringList(text(), source=__file__), self.content_offset, parent, match_titles=True)
            return parent.children

    app.add_directive("hybrid-openapi", HybridOpenapi)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
