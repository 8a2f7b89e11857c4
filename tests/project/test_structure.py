"""The script that prints the structure of the package and fails outside of its bounds (``.ci/structure.py``)."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from support.hosts import REPOSITORY

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("structure", REPOSITORY / ".ci" / "structure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(folder: Path, files: dict[str, str]) -> Path:
    """Write a package of these files; return its folder."""
    root = folder / "thing"
    for name, text in {"__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("text", [
    "import thing.low", "from thing import low", "from thing.low import NAME", "from . import low",
    "from .low import NAME", "def late():\n    from .low import NAME",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .low import NAME"])
def test_every_import_counts(structure: ModuleType, tmp_path: Path, text: str) -> None:
    """An entry stands above what it imports, wherever in the file and for whatever purpose the import is."""
    floors = structure.measured(package(tmp_path, {"low.py": "NAME = 1", "high.py": text})).floors
    assert floors["thing.low"] == 1
    assert floors["thing.high"] == 2


def test_floors_are_those_of_entries(structure: ModuleType, tmp_path: Path) -> None:
    """Files of one package of the root share a floor, however deep they import each other."""
    root = package(tmp_path, {"a/__init__.py": "", "a/one.py": "", "a/two.py": "from . import one",
                              "a/deep/__init__.py": "", "a/deep/three.py": "from ..two import x",
                              "b.py": "from .a.deep import three"})
    assert structure.measured(root).floors == {"thing": 1, "thing.a": 1, "thing.b": 2}


def test_circles_are_found(structure: ModuleType, tmp_path: Path) -> None:
    """A circle over three files is named with its files, and entries in a circle have no floor."""
    root = package(tmp_path, {"a/__init__.py": "", "a/one.py": "from .two import x", "a/two.py": "from . import one",
                              "b.py": "from . import c", "c.py": "def f():\n    import thing.d",
                              "d.py": "from .b import x", "e.py": "from .a import one"})
    measured = structure.measured(root)
    assert measured.circles == [["thing.b", "thing.c", "thing.d"], ["thing.a.one", "thing.a.two"]]
    assert [entry for entry, floor in measured.floors.items() if not floor] == ["thing.b", "thing.c", "thing.d"]
    broken = structure.outside(measured, structure.Bounds())
    assert broken == ["2 circles of files, at most 0", "no floor, for a circle of entries: thing.b, thing.c, thing.d"]


def test_each_bound_is_kept(structure: ModuleType, tmp_path: Path) -> None:
    """What is at its bound passes, what is one above does not."""
    files = {f"m{n}.py": f"from . import m{n - 1}" if n else "" for n in range(4)}
    files["m0.py"] = "\n".join(["class Long:", *["    x = 1"] * 9, "y = 1"])
    measured = structure.measured(package(tmp_path, files))
    at_bound = structure.Bounds(entries=5, circles=0, floors=4, file_lines=11, class_lines=10)
    assert structure.outside(measured, at_bound) == []
    assert structure.outside(measured, structure.Bounds(4, 0, 3, 10, 9)) == [
        "5 entries in the root, at most 4", "4 floors, at most 3", "thing/m0.py: 11 lines, at most 10",
        "thing.m0.Long: 10 lines, at most 9"]


def test_the_hosts_random_numbers_are_left_alone() -> None:
    """No module draws from the generator of ``random`` itself: a host may have seeded it."""
    drawn = [f"{path.name}: {node.attr}" for path in (REPOSITORY / "hakgal_hybrid").rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"]
    assert drawn
    assert {name.partition(": ")[2] for name in drawn} == {"SystemRandom"}
