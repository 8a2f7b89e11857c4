"""What the terminal shows: progress bars while it runs, tables when it is done."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .document import figure_text
from .extras import need

_COLOURS = {"met": "green", "missed": "bold red", "not measured": "yellow",
            "does not apply": "dim"}


class Bars:
    """A bar for the phase that runs; where there is no terminal, a line for each phase.

    :param console: of rich.
    :param progress: of rich; ``None`` where there is no terminal.
    """

    def __init__(self, console: Any, progress: Any) -> None:
        self._console, self._progress = console, progress
        self._task: Any = None
        self._lock = threading.Lock()

    def phase(self, mode: str, name: str, total: float) -> None:
        """Begin a phase.

        :param mode: ``before``, ``after`` or ``reference``.
        :param name: its name.
        :param total: how many steps it has.
        """
        if self._progress is None:
            self._console.print(f"{mode}: {name}")
            return
        if self._task is not None:
            self._progress.update(self._task, completed=self._progress.tasks[-1].total)
        self._task = self._progress.add_task(f"{mode}: {name}", total=total)

    def step(self, steps: float = 1) -> None:
        """Count steps of the phase; from any thread.

        :param steps: how many.
        """
        with self._lock:
            if self._task is not None:
                self._progress.advance(self._task, steps)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress on standard error while the block runs."""
    rich_console, rich_progress = (need(f"rich.{name}", "show progress") for name in ("console", "progress"))
    console = rich_console.Console(stderr=True)
    if not console.is_terminal:
        yield Bars(console, None)
        return
    columns = [rich_progress.TextColumn("{task.description:>20}"), rich_progress.BarColumn(40),
               rich_progress.TaskProgressColumn(), rich_progress.TimeElapsedColumn()]
    with rich_progress.Progress(*columns, console=console) as progress:
        yield Bars(console, progress)


def show(document: Mapping[str, Any]) -> None:
    """Print the results, the targets and the validation list to standard output.

    :param document: the report as JSON values.
    """
    console = need("rich.console", "print tables").Console(
        width=None if sys.stdout.isatty() else 150, highlight=False, markup=False, safe_box=True)
    modes = [mode for mode in ("before", "after", "reference") if document["runs"].get(mode)]
    if modes:
        _show_tables(document, modes, console)
    kept = "what had been measured until then is above." if modes else "nothing had been measured until then."
    for flag, text in ((document["interrupted"], f"Interrupted: {kept}"),
                       (document["failed"], f"Not finished: {document['failed']}")):
        if flag:
            console.print(text)


def _show_tables(document: Mapping[str, Any], modes: list[str], console: Any) -> None:
    table = need("rich.table", "print tables").Table
    results = table(title="Results", title_justify="left")
    results.add_column("figure")
    for mode in modes:
        results.add_column(mode, justify="right", no_wrap=True)
    results.add_column("improvement", justify="right", no_wrap=True)
    results.add_column("n", justify="right", no_wrap=True)
    for row in document["results"]:
        counts = " / ".join(f"{row[mode]['n']:,}" for mode in modes)
        results.add_row(row["text"].replace("`", ""), *(figure_text(row[mode]) for mode in modes),
                        row["improvement"] or "", counts)
    console.print(results)
    for title, rows in (("Targets", [*document["targets"], *document["thresholds"]]),
                        ("Validation", document["validation"])):
        judged = table(title=title, title_justify="left")
        for heading in ("line", "", "verdict", "evidence"):
            judged.add_column(heading)
        for row in rows:
            judged.add_row(row["text"], "must" if row["must"] else "nice to have", _verdict(row["verdict"]),
                           row["evidence"])
        console.print(judged)


def _verdict(verdict: str) -> Any:
    return need("rich.text", "print tables").Text(verdict, style=_COLOURS[verdict])
