"""What git has of this project."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from .hosts import REPOSITORY


def tracked() -> list[str]:
    """Return what git has or would take, relative to the repository."""
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout")
    listing = subprocess.run([git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY,
                             check=True, capture_output=True, text=True, timeout=30)
    return [name for name in listing.stdout.split("\0") if name and (REPOSITORY / name).is_file()]
