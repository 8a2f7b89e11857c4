"""The package: what importing it costs, metadata, the wheel, and docstrings for all that is public."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.checkout import tracked
from support.hosts import REPOSITORY, environment, report

import hakgal_hybrid

PACKAGE = REPOSITORY / "hakgal_hybrid"

RUNTIME = {"flask", "flask-sock", "gevent", "h11", "blinker", "wrapt", "wsproto"}
EXTRAS = {"metrics", "measure", "redis", "socketio", "bench", "test", "docs"}
TOP_LEVEL = {
    ".ci", ".github", ".gitignore",
    ".ruff.toml", "CHANGES.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "docs",
    "examples", "hakgal_hybrid", "pyproject.toml", "setup.cfg", "tests",
}


def modules() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every file of the package, with the dotted name it has inside of it (packages as themselves)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield path, parts[:-1] if parts[-1] == "__init__" else parts


LOADED = """
import json, sys, warnings
warnings.simplefilter("error")
import hakgal_hybrid
{more}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


@pytest.mark.parametrize(
    ("more", "absent"),
    [("", {"flask", "gevent", "redis", "flask_sock", "wrapt", "flask_socketio", "eventlet", "click"}),
     ("hakgal_hybrid.hybridize, hakgal_hybrid.prepare, hakgal_hybrid.Settings",
      {"flask", "gevent", "redis", "flask_sock", "wrapt", "flask_socketio", "eventlet"}),
     ("hakgal_hybrid.HybridTransport", {"gevent", "redis", "flask_sock", "wrapt", "flask_socketio", "eventlet"}),
     ("import hakgal_hybrid.socketio", {"gevent", "redis", "flask_sock", "flask_socketio", "eventlet"})],
    ids=["package", "hybridize", "transport", "socketio"],
)
def test_importing_costs_little(tmp_path: Path, more: str, absent: set[str]) -> None:
    """Importing the package loads neither gevent nor redis nor flask_sock; each name only what it needs."""
    loaded = set(report(tmp_path, LOADED.format(more=more)))
    assert not loaded & absent


# -- metadata ----------------------------------------------------------------------------------------------------


def normalized(requirement: str) -> str:
    """The name of a requirement, as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", requirement.strip(), maxsplit=1)[0]).lower()


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    """``setup.cfg``."""
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def listed(value: str) -> list[str]:
    """The lines of a multi-line value."""
    return [line.strip() for line in value.splitlines() if line.strip()]


def test_requirements_are_those_agreed_on(setup: configparser.ConfigParser) -> None:
    """Five packages at run time, everything else in extras; Python from 3.10."""
    requires = listed(setup["options"]["install_requires"])
    assert {normalized(item) for item in requires} == RUNTIME
    assert all(re.search(r"[<>=]", item) for item in requires), "each says from which version"
    assert set(setup["options.extras_require"]) == EXTRAS
    assert all(map(listed, setup["options.extras_require"].values())), "none is empty"
    for extra, package in (("metrics", "prometheus-client"), ("socketio", "flask-socketio")):
        names = {normalized(item) for item in listed(setup["options.extras_require"][extra])}
        assert package in names
        assert not names & RUNTIME
    assert setup["options"]["python_requires"] == ">=3.10"
    assert setup["metadata"]["license"] == "MIT"
    urls = dict(re.split(r"\s*=\s*", line) for line in listed(setup["metadata"]["project_urls"]))
    assert {"Documentation", "Changes", "Issues", "Source"} <= set(urls)
    assert all(url.startswith(setup["metadata"]["url"]) for url in urls.values())
    assert setup["metadata"]["version"] == "attr: hakgal_hybrid.__version__"


def test_entry_points_lead_somewhere(setup: configparser.ConfigParser) -> None:
    """The console script and the pytest plugin name what can be imported."""
    points = setup["options.entry_points"]
    assert listed(points["console_scripts"]) == ["hakgal-hybrid = hakgal_hybrid.tools.cli:main"]
    assert listed(points["pytest11"]) == ["hakgal_hybrid = hakgal_hybrid.testing"]
    assert listed(points["flask.commands"]) == ["hybrid = hakgal_hybrid.tools.commands.group:flask_group"]
    for line in [line for kind in ("console_scripts", "pytest11", "flask.commands") for line in listed(points[kind])]:
        module, _, name = line.split("=")[1].strip().partition(":")
        loaded: Any = importlib.import_module(module)
        assert not name or callable(getattr(loaded, name))


def test_what_is_installed_is_what_is_here() -> None:
    """The installed metadata has this version, so that the tests try this package."""
    try:
        version = importlib.metadata.version("hakgal_hybrid")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert version == hakgal_hybrid.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", version)


def test_pyproject_says_how_to_build_and_nothing_else() -> None:
    """All else is in ``setup.cfg``."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r"^\[(.+)\]", text, re.MULTILINE) == ["build-system"]
    assert 'build-backend = "setuptools.build_meta"' in text


def test_nothing_lies_about() -> None:
    """The top level holds what was agreed on, and no file is a leftover of running or building."""
    names = tracked()
    assert {name.split("/")[0] for name in names} <= TOP_LEVEL
    for name in names:
        assert not re.search(r"(\.pyc|\.db|\.log|\.egg-info/.*|~|\.orig|\.rej|\.DS_Store)$", name), name


# -- the wheel ---------------------------------------------------------------------------------------------------


def checkout(folder: Path) -> Path:
    """A copy of what git has."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def built(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or an sdist: without the network if this environment has a backend, else in isolation."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("build is not installed")
    command = [sys.executable, "-m", "build", f"--{kind}", "--outdir", str(target), str(source)]
    try:
        version = tuple(int(part) for part in importlib.metadata.version("setuptools").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        version = (0, 0)
    if version >= (70, 1):  # from there on it needs no wheel package
        command.append("--no-isolation")
    done = subprocess.run(command, check=False, env=environment(target.parent), capture_output=True, text=True,
                          timeout=100)
    output = done.stdout + done.stderr
    if done.returncode and re.search(r"No matching distribution|Could not find a version|NewConnectionError", output):
        pytest.skip("neither setuptools >= 70.1 nor a package index to get it from")
    assert done.returncode == 0, output
    assert "is absent from the `packages` configuration" not in output
    [result] = target.iterdir()
    return result


@pytest.mark.once
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """It has every file of the package's folder, and neither tests nor examples."""
    wheel = built("wheel", checkout(tmp_path / "source"), tmp_path / "dist")
    assert wheel.name == f"hakgal_hybrid-{hakgal_hybrid.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        dist_info = f"hakgal_hybrid-{hakgal_hybrid.__version__}.dist-info"
        metadata = archive.read(f"{dist_info}/METADATA").decode()
        scripts = archive.read(f"{dist_info}/entry_points.txt").decode()
    packaged = {name for name in names if not name.startswith(f"{dist_info}/")}
    assert packaged == {name for name in tracked() if name.startswith("hakgal_hybrid/")}
    assert any(name.endswith("LICENSE") for name in names)
    assert "hakgal-hybrid = hakgal_hybrid.tools.cli:main" in scripts
    assert {normalized(line.partition(":")[2]) for line in metadata.splitlines()
            if line.startswith("Requires-Dist") and "extra ==" not in line} == RUNTIME


@pytest.mark.once
@pytest.mark.long
def test_the_sdist_holds_all_that_its_tests_need(tmp_path: Path) -> None:
    """It has every file that git has, and tests pass from there: units, a server in a process, the documentation."""
    sdist = built("sdist", checkout(tmp_path / "source"), tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    folder = tmp_path / sdist.name.removesuffix(".tar.gz")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    made = {name for name in names if name == "PKG-INFO" or name.startswith("hakgal_hybrid.egg-info/")}
    assert names - made == set(tracked())
    for pyc in folder.rglob("*.pyc"):
        pyc.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "tests/test_testing.py", "tests/project/test_structure.py",
         "tests/project/test_package.py", "tests/project/test_docs.py", "tests/server/test_server.py", "-k",
         "collect or structure or requirements or link or readme or access_log"],
        cwd=folder, env=environment(tmp_path, PYTHONPATH=str(folder)), check=False, capture_output=True, text=True,
        timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 15  # type: ignore[index]


# -- explained ---------------------------------------------------------------------------------------------------


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The public classes and functions of a module, and the public methods of its public classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.If, ast.Try)):
            yield from public(child, prefix)
        elif isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and child.name[0] != "_":
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{prefix}{child.name}.")


def test_everything_public_is_explained() -> None:
    """Every module, public class, function and method has a docstring that is a sentence."""
    silent = []
    for path, name in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for title, node in [("", tree), *public(tree)]:
            text = ast.get_docstring(node)  # type: ignore[arg-type]
            setter = any("setter" in ast.unparse(item) for item in getattr(node, "decorator_list", []))
            if not setter and (not text or len(text.split()) < 2 or text.split("\n\n")[0].rstrip()[-1] not in ".:!?)"):
                silent.append(".".join(["hakgal_hybrid", *name, *([title] if title else [])]))
    assert silent == []
