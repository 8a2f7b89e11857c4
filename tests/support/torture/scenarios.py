"""All scenarios, by name."""

from __future__ import annotations

from . import failover_scenarios, process_scenarios, redis_scenarios
from .scenario import SCENARIOS

__all__ = ["SCENARIOS", "failover_scenarios", "process_scenarios", "redis_scenarios"]
