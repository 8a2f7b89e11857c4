"""The browser client under Node: its files, its size, and the tests in ``client/``, each as a test here."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.npm import install
from support.servers import TESTS

from hakgal_hybrid.errors import ConfigurationError
from hakgal_hybrid.web import assets

#: The first test also waits for npm.
pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

CLIENT = TESTS.parent / "hakgal_hybrid" / "web" / "static" / "client"
SUITES = sorted((TESTS / "client").glob("*.test.mjs"))


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that the tests in Node import."""
    return install(TESTS / "client", tmp_path_factory.mktemp("client_modules")).parent


@pytest.fixture(scope="module")
def running(modules: Path, request: pytest.FixtureRequest) -> Iterator[dict[Path, subprocess.Popen[bytes]]]:
    """All suites that were selected at once, for they mostly wait; what each says is in a file beside the packages."""
    selected = {item.callspec.params.get("suite") for item in request.session.items
                if isinstance(item, pytest.Function) and hasattr(item, "callspec")}
    environ = {**os.environ, "PYTHON": sys.executable, "CLIENT_MODULES": str(modules)}
    with ExitStack() as stack:
        started = {}
        for suite in sorted(selected.intersection(SUITES)):
            said = stack.enter_context(said_by(suite, modules).open("wb"))
            started[suite] = subprocess.Popen(["node", "--test", str(suite)], env=environ, stdin=subprocess.DEVNULL,
                                              stdout=said, stderr=subprocess.STDOUT)
            stack.callback(started[suite].wait)
            stack.callback(started[suite].kill)
        yield started


def said_by(suite: Path, modules: Path) -> Path:
    return modules / f"{suite.name}.txt"


@pytest.mark.parametrize("suite", [
    pytest.param(path, id=(name := path.name.removesuffix(".test.mjs")),
                 marks=[pytest.mark.long] * (name in ("api", "tabs")))
    for path in SUITES])
def test_suite(suite: Path, modules: Path, running: dict[Path, subprocess.Popen[bytes]]) -> None:
    """Every test of one file passes, against real servers."""
    status = running[suite].wait(240)
    # With the history of a random test that failed.
    assert status == 0, said_by(suite, modules).read_text(encoding="utf-8", errors="replace")[-300_000:]


def test_there_are_suites() -> None:
    """The tests in Node are found."""
    assert {path.name for path in SUITES} >= {"api.test.mjs", "connection.test.mjs", "emits.test.mjs"}


@pytest.mark.parametrize("script", [assets.MODULE_SCRIPT, assets.CLASSIC_SCRIPT],
                         ids=["client.js", "client.classic.js"])
def test_size(script: bytes) -> None:
    """Under 11 KB (of 1024 bytes) gzipped, as it is shipped."""
    assert len(gzip.compress(script, 9)) < 11 * 1024


def test_it_depends_on_nothing() -> None:
    """Neither the module nor the package of npm's shape names anything else; and it says nothing of this machine."""
    assert "import " not in (CLIENT / "client.js").read_text().replace("import {", "", 0).split("\nexport ")[0]
    package = json.loads((CLIENT / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & package.keys()


def test_the_package_names_files_that_are_there() -> None:
    """What a bundler or TypeScript looks up in ``package.json`` exists."""
    package = json.loads((CLIENT / "package.json").read_text())
    named = [package["main"], package["types"], *package["exports"]["."].values(), *package["files"]]
    assert package["type"] == "module"
    assert [name for name in named if not (CLIENT / name).is_file()] == []


def test_classic_script_is_made_of_the_module() -> None:
    """The classic script is the module with another last statement: it sets the global ``io``."""
    module, script = (CLIENT / "client.js").read_text(), assets.CLASSIC_SCRIPT.decode()
    body, _, export = module.rpartition("\nexport ")
    assert export == "{ io, io as connect, Manager, Socket, io as default };\n"
    own, sent = "const OWN_URL = undefined;", "const OWN_URL = globalThis.document?.currentScript?.src;"
    assert body.count(own) == 1
    body = body.strip().replace(own, sent)
    assert body in script
    assert "export " not in script.replace(body, "")
    assert "globalThis.io = io;" in script.replace(body, "")
    assert assets.MODULE_SCRIPT.decode() == module.replace(own, "const OWN_URL = import.meta.url;")


@pytest.mark.parametrize("text", ["const io = 1;\n", "export { io };\nconst more = 1;\n"])
def test_classic_script_needs_the_export_statement_at_the_end(text: str) -> None:
    """A module of another form is refused as the package is imported, and not served in half."""
    with pytest.raises(ConfigurationError, match=r"client\.js"):
        assets.classic(text)
