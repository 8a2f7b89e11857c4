"""``python -m tests.benchmarks``: measure, then report."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from . import system
from .peers import all_peers
from .runner import present, rows
from .workloads import FULL, QUICK, TINY, all_workloads


def main(arguments: list[str]) -> int:
    options = _parsed(arguments)
    if sys.platform != "linux":
        print("the benchmarks need Linux: epoll, processor affinity and /proc", file=sys.stderr)
        return 2
    scale = {"full": FULL, "quick": QUICK, "tiny": TINY}[options.scale]
    if options.runs:
        scale = type(scale)(**{**vars(scale), "runs": options.runs})
    workloads = [one for one in all_workloads() if not options.only or one.key in options.only]
    peers, versions, absent = present([one for one in all_peers() if not options.peers or one.key in options.peers])
    for key, reason in absent.items():
        print(f"left out: {key}: {reason}")
    files = system.raise_limits()
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "scale": vars(scale),
        "machine": {**system.description(), "open_files": files}, "versions": versions, "absent": absent, "rows": []}
    for row in rows(workloads, peers, scale, lambda text: print(text, flush=True)):
        results["rows"].append(row.as_json())
        print("  ", row.error or row.values)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_text(json.dumps(results, indent=1))
    return 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    keys = lambda text: [key.strip() for key in text.split(",") if key.strip()]  # noqa: E731
    parser.add_argument("--only", type=keys, metavar="W1,W2", help="these workloads only")
    parser.add_argument("--peers", type=keys, metavar="c,ours", help="these peers only")
    parser.add_argument("--scale", choices=["full", "quick", "tiny"], default="full")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick",
                        help="one short run of everything")
    parser.add_argument("--runs", type=int, help="repeat every row so often; figures are medians")
    parser.add_argument("--out", type=Path, help="write results.json, table.md and plots into this folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
