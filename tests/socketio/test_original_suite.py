"""Flask-SocketIO's own tests, from the archive of its release, on this package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from support.hosts import REPOSITORY
from support.needs import missing
from support.redis_server import RedisServer

pytestmark = pytest.mark.once

RELEASE = "flask-socketio==5.7.0"
PASSED = 43


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of Flask-SocketIO's ``test_socketio.py``. The archive must have one of the hashes that are locked."""
    folder = tmp_path_factory.mktemp("release")
    locked = (REPOSITORY / ".ci" / "requirements.txt").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^{RELEASE} \\\n(?:    --hash=\S+(?: \\)?\n)+", locked, re.M)
    (folder / "wanted.txt").write_text(block, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "--no-build-isolation",
         "--disable-pip-version-check", "--require-hashes", "-d", str(folder), "-r", str(folder / "wanted.txt")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        missing(f"pip cannot get {RELEASE}: {done.stdout[-1000:]}")
    with tarfile.open(archives[0]) as archive:
        member = next(name for name in archive.getnames() if name.endswith("/test_socketio.py"))
        found = archive.extractfile(member)
        assert found is not None
        return found.read().decode()


def passed(folder: Path, text: str, *prefix: str, **environ: str) -> str:
    """Run the suite; return its last line."""
    (folder / "test_socketio.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *prefix, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
         "test_socketio.py"], cwd=folder, env={**os.environ, **environ}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip().splitlines()[-1]


def test_suite_passes_as_it_is(suite: str, tmp_path: Path) -> None:
    """Started by the prefix, it passes without a change to it."""
    prefix = ("-m", "hakgal_hybrid", "exec", "--", sys.executable)
    assert passed(tmp_path, suite, *prefix).startswith(f"{PASSED} passed")


def test_suite_passes_on_our_module(suite: str, tmp_path: Path) -> None:
    """With ``hakgal_hybrid.socketio`` in its one import, it passes without Flask-SocketIO."""
    assert "\nfrom flask_socketio import " in suite
    own = suite.replace("\nfrom flask_socketio import ", "\nfrom hakgal_hybrid.socketio import ")
    assert passed(tmp_path, own).startswith(f"{PASSED} passed")


def test_suite_passes_with_a_backplane(suite: str, tmp_path: Path) -> None:
    """It passes too where every event goes by way of a Redis. (Flask-SocketIO has no test client for that.)"""
    redis = RedisServer(tmp_path)
    try:
        own = suite.replace("\nfrom flask_socketio import ", "\nfrom hakgal_hybrid.socketio import ")
        assert passed(tmp_path, own, HYBRID_BACKPLANE=redis.url).startswith(f"{PASSED} passed")
    finally:
        redis.kill()
