"""Measuring a host: what it is like now (:mod:`~hakgal_hybrid.measure.snapshot`), and before against after."""
