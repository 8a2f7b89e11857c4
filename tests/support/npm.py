"""Node and npm for the tests of the browser client: what they need, in a copy of the folder that names it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from .needs import missing

#: ``https://cdn.jsdelivr.net/npm/<package>@<version>/<file>``
_PACKAGED = re.compile(r"https://cdn\.jsdelivr\.net/npm/((?:@[^/]+/)?[^/@]+)@([^/]+)/(.+)")
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


def packaged(url: str, modules: Path) -> str | None:
    """Return the file that a URL of jsDelivr names, from the package of npm that has its name and version.

    :return: ``None`` if the URL names no package of npm.
    """
    found = _PACKAGED.fullmatch(url)
    if found is None:
        return None
    name, version, path = found.groups()
    for description in (*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")):
        package = json.loads(description.read_text(encoding="utf-8"))
        if (package["name"], package["version"]) == (name, version):
            return (description.parent / path).read_text(encoding="utf-8")
    raise AssertionError(f"{url}: no such package is installed")
