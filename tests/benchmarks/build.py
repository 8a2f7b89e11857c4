"""Compile the suite's C programs on the spot."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).parent / "c"


class Missing(Exception):
    """Something that has to be installed is not; its text says what."""


@functools.cache
def program(name: str) -> str:
    """Compile ``c/<name>.c`` with ``gcc -O2``; return the program's path.

    :raises Missing: without gcc.
    """
    if shutil.which("gcc") is None:
        raise Missing("gcc is not installed")
    target = _folder() / name
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(target), str(_SOURCES / f"{name}.c")], check=True)
    return str(target)


@functools.cache
def _folder() -> Path:
    holder = tempfile.TemporaryDirectory(prefix="bench-")
    _kept.append(holder)  # removed as the process ends
    return Path(holder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []
