"""Directives for figures that runs have left behind, so that none is typed by hand.

``hybrid-proof`` (its content: names of tests, ``soak``, or names of benchmarks), ``hybrid-faults``, ``hybrid-soak`` and
``hybrid-capacity``. The figures lie in ``docs/faults/`` (``make faults ARGS=--keep``, ``make soak ARGS=--keep``) and in
``docs/benchmarks/`` (``make bench``). The functions need no Sphinx, so that the tests can read the figures without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
FAULTS, SOME, PROOFS, SOAK = (DOCS / "faults" / f"{name}.json" for name in ("faults", "some", "proofs", "soak"))
#: Runs of the benchmarks, the later ones for what the first has not.
BENCHMARKS = (DOCS / "benchmarks" / "results.json", DOCS / "benchmarks" / "some" / "results.json")
NOTHING = "*no figures are kept*"


def read(path: Path) -> dict[str, Any]:
    """Return what a run has left; nothing if there was none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return lines of Markdown; an empty heading is the first column's."""
    lines = [headings, tuple("---" if number == 0 else "---:" for number in range(len(headings))), *rows]
    return [f"| {' | '.join(row)} |" for row in lines]


def about(kept: dict[str, Any], what: str) -> str:
    """Say when, where and of what figures were taken."""
    if not kept:
        return NOTHING
    return (f"{what} of {kept['date'][:16].replace('T', ' ')} UTC, commit `{kept['commit']}`, Python {kept['python']}, "
            f"{kept['system']} {kept['kernel']}, {kept['processors']} processors, load average at the start "
            f"{kept['load_average']}{', real-time priority' if kept.get('scheduling') == 'fifo' else ''}.")


# -- faults ---------------------------------------------------------------------------------------------------------


def rows_of_faults() -> list[dict[str, Any]]:
    """Return the rows of the last whole run, and those of a later run of some faults for what it has not."""
    rows = list(read(FAULTS).get("rows", []))
    known = {row["test"] for row in rows}
    return rows + [row for row in read(SOME).get("rows", []) if row["test"] not in known]


def faults() -> list[str]:
    """Return the table of faults."""
    kept, later = read(FAULTS), read(SOME)
    if not kept:
        return [NOTHING]
    rows = [_fault(row) for row in rows_of_faults()]
    others = read(PROOFS).get("about", {})
    length = "" if kept["about"]["length"] == "full" else ", **of short length**: what lasts a minute lasted seconds"
    return [about(kept["about"], f"Run (`make faults`, {kept['about']['seconds']} s{length})"),
            *([about(later["about"], f"What that run has not: run ({later['about']['seconds']} s)")] if later else []),
            about(others, "The other tests that are named above: run"), "", *table(
        ("Fault", "Served, refused, failed", "p95, ms", "Emits", "p95, ms", "Delivered of owed", "Reported missing",
         "Threads", "Descriptors", "MiB", ""), rows)]


def _fault(row: dict[str, Any]) -> tuple[str, ...]:
    if "served" not in row:
        return row["fault"], *[""] * 9, f"**{row['outcome']}**"
    return (row["fault"], f"{row['served']}, {row['refused']}, {row['failed']}", f"{row['p95_ms']:.0f}",
            f"{row['emits']:,}", f"{row['emit_p95_ms']:.2f}", f"{row['delivered']:,} of {row['owed']:,}",
            f"{row['missing']:,}", *(_change(row, name) for name in ("threads", "descriptors", "memory_mib")),
            row["note"] if row["outcome"] == "passed" else f"**{row['outcome']}**")


def _change(row: dict[str, Any], name: str) -> str:
    before, after = row[name]
    return f"{before:.0f} → {after:.0f}" if before else ""


# -- soak -----------------------------------------------------------------------------------------------------------


def soak() -> list[str]:
    """Return what the last soak has found."""
    kept = read(SOAK)
    if not kept:
        return [NOTHING]
    names = {"threads": "threads", "descriptors": "descriptors besides those of streams", "memory_mib": "memory, MiB"}
    rows = [(title, f"{slope['mean']:.1f}", f"{slope['per_hour']:+.1f}", f"{slope['over_run']:+.2f}",
             f"{slope['allowed']:.1f}", "flat" if slope["over_run"] <= slope["allowed"] else "**grows**")
            for name, title in names.items() for slope in [kept["slopes"][name]]]
    return [about(kept["about"], f"Run (`make soak`, {kept['about']['minutes']:g} minutes)"), "", *table(
        ("", "mean", "an hour", "over the run", "allowed", ""), rows), "", _soaked(kept)]


def _soaked(kept: dict[str, Any]) -> str:
    gaps = ", ".join(f"{number:,} {reason}" for reason, number in sorted(kept["gaps"].items())) or "none"
    return (f"{kept['clients']} clients, {kept['connections']:,} connections, {sum(kept['faults'].values())} faults of "
            f"{len(kept['faults'])} kinds; {kept['emitted']:,} events emitted (p95 {kept['emit_p95_ms']:.2f} ms), "
            f"{kept['delivered']:,} delivered, {kept['conflated']:,} conflated, "
            f"reported missing: {gaps}; unexplained: 0.")


# -- proofs ---------------------------------------------------------------------------------------------------------


def proof(names: list[str]) -> list[str]:
    """Return a list: each test by its name, with its figure of the last run."""
    rows = {row["test"].partition("[")[0]: [] for row in rows_of_faults()}
    for row in rows_of_faults():
        rows[row["test"].partition("[")[0]].append(row)
    ran = read(PROOFS).get("tests", {})
    return [f"- {_proof(name, rows, ran)}" for name in filter(None, map(str.strip, names))]


def _proof(name: str, rows: dict[str, list[dict[str, Any]]], ran: dict[str, dict[str, Any]]) -> str:
    if name == "soak":
        kept = read(SOAK)
        return f"`make soak`: {_soaked(kept) if kept else NOTHING}"
    if name.startswith("benchmark "):
        return f"`make bench`, {measured(name.removeprefix('benchmark '))}"
    if name in rows:
        return f"`{name}`: " + "; ".join(map(_figures, rows[name]))
    if name in ran:
        return f"`{name}`: {_cases(ran[name])}"
    return f"`{name}`: {NOTHING}"


def _figures(row: dict[str, Any]) -> str:
    if "served" not in row:
        return f"{row['fault']}: **{row['outcome']}**" if row["outcome"] != "passed" else "passed"
    said = "" if row["outcome"] == "passed" else f"**{row['outcome']}**, "
    missing = f", {row['missing']:,} reported missing" if row["missing"] else ""
    note = f" ({row['note']})" if row["note"] else ""
    return (f"{row['fault']}: {said}{row['served']} requests served, p95 {row['p95_ms']:.0f} ms; {row['emits']:,} "
            f"emits, p95 {row['emit_p95_ms']:.2f} ms; {row['delivered']:,} of {row['owed']:,} events delivered"
            f"{missing}{note}")


def _cases(row: dict[str, Any]) -> str:
    cases = f"{row['passed']} case{'s' * (row['passed'] != 1)} passed"
    failed = f", **{row['failed']} failed**" if row["failed"] else ""
    skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
    took = f"{row['seconds']:.1f}" if row["seconds"] >= 0.1 else "under 0.1"
    return f"{cases}{failed}{skipped}, {took} s"


# -- benchmarks -----------------------------------------------------------------------------------------------------


def benchmark(workload: str, case: str) -> tuple[str, dict[str, float]]:
    """Return a case and the medians of this library in it; none if no run has them. ``*`` stands for anything."""
    for path in BENCHMARKS:
        for row in read(path).get("summary", []):
            if row["workload"] == workload and row["peer"] == "ours" and fnmatchcase(row["case"], case):
                return row["case"], {name: figure["median"] for name, figure in row["figures"].items()}
    return case, {}


#: What a figure of the benchmarks is called, by its name there.
SAID: dict[str, Callable[[float], str]] = {
    "emit_p50_us": lambda value: f"emit p50 {value:.0f} µs", "emit_p99_us": lambda value: f"emit p99 {value:.0f} µs",
    "mb_growth": lambda value: f"memory grew by {value:.1f} MB in the second half",
    "healthy_p99_ms": lambda value: f"others' p99 {value:.1f} ms",
    "stalled_told": lambda value: f"{value:.0f} stalled clients got a gap or were closed",
    "hot_p50_us": lambda value: f"{value:.1f} µs an emit", "kb_per_client": lambda value: f"{value:.2f} KB a client",
    "p99_ms": lambda value: f"p99 {value:.1f} ms", "cpu_percent": lambda value: f"{value:.0f} % of a processor",
    "lag_p99_ms": lambda value: f"loop late by {value:.1f} ms (p99)", "lost": lambda value: f"{value:.0f} lost",
    "repeated": lambda value: f"{value:.0f} repeated"}


def measured(query: str) -> str:
    """Return some figures of a case, asked for as ``W5, * events of 4 KB: emit_p99_us, mb_growth``."""
    where, _, names = query.partition(": ")
    workload, _, case = where.partition(", ")
    case, found = benchmark(workload, case)
    said = [SAID[name](found[name]) for name in map(str.strip, names.split(",")) if name in found]
    return f"{workload}, {case}: {', '.join(said) or NOTHING}"


def capacity() -> list[str]:
    """Return the table of what was measured, made of whatever the runs have."""
    first, runs = read(BENCHMARKS[0]), [read(path) for path in BENCHMARKS]
    if not first:
        return [NOTHING]
    ours = [(row["workload"], row["case"], {name: figure["median"] for name, figure in row["figures"].items()})
            for run in runs for row in run.get("summary", []) if row["peer"] == "ours" and row["figures"]]
    rows, seen = [], set()
    for workload, titles in CAPACITY.items():
        for found, case, figures in ours:
            if found == workload and (workload, case) not in seen:
                seen.add((workload, case))
                rows += [(title(case), said(figures)) for title, needs, said in titles if needs <= figures.keys()]
    machine = first["machine"]
    dates = ", ".join(sorted({run["date"][:10] for run in runs if run}))
    return [f"Run of `make bench` (scale “{first['scale']['name']}”, {dates}, commit `{machine['commit']}`): "
            f"{machine['cpu']}, the server on one processor of its own, Python {machine['python']}, load average at "
            f"the start {machine['load_average_at_start']:.1f}. Events of 220 bytes. Medians.", "",
            "| What | Measured |", "| --- | --- |", *(f"| {title} | {said} |" for title, said in rows)]


#: By workload: what a row is called, which figures it needs, and how it says them.
CAPACITY: dict[str, list[tuple[Callable[[str], str], set[str], Callable[[dict[str, float]], str]]]] = {
    "W2": [(lambda case: f"50 events a second to {case}", {"cpu_percent", "p99_ms"}, lambda figures:
            f"{figures['cpu_percent']:.0f} % of a processor; an event arrives within {figures['p50_ms']:.0f} ms (p50), "
            f"{figures['p99_ms']:.0f} ms (p99)")],
    "W1b": [(lambda case: f"most events a second, {case}, 99 % within 100 ms", {"rate"}, lambda figures:
             f"{figures['rate']:,.0f} events a second")],
    "W3": [(lambda case: f"memory of {case}, idle", {"kb_per_client"}, lambda figures:
            f"{figures['kb_per_client']:.1f} KB a client above {figures['base_mb']:.0f} MB; in the kernel "
            f"{figures['kernel_objects_kb_per_client']:.1f} KB (both ends of a loopback connection)")],
    "W5": [(lambda case: f"a log that is full (`HYBRID_LOG_BYTES`), {case}", {"mb_at_half"}, lambda figures:
            f"{figures['mb_at_half']:.0f} MB; {figures['mb_growth']:+.1f} MB over as many events again")],
    "W6": [(lambda case: f"{case} that come at once", {"opens_per_s"}, lambda figures:
            f"all have their stream after {figures['seconds']:.1f} s")],
    "W7": [(lambda case: f"{case}, coming back at once", {"live", "live_p99_during_ms"}, lambda figures:
            f"all have everything after {figures['seconds']:.2f} s; the p99 of {figures['live']:.0f} others is "
            f"{figures['live_p99_during_ms']:.0f} ms meanwhile")],
    "W10": [(lambda case: f"the host's own requests, {case}", {"ours_per_s", "streams_per_s"}, lambda figures:
             f"{figures['ours_per_s']:,.0f} a second; with {figures['streams']:,.0f} streams at 50 events a second "
             f"{figures['streams_per_s']:,.0f}")],
}


# -- Sphinx ---------------------------------------------------------------------------------------------------------


def setup(app: Any) -> dict[str, bool]:
    """Register the directives with Sphinx."""
    from docutils import nodes
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    class Figures(SphinxDirective):
        """Print what one of the functions above returns."""

        has_content = True

        def lines(self) -> list[str]:
            """Return lines of Markdown."""
            raise NotImplementedError

        def run(self) -> list[nodes.Node]:
            for path in (__file__, FAULTS, SOME, PROOFS, SOAK, *BENCHMARKS):
                self.env.note_dependency(str(path))
            parent = nodes.Element()
            self.state.nested_parse(StringList(self.lines(), source=__file__), self.content_offset, parent)
            return parent.children

    class HybridProof(Figures):
        """Print :func:`proof` of the names in its content."""

        def lines(self) -> list[str]:
            return proof(list(self.content))

    app.add_directive("hybrid-proof", HybridProof)
    for name, function in (("hybrid-faults", faults), ("hybrid-soak", soak), ("hybrid-capacity", capacity)):
        app.add_directive(name, type(name, (Figures,), {"lines": lambda self, function=function: function()}))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
