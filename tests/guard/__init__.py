"""The performance guard: instructions that fixed micro-workloads take, against a committed baseline.

Wall-clock times on a shared machine vary by more than any regression worth catching; the number of instructions that a
fixed piece of work takes hardly varies at all. ``callgrind`` (valgrind) counts them. What it cannot see: the kernel,
caches, waiting, the cycle collector. The benchmarks measure those.

``python -m tests.guard`` prints the counts beside the baseline of this Python; ``--record`` makes them the baseline.
"""
