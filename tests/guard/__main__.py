"""``python -m tests.guard [BASE]``: count at another commit and here, and compare."""

from __future__ import annotations

import argparse
import os
import sys

from .counting import Unavailable, base_commit, checked_out, counted, judged


def main() -> int:
    """Count both, print, and say by the status whether anything takes more than it may; 2 if nothing can be counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.guard", description="Instructions of fixed workloads.")
    parser.add_argument("base", nargs="?", default=os.environ.get("BASE", ""),
                        help="the commit to compare with; BASE of the environment, else where this branch left main")
    base = parser.parse_args().base or base_commit()
    try:
        with checked_out(base) as (before, here):
            expected, counts = counted(before), counted(here)
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 2
    print(f"instructions of one operation, now and at {base}")
    for name, value in counts.items():
        change = f"{expected[name]:>14,}{value / expected[name] - 1:+8.1%}" if name in expected else "  (new)"
        print(f"{name:<50}{value:>14,}{change}")
    wrong = judged(counts, expected)
    print("\n".join(["", *wrong]) if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
