"""Node and npm for the tests of the browser client: what they need, in a copy of the folder that names it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .needs import missing

#: What npm says where there is no network.
_OFFLINE = re.compile(r"^npm (?:error|ERR!) code (EAI_AGAIN|ENOTFOUND|ECONN\w+|E\w*TIMEDOUT|ENETUNREACH)", re.MULTILINE)


def install(source: Path, folder: Path) -> Path:
    """Copy ``package.json`` and its lock file from ``source`` and install what they name; return the folder."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("no Node.js with npm: apt-get install nodejs npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(source / name, folder / name)
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=250)
    if _OFFLINE.search(done.stdout):
        missing(f"npm cannot reach its registry: {done.stdout[-1000:]}")
    assert done.returncode == 0, done.stdout
    return folder / "node_modules"
