"""Where things come from: the lock covers what is needed and is kept to, and no secret lies in the tree."""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from support.checkout import tracked
from support.hosts import REPOSITORY

pytestmark = pytest.mark.once

LOCK = REPOSITORY / ".ci" / "requirements.txt"
#: Extras that the environment of the main Python has.
EXTRAS = ("test", "docs", "measure")

#: What a secret looks like; each with an example, which the test puts together so that it does not find itself.
SECRETS = {
    "a private key": (r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY", "-----BEGIN RSA PRIVATE" + " KEY-----"),
    "a key of AWS": (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", "AKIA" + "ABCDEFGHIJKLMNOP"),
    "a token of GitHub": (r"\bgh[pousr]_[0-9A-Za-z]{36}|\bgithub_pat_[0-9A-Za-z_]{60}", "ghp_" + "a1" * 18),
    "a token of GitLab": (r"\bglpat-[0-9A-Za-z_-]{20}", "glpat-" + "a1" * 10),
    "a token of PyPI": (r"\bpypi-AgEIcHlwaS[0-9A-Za-z_-]{20}", "pypi-AgEIcHlwaS" + "a1" * 20),
    "a token of npm": (r"\bnpm_[0-9A-Za-z]{36}", "npm_" + "a1" * 18),
    "a token of Slack": (r"\bxox[abposr]-[0-9A-Za-z-]{10}", "xoxb-" + "123456789012"),
    "a key of Google": (r"\bAIza[0-9A-Za-z_-]{35}", "AIza" + "a" * 35),
    "a key of Stripe": (r"\b[rs]k_live_[0-9A-Za-z]{20}", "sk_live_" + "a1" * 12),
    "a JSON web token": (r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10}",
                         "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20),
    "a password in a URL": (r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>{}$*…]+:[^\s/:@\"'<>{}$*…]{3,}@",
                            "redis://u" + ":hunter2@h/0"),
    "a value that was given to a secret": (
        r"(?i)\b\w*(?:secret|password|passwd|api_?key|token)\w*[\"']?\s*[:=]\s*[\"']"
        r"(?=[^\"'\s]*[0-9])(?=[^\"'\s]*[A-Za-z])[0-9A-Za-z+/=_-]{24,}[\"']",
        "API_" + "KEY = '" + "a1B2" * 8 + "'"),
}
#: Text that looks like one and is none, by file and a part of the line.
KNOWN = {("tests/tools/test_snapshot.py", "http://user:" + "secret@h/"),
         ("tests/backplane/test_wrong_configuration.py", "redis://user:" + "p%40ss@h:1/2")}


def locked() -> dict[str, list[tuple[str, int]]]:
    """Return the versions that are locked, by name, each with how many hashes it has."""
    found: dict[str, list[tuple[str, int]]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", LOCK.read_text(encoding="utf-8")):
        match = re.match(r"([a-z0-9.-]+)==([^\s;]+)", block)
        if match:
            found.setdefault(match[1], []).append((match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block))))
    return found


def needed() -> list[Requirement]:
    """Return what ``setup.cfg`` asks for in the locked environment."""
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    lines = parser["options"]["install_requires"].splitlines()
    for extra in EXTRAS:
        lines += parser["options.extras_require"][extra].splitlines()
    return [Requirement(line) for line in lines if line.strip()]


@pytest.mark.parametrize("requirement", needed(), ids=lambda requirement: requirement.name)
def test_what_is_needed_is_locked(requirement: Requirement) -> None:
    """Every requirement of the package and its development has a locked version that fits; else: ``make lock``."""
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    assert name in locked(), "make lock"
    for version, _ in locked()[name]:
        assert requirement.specifier.contains(version, prereleases=True), "make lock"


def test_everything_locked_has_hashes() -> None:
    """And nothing comes from elsewhere than the registry."""
    assert len(locked()) > 50
    assert [name for name, versions in locked().items() if not all(hashes for _, hashes in versions)] == []
    text = LOCK.read_text(encoding="utf-8")
    assert not re.search(r"^\s*-(?!-hash)|://|^\s*\.|@ ", text, re.MULTILINE)


@pytest.fixture
def tasks() -> ModuleType:
    """What ``make`` runs."""
    spec = importlib.util.spec_from_file_location("tasks", REPOSITORY / ".ci" / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("right", [True, False])
def test_what_has_another_hash_is_not_installed(tasks: ModuleType, tmp_path: Path, right: bool) -> None:
    """A package that is not the one that was locked ends the task, and nothing is resolved anew."""
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing.py", "")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "thing.py,,\n")
    digest = hashlib.sha256(wheel.read_bytes() if right else b"another one").hexdigest()
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"thing==1.0 --hash=sha256:{digest}\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index",
           "--find-links", str(tmp_path), "--target", str(tmp_path / "into")]
    if right:
        tasks.install_locked(pip, lock)
        assert (tmp_path / "into" / "thing.py").exists()
    else:
        with pytest.raises(SystemExit, match="not what requirements"):
            tasks.install_locked(pip, lock)


@pytest.mark.parametrize(("told", "status", "said"), [
    ({"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}, 1, "CVE-1"),
    ({"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "?"}]}, 0, "1 of 2"),
    ({"dependencies": [{"name": "a", "skip_reason": "?"}]}, 0, "skipped"), (None, 0, "skipped")])
def test_the_audit_tells_what_the_registry_knows(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch, told: Any,
                                                 status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A vulnerability is an error; a registry that says nothing about them is told, and is none."""
    monkeypatch.setattr(tasks, "tools", lambda *names: "python")
    monkeypatch.setattr(tasks.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(
        command, 1, "" if told is None else json.dumps(told), "no answer"))
    assert tasks.audit([]) == status
    assert said in capsys.readouterr().out


def test_the_security_rules_are_on() -> None:
    """Ruff finds in the package what its rules S are for, and is not told to overlook it."""
    risky = 'import subprocess\n\nsubprocess.run("ls", shell=True)\neval("1")\nPASSWORD = "hunter2"\n'
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--output-format", "concise", "--stdin-filename",
                           "hakgal_hybrid/risky.py", "-"], input=risky, cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=60, check=False)
    assert {"S602", "S307", "S105"} <= set(re.findall(r"\bS\d+\b", done.stdout)), done.stdout + done.stderr


def found(text: str) -> list[tuple[str, str]]:
    """Return what looks like a secret in a text, with the line."""
    return [(kind, line.strip()[:120]) for line in text.splitlines() for kind, (pattern, _) in SECRETS.items()
            if re.search(pattern, line)]


def test_no_secret_lies_in_the_tree() -> None:
    """Neither in code, nor in documentation, nor in what tests record."""
    suspicious = []
    for path in map(REPOSITORY.joinpath, tracked()):
        name = path.relative_to(REPOSITORY).as_posix()
        if name.endswith(("package-lock.json", ".ci/requirements.txt", ".png", ".ico", ".woff2", ".gz")):
            continue  # hashes, and no text
        for kind, line in found(path.read_text(encoding="utf-8", errors="replace")):
            if not any(name == known and part in line for known, part in KNOWN):
                suspicious.append(f"{name}: {kind}: {line}")
    assert suspicious == []


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_would_be_found(kind: str) -> None:
    """Each rule finds its example, and none finds ordinary text."""
    assert kind in [name for name, _ in found(f"x = 1\nkey: {SECRETS[kind][1]}\n")] + [
        name for name, _ in found(SECRETS[kind][1])]
    assert found('token = secrets.token_urlsafe(32)\napi_key="k3y-of-the-house"\nhttp://localhost:5001/a@b\n') == []


def test_the_security_policy_is_part_of_the_documentation() -> None:
    """One text, found by whoever looks at the repository and whoever reads the documentation."""
    policy = (REPOSITORY / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    assert "## Reporting" in policy
    assert "../.github/SECURITY.md" in (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
