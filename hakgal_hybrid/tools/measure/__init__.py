"""Measuring a host: what it is like now (:mod:`~hakgal_hybrid.tools.measure.snapshot`), and before against after."""
