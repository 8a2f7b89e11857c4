"""The tables of a run: for the terminal, and as Markdown."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..peers import Peer
from ..workloads import Case, Metric, Workload
from .summary import Summaries, Summary


class Tables:
    """Renders the summaries of one run.

    :param results: what ``results.json`` holds.
    """

    def __init__(self, summaries: Summaries, peers: list[Peer], cases: dict[str, dict[str, Case]],
                 results: dict[str, Any]) -> None:
        self._summaries = summaries
        self._titles = {peer.key: peer.title for peer in peers}
        self._measured = {self._titles[one.peer] for one in summaries}
        self._notes = {peer.title: peer.note for peer in peers if peer.note}
        self._cases = cases
        self._results = results

    def show(self, console: Console) -> None:
        """Print every table."""
        for workload in self._summaries.workloads:
            for cases in self._grouped(workload):
                console.print(f"\n[bold]{workload.key}: {escape(workload.title)}[/bold], {escape(self._what(cases))}")
                console.print(_rich(*self._table(workload, cases)))
        if self._results["targets"]:
            console.print("\n[bold]Targets[/bold]")
            console.print(_rich(*self._targets()))
        if self._results["growth"]:
            console.print("\n[bold]How cost grows[/bold]")
            console.print(_rich(*self._growth()))
        for line in [self._machine(), *self._remarks()]:
            console.print(line, highlight=False, markup=False)

    def markdown(self) -> str:
        """Return every table, with the machine and the versions, as Markdown."""
        parts = [self._machine()]
        for workload in self._summaries.workloads:
            parts.append(f"### {workload.key}: {workload.title}\n\n{workload.explanation}")
            for cases in self._grouped(workload):
                runs = {one.measured + len(one.errors) for case in cases for one in self._summaries.of(workload, case)}
                several = f"median of {max(runs)}" if len(runs) == 1 else f"medians of up to {max(runs)}"
                parts.append(f"{self._what(cases)}, {several} (least–most):\n\n"
                             + _pipes(*self._table(workload, cases)))
        if self._results["targets"]:
            parts.append("### Targets\n\n" + _pipes(*self._targets()))
        if self._results["growth"]:
            parts.append("### How cost grows\n\nExponents: 1 is in proportion, 0 not at all. Fitted over all points, "
                         "and over the last three, where what an event costs by itself counts for little.\n\n"
                         + _pipes(*self._growth()))
        parts.append("\n".join(f"- {line}" for line in self._remarks()))
        return "\n\n".join(parts) + "\n"

    def _grouped(self, workload: Workload) -> list[list[str]]:
        """Return the cases of each table: those that only we were measured in are lines of one."""
        groups: list[list[str]] = []
        alone = False
        for case in self._summaries.cases(workload):
            ours = [one.peer for one in self._summaries.of(workload, case)] == ["ours"]
            if ours and alone:
                groups[-1].append(case)
            else:
                groups.append([case])
            alone = ours
        return groups

    def _what(self, cases: list[str]) -> str:
        return cases[0] if len(cases) == 1 else self._titles["ours"]

    def _table(self, workload: Workload, cases: list[str]) -> tuple[list[str], list[list[str]]]:
        found = {key for case in cases for one in self._summaries.of(workload, case) for key in one.figures}
        metrics = [metric for metric in workload.metrics if metric.key in found or not found]
        head = ["", *(f"{metric.title}, {metric.unit}" if metric.unit else metric.title for metric in metrics)]
        lines = []
        for case in cases:
            rows = self._summaries.of(workload, case)
            reference = next((one for one in rows if one.peer == self._cases[workload.key][case].reference), None)
            lines += [[(self._titles[one.peer] if len(cases) == 1 else case) + _lost(one),
                       *self._cells(metrics, one, reference)] for one in rows]
        return head, lines

    def _cells(self, metrics: list[Metric], one: Summary, reference: Summary | None) -> list[str]:
        if not one.measured:
            reason = one.errors[0].strip().splitlines()[-1] if one.errors else "not measured"
            return [reason[:160]] + [""] * (len(metrics) - 1)
        return [_cell(metric, one, reference) for metric in metrics]

    def _targets(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for target in self._results["targets"]:
            limit = f"≥ {target['least']:g}" if target["least"] is not None else f"≤ {target['most']:g}"
            against = f"× {self._titles.get(target['peer'], target['peer'])}" if target["peer"] else target["unit"]
            measured = "not measured" if target["measured"] is None else f"{target['measured']:,.3g}"
            if target["measured"] is not None and target["measured"] >= 1000:
                measured = f"{target['measured']:,.0f}"
            outcome = {None: "–", True: "met", False: "missed"}[target["met"]]
            rows.append([target["workload"], f"{target['title']}, {target['case_label']}",
                         f"{limit} {against}".strip(), measured, outcome])
        return ["", "figure", "target", "measured", ""], rows

    def _growth(self) -> tuple[list[str], list[list[str]]]:
        metrics = {(workload.key, metric.key): metric for workload in self._summaries.workloads
                   for metric in workload.metrics}
        lines = []
        for one in self._results["growth"]:
            metric = metrics[one["workload"], one["figure"]]
            points = "; ".join(f"{x:,g}: {y / metric.scale:,.{metric.digits}f}" for x, y in one["points"])
            lines.append([one["workload"], f"{metric.title} by {one['of']}", self._titles[one["peer"]],
                          f"{one['exponent']:.2f}", f"{one['tail']:.2f}", f"{points} {metric.unit}"])
        return ["", "figure", "", "exponent", "of the last three", "points"], lines

    def _machine(self) -> str:
        machine, ceiling = self._results["machine"], self._results["ceiling"]
        text = (f"{self._results['date']}, {self._results['minutes']} minutes, {machine['cpu']}, "
                f"{machine['processors']} processors, {machine['memory_mb']} MB, {machine['system']}, "
                f"Linux {machine['kernel']}, Python {machine['python']}, commit {machine['commit']}, "
                f"scale “{self._results['scale']['name']}”. "
                f"Server on processor {machine['server_on_cpu']}, load on {machine['load_on_cpu']}.\n")
        if "error" in ceiling:
            return f"{text}The load generator's own ceiling was not measured: {ceiling['error']}"
        text += (f"The load generator took {ceiling['deliveries_per_s'] / 1e6:.1f} million events a second from a C "
                 f"server that publishes as fast as it can, with {ceiling['load_cpu_percent']:.0f} % of its processor")
        most = ceiling["load_ceiling_per_s"]
        return text + (f": its own ceiling is about {most / 1e6:.1f} million." if most else ".")

    def _remarks(self) -> list[str]:
        lines = [f"{title}: {note}." for title, note in self._notes.items() if title in self._measured]
        lines += [f"left out: {key}: {reason}" for key, reason in self._results["absent"].items()]
        for key, versions in self._results["versions"].items():
            parts = (version if name in version else f"{name} {version}" for name, version in versions.items())
            lines.append(f"{self._titles[key]}: " + ", ".join(parts))
        return lines


def _cell(metric: Metric, one: Summary, reference: Summary | None) -> str:
    spread = one.figures.get(metric.key)
    if spread is None:
        return "–"
    text, least, most = (f"{value / metric.scale:,.{metric.digits}f}"
                         for value in (spread.median, spread.least, spread.most))
    if least != most:
        text += f" ({least}–{most})"
    if metric.ratio and reference is not None and reference is not one:
        base = reference.figures.get(metric.key)
        if base and base.median:
            text += f" · {spread.median / base.median:.2f}×"
    return text


def _lost(one: Summary) -> str:
    told = {"lost": "LOST", "repeated": "REPEATED", "hung_up": "HUNG UP ON", "overloaded": "overloaded in"}
    text = ", ".join(f"{told[key]} {number}" for key, number in one.lost.items())
    failed = f"{len(one.errors)} failed" if one.errors and one.measured else ""
    return "".join(f" ({part})" for part in (text, failed) if part)


def _rich(head: list[str], rows: list[list[str]]) -> Table:
    table = Table()
    for number, title in enumerate(head):
        table.add_column(title, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _pipes(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
