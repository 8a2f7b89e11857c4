"""The performance guard: instructions that fixed micro-workloads take, at two commits.

Wall-clock times on a shared machine vary by more than any regression worth catching; the number of instructions that a
fixed piece of work takes hardly varies at all. ``callgrind`` (valgrind) counts them. What it cannot see: the kernel,
caches, waiting, the cycle collector. The benchmarks measure those.

``make guard`` counts at another commit and here, and fails if anything takes 10 % more. Both are counted in one run, on
one machine: counts differ between builds of Python and of what an emit runs through, so older ones say nothing.
"""
