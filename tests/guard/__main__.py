"""``python -m tests.guard [--record]``: count, and compare with the baseline or make it."""

from __future__ import annotations

import argparse
import sys

from .counting import ALLOWED, baseline, counted, judged, key, record


def main() -> int:
    """Count, print, and say by the status whether anything got worse."""
    parser = argparse.ArgumentParser(prog="python -m tests.guard", description="Instructions of fixed workloads.")
    parser.add_argument("--record", action="store_true", help="make what is counted the baseline of this Python")
    options = parser.parse_args()
    counts = counted()
    known = baseline().get(key())
    expected = known["instructions"] if known else {}
    print(key() + ("" if known else ": no baseline yet"))
    for name, value in counts.items():
        change = f"{value / expected[name] - 1:+8.1%}" if name in expected else ""
        print(f"{name:<50}{value:>12,}{change}")
    if any(value < expected.get(name, 0) * (1 - ALLOWED) for name, value in counts.items()) and not options.record:
        print("some take less by now: --record, or the guard lets that much be lost again")
    if options.record:
        record(counts)
        return 0
    wrong = judged(counts, expected) if known else []
    print("\n".join(["", *wrong]) if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
