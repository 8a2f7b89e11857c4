"""A small stand-in for the neural reasoner: how well do the known facts support a query?"""

from __future__ import annotations

import re
import time
from typing import TypedDict

from adapters.fact_repository import FactRepository

_SUPPORTING_FACTS = 10


class Reasoning(TypedDict):
    """The answer to one query."""

    query: str
    confidence: float
    duration_ms: float
    supporting_facts: list[str]


class ReasoningEngine:
    """Reads the repository from whichever thread asks; holds no state."""

    def __init__(self, fact_repository: FactRepository) -> None:
        self._facts = fact_repository

    def reason(self, query: str) -> Reasoning:
        """The confidence in a query: 1 for a known fact, else the share of its words that is known."""
        started = time.perf_counter()
        exact = self._facts.search(query, 1) if query else []
        words = re.findall(r"[A-Za-z0-9]{3,}", query)
        found = {word: self._facts.search(word, _SUPPORTING_FACTS) for word in dict.fromkeys(words)}
        known = sum(1 for statements in found.values() if statements)
        confidence = 1.0 if query in exact else round(0.95 * known / len(found), 3) if found else 0.0
        supporting = dict.fromkeys(exact + [fact for statements in found.values() for fact in statements])
        return {
            "query": query,
            "confidence": confidence,
            "duration_ms": round((time.perf_counter() - started) * 1000, 3),
            "supporting_facts": list(supporting)[:_SUPPORTING_FACTS],
        }
