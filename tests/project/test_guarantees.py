"""The page of guarantees: each promise has its limit, tests that exist, and a figure that a run has left."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.hosts import REPOSITORY

from hakgal_hybrid import Settings

pytestmark = pytest.mark.once

DOCS = REPOSITORY / "docs"
PAGE = (DOCS / "guarantees.md").read_text(encoding="utf-8")
#: What is no promise of its own.
OTHERS = {"Under other servers", "All faults of the last run"}


def module(path: Path) -> ModuleType:
    """Load a module from a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


figures = module(DOCS / "_ext" / "hybrid_figures.py")
tasks = module(REPOSITORY / ".ci" / "tasks.py")


def sections() -> dict[str, str]:
    """Return the sections of the page by their headings."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def proofs(text: str) -> list[str]:
    """Return what is named as proof in a text."""
    return [line for block in re.findall(r"^```\{hybrid-proof\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
            for line in block.splitlines()]


def cases(path: Path) -> set[str]:
    """Return the names of the tests in a file: of functions, and of test cases that are made by assignment."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


@pytest.mark.parametrize("name", sorted({name for name in proofs(PAGE) if name.startswith("tests/")}))
def test_every_test_that_is_named_exists(name: str) -> None:
    """By its file and its name."""
    file, _, test = name.partition("::")
    assert test in cases(REPOSITORY / file)


@pytest.mark.parametrize("title", [title for title in sections() if title not in OTHERS])
def test_every_promise_has_its_limit_a_proof_and_a_figure(title: str) -> None:
    """Nothing is promised without them; the figure comes of what a run has left."""
    text = sections()[title]
    assert text.count("**Limit.**") == 1
    told = figures.proof(proofs(text))
    assert told
    assert [line for line in told if figures.NOTHING not in line], "make faults ARGS=--keep"


def test_every_fault_is_the_proof_of_something() -> None:
    """No test of the faults is left out of the page."""
    there = {f"tests/faults/{path.name}::{name}" for path in (REPOSITORY / "tests" / "faults").glob("test_*.py")
             for name in cases(path)}
    assert there <= set(proofs(PAGE))


def test_what_is_no_test_is_known() -> None:
    """The soak, and figures of the benchmarks that have a name."""
    for name in proofs(PAGE):
        if not name.startswith("tests/") and name != "soak":
            wish = re.fullmatch(r"benchmark W\d+\w?, [^:]+: (.+)", name)
            assert wish is not None, name
            assert set(wish[1].split(", ")) <= figures.SAID.keys()


def test_the_task_runs_what_the_page_names() -> None:
    """``make faults ARGS=--keep`` takes the figures of every test that is named, the faults' besides."""
    named = {name for name in proofs(PAGE) if name.startswith("tests/")}
    assert set(tasks.proofs()) == {name for name in named if not name.startswith("tests/faults/")}
    assert tasks.kept(["-k", "disk", "--keep"]) == (True, ["-k", "disk"])
    assert {path.parent for path in (figures.FAULTS, figures.SOME, figures.PROOFS, figures.SOAK)} == {tasks.KEPT}


def test_figures_are_of_tests_that_exist() -> None:
    """What is kept is of this suite, and everything in it has passed."""
    for row in figures.rows_of_faults():
        file, _, test = row["test"].partition("[")[0].partition("::")
        assert test in cases(REPOSITORY / file), "make faults ARGS=--keep"
        assert row["outcome"] == "passed", row
        assert row.get("owed", 0) == row.get("delivered", 0) + row.get("missing", 0)
    ran = figures.read(figures.PROOFS)["tests"]
    assert ran.keys() <= set(tasks.proofs()), "make faults ARGS=--keep"
    assert not [name for name, row in ran.items() if row["failed"]]
    soaked = figures.read(figures.SOAK)
    assert soaked["flat"]
    assert soaked["about"]["minutes"] > 0


def test_a_run_that_is_not_whole_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short faults, failures and figures that are missing show on the page."""
    def kept(name: str, value: Any) -> None:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(value))
        monkeypatch.setattr(figures, name.upper(), path)

    about = {"date": "2026-01-01T00:00:00+00:00", "commit": "c", "python": "3", "system": "s", "kernel": "k",
             "processors": 2, "load_average": 1, "length": "short", "seconds": 1}
    kept("faults", {"about": about, "rows": [{"outcome": "failed", "test": "t::x[1]", "fault": "a fault"}]})
    kept("proofs", {"tests": {"t::y": {"passed": 1, "failed": 2, "skipped": 0, "seconds": 1.0}}})
    monkeypatch.setattr(figures, "SOAK", tmp_path / "none")
    monkeypatch.setattr(figures, "SOME", tmp_path / "none")
    assert "of short length" in figures.faults()[0]
    assert "**failed**" in figures.faults()[-1]
    assert figures.proof(["t::x", "t::y", "t::z"]) == [
        "- `t::x`: a fault: **failed**", "- `t::y`: 1 case passed, **2 failed**, 1.0 s", f"- `t::z`: {figures.NOTHING}"]
    assert figures.soak() == [figures.NOTHING]


@pytest.mark.parametrize("page", ["guarantees.md", "production.md"])
def test_settings_that_are_named_exist(page: str) -> None:
    """Every variable of ours is one of the settings."""
    names = {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    text = (DOCS / page).read_text(encoding="utf-8")
    assert set(re.findall(r"\b(?:HYBRID|HAKGAL)_[A-Z_]+\b", text)) - {"HAKGAL_HYBRID_INHERIT"} <= names


def test_capacity_comes_of_the_benchmarks() -> None:
    """The table has rows for rate, processor and memory, each of the runs that are kept."""
    text = "\n".join(figures.capacity())
    for part in ("events a second", "of a processor", "KB a client"):
        assert part in text
