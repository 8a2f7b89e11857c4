"""``python -m tests.benchmarks``: measure, then report."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from . import system
from .ceiling import ceiling
from .peers import Peer, all_peers
from .report import plots
from .report.growth import growths
from .report.summary import Summaries
from .report.tables import Tables
from .runner import Row, present, rows, time_limit
from .targets import judged
from .workloads import FULL, QUICK, TINY, Scale, Workload, all_workloads


def main(arguments: list[str]) -> int:
    options = _parsed(arguments)
    if sys.platform != "linux":
        print("the benchmarks need Linux: epoll, processor affinity and /proc", file=sys.stderr)
        return 2
    scale = {"full": FULL, "quick": QUICK, "tiny": TINY}[options.scale]
    if options.runs:
        scale = type(scale)(**{**vars(scale), "runs": options.runs})
    workloads = [one for one in all_workloads() if not options.only or one.key in options.only]
    wanted = [one for one in all_peers() if not options.peers or one.key in options.peers]
    hurry = scale.name == "quick" and not options.peers
    peers, versions, absent = present([one for one in wanted if not (hurry and one.slow)])
    absent |= {one.key: "not in a quick run" for one in wanted if hurry and one.slow}
    for key, reason in absent.items():
        print(f"left out: {key}: {reason}")
    began = time.monotonic()
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "scale": vars(scale),
        "machine": {"open_files": system.raise_limits(), **system.description()}, "versions": versions,
        "absent": absent, "ceiling": _ceiling(scale)}
    measured = []
    with contextlib.suppress(KeyboardInterrupt):  # what was measured until then is reported
        for row in rows(workloads, peers, scale, lambda text: print(f"{_clock()} {text}", flush=True)):
            measured.append(row)
            if row.error:
                print(f"         {row.error.strip().splitlines()[-1]}\n         {row.server}", flush=True)
    results["minutes"] = round((time.monotonic() - began) / 60, 1)
    _report(workloads, peers, scale, measured, results, options.out)
    return 0


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _ceiling(scale: Scale) -> dict[str, Any]:
    try:
        with time_limit(60):
            return ceiling(scale)
    except Exception as error:  # without gcc, for one: the rows will say so too
        return {"error": f"{type(error).__name__}: {error}"}


def _report(workloads: list[Workload], peers: list[Peer], scale: Scale, measured: list[Row], results: dict[str, Any],
            folder: Path | None) -> None:
    summaries = Summaries(measured, workloads)
    results["targets"] = [target for workload in workloads for target in _targets(workload, summaries, scale)]
    results["summary"] = [one.as_json() for one in summaries]
    results["rows"] = [row.as_json() for row in measured]
    cases = {workload.key: {case.label: case for case in workload.cases(scale)} for workload in workloads}
    try:
        results["growth"] = [one.as_json() for one in growths(summaries, cases)]
    except ImportError as error:
        results["growth"] = []
        print(f"no exponents: {error}")
    tables = Tables(summaries, peers, cases, results)
    console = Console()
    tables.show(console if console.is_terminal else Console(width=200))
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(tables.markdown(), encoding="utf-8")
    try:
        drawn = plots.draw(folder, summaries, peers, results["rows"], results["growth"])
    except ImportError as error:
        print(f"no plots: {error}")
    else:
        print(f"written to {folder}: results.json, table.md, {', '.join(drawn)}")


def _targets(workload: Workload, summaries: Summaries, scale: Scale) -> list[dict[str, Any]]:
    metrics = {metric.key: metric for metric in workload.metrics}
    labels = [case.label for case in workload.cases(scale)]
    answers = judged(workload.targets, lambda peer, metric, case: summaries.find(workload, peer, metric, labels[case]))
    for answer in answers:
        metric = metrics.get(answer["metric"])
        answer["workload"] = workload.key
        answer["title"] = metric.title if metric else answer["metric"]
        answer["unit"] = metric.unit if metric and metric.scale == 1 else ""
        answer["case_label"] = labels[answer["case"]]
    return answers


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    keys = lambda text: [key.strip() for key in text.split(",") if key.strip()]  # noqa: E731
    parser.add_argument("--only", type=keys, metavar="W1,W2", help="these workloads only")
    parser.add_argument("--peers", type=keys, metavar="c,ours", help="these peers only")
    parser.add_argument("--scale", choices=["full", "quick", "tiny"], default="full")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick",
                        help="one short run of everything")
    parser.add_argument("--runs", type=int, help="repeat every row so often; figures are medians")
    parser.add_argument("--out", "--keep", type=Path, metavar="DIR",
                        help="write results.json, table.md and the plots there; --keep docs/benchmarks for the docs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
