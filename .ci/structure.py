"""Print how the package is built, and fail where it is outside of its bounds: ``python .ci/structure.py``.

*Entries* are the modules and packages in the package's root. An *import* is every ``import`` in a file, also one under
``TYPE_CHECKING`` and one inside a function. A *circle* is a set of files each of which imports, over others of the set,
every other one. The *floor* of an entry is one more than the highest floor of the entries that it imports: entries that
import no other one are on floor 1. Lines are all lines of a file or class, with comments and blank ones.

``setup.cfg`` says which entries may import which (``[importlinter]``); here only their number of floors counts.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent / "hakgal_hybrid"


class Bounds(NamedTuple):
    """What the package may be at most."""

    entries: int = 16
    circles: int = 0
    floors: int = 9
    file_lines: int = 300
    class_lines: int = 200


class Structure(NamedTuple):
    """What the package is: its entries with their floors, and lines by file and by class."""

    #: The floor of each entry of the root; 0 for an entry that is in a circle with another one, or above such.
    floors: dict[str, int]
    circles: list[list[str]]
    files: dict[str, int]
    classes: dict[str, int]


def main() -> int:
    """Print the structure, and every bound that it breaks."""
    parser = argparse.ArgumentParser(description="Print the structure of the package, and fail outside of its bounds.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="the package's folder")
    structure = measured(parser.parse_args().root)
    print(described(structure))
    broken = outside(structure, Bounds())
    print("\n".join(["", *broken]) if broken else "\nwithin all bounds")
    return 1 if broken else 0


def measured(root: Path) -> Structure:
    """Read all modules of the package in the folder ``root``."""
    paths = {module_name(path, root): path for path in sorted(root.rglob("*.py"))
             if all(part.isidentifier() for part in path.relative_to(root).with_suffix("").parts)}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    edges = {name: set(imported(tree, name, paths[name].name == "__init__.py", paths.keys())) - {name}
             for name, tree in trees.items()}
    entry_of = {name: ".".join(name.split(".")[:2]) for name in paths}
    uses: dict[str, set[str]] = {entry: set() for entry in entry_of.values()}
    for name, targets in edges.items():
        uses[entry_of[name]] |= {entry_of[target] for target in targets} - {entry_of[name]}
    classes = {f"{name}.{node.name}": node.end_lineno - node.lineno + 1 for name, tree in trees.items()
               for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.end_lineno}
    files = {path.relative_to(root.parent).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
             for path in paths.values()}
    return Structure(floors_of(uses), circles_of(edges), files, classes)


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name of the module in a file."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, name: str, is_package: bool, known: Iterable[str]) -> Iterator[str]:
    """Yield those of the modules ``known`` that the module ``name`` imports."""
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # ``from package import name``: a module of that name if there is one, else something of the package.
            targets = [full if (full := f"{base}.{alias.name}") in known else base for alias in node.names]
        else:
            continue
        yield from (target for target in targets if target in known)


def floors_of(uses: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the floor of each entry; 0 where a circle leaves none."""
    floors: dict[str, int] = {}
    while ready := {entry: 1 + max((floors[used] for used in targets), default=0)
                    for entry, targets in uses.items() if entry not in floors and targets <= floors.keys()}:
        floors.update(ready)
    return {entry: floors.get(entry, 0) for entry in uses}


def circles_of(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of files that import each other, the largest first."""
    reach = {name: reached(name, edges) for name in edges}
    circles = {tuple(sorted({name, *(other for other in reach[name] if name in reach[other])}))
               for name in edges if name in reach[name]}
    return sorted(map(list, circles), key=len, reverse=True)


def reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """Return what a file imports, directly or over others."""
    found: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += edges[name]
    return found


def described(structure: Structure) -> str:
    """Return the structure as text for people."""
    lines = [f"entries: {len(structure.floors)}", "floors:"]
    for floor in sorted(set(structure.floors.values()), reverse=True):
        names = sorted(entry.partition(".")[2] or "__init__" for entry in structure.floors
                       if structure.floors[entry] == floor)
        lines.append(f"  {floor or 'none (circle)'}: {', '.join(names)}")
    lines.append(f"circles: {len(structure.circles)}")
    lines += [f"  {len(circle)} files: {', '.join(name.partition('.')[2] for name in circle)}"
              for circle in structure.circles]
    for title, sizes in (("file", structure.files), ("class", structure.classes)):
        longest = max(sizes, key=lambda name: sizes[name])
        lines.append(f"longest {title}: {longest}, {sizes[longest]} lines")
    lines.append(f"all: {len(structure.files)} files, {sum(structure.files.values())} lines")
    return "\n".join(lines)


def outside(structure: Structure, bounds: Bounds) -> list[str]:
    """Return a line for everything that is outside of the bounds."""
    found = []
    if (count := len(structure.floors)) > bounds.entries:
        found.append(f"{count} entries in the root, at most {bounds.entries}")
    if (count := len(structure.circles)) > bounds.circles:
        found.append(f"{count} circles of files, at most {bounds.circles}")
    if in_circles := sorted(entry for entry, floor in structure.floors.items() if not floor):
        found.append(f"no floor, for a circle of entries: {', '.join(in_circles)}")
    if (highest := max(structure.floors.values())) > bounds.floors:
        found.append(f"{highest} floors, at most {bounds.floors}")
    for sizes, most in ((structure.files, bounds.file_lines), (structure.classes, bounds.class_lines)):
        found += [f"{name}: {lines} lines, at most {most}" for name, lines in sizes.items() if lines > most]
    return found


if __name__ == "__main__":
    sys.exit(main())
