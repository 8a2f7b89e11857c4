"""The benchmark suite: this library, its peers and a C reference, interleaved in one run. See ``README.md``.

``python -m tests.benchmarks`` runs it (``make bench`` also makes the environment it needs). Linux only.
"""
