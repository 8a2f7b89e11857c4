"""The servers of the Python peers. ``python -m tests.benchmarks.apps.NAME PORT CONTROL_PORT`` runs one."""
