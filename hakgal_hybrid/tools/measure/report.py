"""Writing the report: ``report.json``, ``report.md`` and ``report.html``, and the plots beside them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from .document import figure_text
from .plots import draw, image

TEMPLATES = Path(__file__).resolve().parent / "templates"
#: What each plot shows, for those who cannot see it.
CAPTIONS = {
    "latency": "Share of requests answered within a time, before and after, on a logarithmic axis; thick: GET /health, "
               "thin: the other endpoints.",
    "cpu": "CPU of the host's process over its run, in per cent of one core.",
    "lag": "The worst lag of each half second, sampled inside the host's process, on a logarithmic axis.",
    "delivery": "Share of deliveries to live clients within a time, on a logarithmic axis.",
}


def write(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write everything into ``folder``; return the paths of the three files.

    ``report.html`` holds its plots in itself; ``report.md`` refers to those in ``plots/``.

    :param document: the report as JSON values.
    :param folder: where to write.
    :raises ConfigurationError: if matplotlib is not installed; ``report.json`` has been written by then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"report.{kind}" for kind in ("json", "md", "html")]
    _write(paths[0], json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "plots").mkdir(exist_ok=True)
    plots = {}
    for name, figure in draw(document).items():
        for kind in ("svg", "png"):
            (folder / "plots" / f"{name}.{kind}").write_bytes(image(figure, kind))
        plots[name] = base64.b64encode(image(figure, "svg")).decode()
    _write(paths[1], rendered("report.md", document, plots))
    _write(paths[2], rendered("report.html", document, plots))
    return paths


def rendered(name: str, document: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """Return one of the two readable forms.

    :param name: its name.
    :param document: the report as JSON values.
    :param plots: SVG by name, in base64.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=name.endswith(".html"),
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
                                     keep_trailing_newline=True)
    environment.filters.update(figure=figure_text, cell=_cell, endpoint=_endpoint)
    context = {"report": document, "plots": plots, "captions": CAPTIONS, "modes": _modes(document)}
    return environment.get_template(f"{name}.j2").render(context)


def _modes(document: Mapping[str, Any]) -> list[str]:
    return [mode for mode in ("before", "after", "reference") if document["runs"].get(mode)]


def _cell(value: Any) -> str:
    """Return a text that stays in one cell of a Markdown table."""
    return " ".join(str("" if value is None else value).replace("|", "\\|").split())


def _endpoint(summary: Mapping[str, Any], statistic: str) -> str:
    value = summary[statistic]
    return "" if value is None else f"{value:,.1f}"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
