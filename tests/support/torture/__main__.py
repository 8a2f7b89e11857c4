"""Tortures the shared log: ``python -m support.torture [SCENARIO…] [--seeds 3] [--seed 1] [--long] [--mutants]``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .mutants import MUTANTS
from .running import Result, torture
from .scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="make torture ARGS=…", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds each scenario is run with")
    parser.add_argument("--short", action="store_true", help="do everything once in each run, as the tests do")
    parser.add_argument("--keep", action="store_true", help="keep what was written down, also of runs without faults")
    parser.add_argument("--mutants", action="store_true", help="take the rules of the shared log away one by one: each "
                        "must be missed by its scenario; SCENARIO is a part of a rule's name then")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return mutants(options) if options.mutants else scenarios(options)


def scenarios(options: argparse.Namespace) -> int:
    """Run scenarios; return whether one failed."""
    failed = 0
    for name in options.scenario or SCENARIOS:
        for seed in range(options.seed, options.seed + options.seeds):
            folder = Path(tempfile.mkdtemp(prefix=f"torture-{name}-"))
            began = time.monotonic()
            result = torture(name, folder / "run", seed, long=not options.short)
            show(name, seed, time.monotonic() - began, result)
            failed += bool(result.bad)
            if result.bad or options.keep:
                print(f"        {folder}")
            else:
                result.forget()
                folder.rmdir()
    return int(failed > 0)


def mutants(options: argparse.Namespace) -> int:
    """Run a scenario without a rule, with one seed after the other until it fails; return whether one never does."""
    alive = 0
    for name, mutant in MUTANTS.items():
        if options.scenario and not any(part in name for part in options.scenario):
            continue
        folder = Path(tempfile.mkdtemp(prefix="torture-mutant-"))
        package, began, bad = mutant.apply(folder / "package"), time.monotonic(), list[str]()
        seed = options.seed
        while not bad and seed < options.seed + options.seeds:
            bad = torture(mutant.scenario, folder / str(seed), seed, package=package, long=not options.short).bad
            seed += 1
        alive += not bad
        print(f"{'killed' if bad else 'ALIVE '} {name}: by {mutant.scenario}, {seed - options.seed} seeds, "
              f"{time.monotonic() - began:.0f} s", *(f"        {line[:200]}" for line in bad[:2]), sep="\n", flush=True)
        shutil.rmtree(folder)
    return int(alive > 0)


def show(name: str, seed: int, took: float, result: Result) -> None:
    counts = ", ".join(f"{key} {value}" for key, value in result.counts.items() if value)
    print(f"{'FAILED' if result.bad else 'passed'} {name:14} seed {seed} {took:4.0f} s  {counts}", flush=True)
    for line in result.bad[:8]:
        print(f"        {line[:300]}")


if __name__ == "__main__":
    sys.exit(main())
