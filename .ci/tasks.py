"""What ``make`` runs, on any system: ``python .ci/tasks.py TASK [ARGS…]``, the tasks those of ``main``.

Needs nothing but a Python from 3.10 on; makes the virtual environments it needs beside the sources.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
MAIN = "3.11"
#: What the environment of the main Python is made of: every package with its version and hashes.
LOCK = ROOT / ".ci" / "requirements.txt"
LOCKED = "test,docs,measure"
#: Where the figures are that the documentation shows.
KEPT = ROOT / "docs" / "faults"
#: What a long run of the fuzz tests tries, each.
FUZZ_EXAMPLES = "5000"
#: No step of the tests takes nearly so long (seconds): one that hangs is ended, and the next ones still run.
LIMIT_S = 2400
#: What lint consists of.
LINT = ("types", "types on Windows", "ruff", "docstrings", "imports", "structure")
#: As many files at a time as there are processors, each whole in one worker, those that take longest first. Tests that
#: are not long have one more, since most of them wait for processes that they have started.
WHOLE_FILES = ["--dist", "loadfile", "--no-loadscope-reorder"]
SIDE_BY_SIDE = ["-n", str(os.cpu_count() or 1), *WHOLE_FILES]
ONE_MORE = ["-n", str((os.cpu_count() or 1) + 1), *WHOLE_FILES]


def main(task: str, arguments: list[str]) -> int:
    os.chdir(ROOT)
    tasks = {"demo": demo, "test": test, "compat": compat, "coverage": coverage, "lint": lint, "docs": docs,
             "bench": bench, "faults": faults, "soak": soak, "torture": torture, "fuzz": fuzz,
             "guard": guard, "figures": figures, "lock": lock, "audit": audit, "clean": clean}
    if task not in tasks:
        print(__doc__, file=sys.stderr)
        return 2
    return tasks[task](arguments)


# -- tasks -------------------------------------------------------------------------------------------------------


def demo(arguments: list[str]) -> int:
    """With eventlet, which the backend's later vintage patches itself with where it finds it."""
    python = environment(".venv", sys.executable, "measure,socketio", ["eventlet>=0.36"])
    return run([python, "examples/demo/demo.py", *arguments])


def figures(arguments: list[str]) -> int:
    """Take anew what the README shows: its table, plots and photographs (``ARGS="--minutes 1"``: a shorter history)."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    install_browsers_things()
    return run([python, ".ci/figures.py", *arguments])


def docs(arguments: list[str]) -> int:
    python = environment(".venv-docs", sys.executable, "docs")
    return run([python, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *arguments])


def lint(arguments: list[str]) -> int:
    """Look for errors without running anything; ``ARGS`` names some of the steps (``ARGS=types``)."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    return summary(lint_results(python, arguments or list(LINT)))


def lint_results(python: str, names: Iterable[str]) -> list[tuple[str, bool]]:
    """Run these steps, as many at a time as there are processors; return each with whether it passed."""
    commands = {
        "ruff": ["-m", "ruff", "check", "."],
        "types": ["-m", "mypy"],
        # The results of the other platform are kept apart: one would throw away those of the other.
        "types on Windows": ["-m", "mypy", "--platform", "win32", "--cache-dir", ".mypy_cache/win32"],
        "imports": ["-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-logo"],
        "structure": [".ci/structure.py"],
        "docstrings": ["-m", "flake8", "hakgal_hybrid"],
        "documentation": ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"],
    }
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = {name: pool.submit(run, [python, *commands[name]], LIMIT_S, apart=True) for name in names}
        return [(name, status.result() == 0) for name, status in running.items()]


def test(arguments: list[str]) -> int:
    """Lint, types, docs and every test on the main Python; or, with arguments of pytest, a part of the tests."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    install_browsers_things()
    install_network_things()
    if arguments:
        return run([python, "-m", "pytest", *arguments])
    results = lint_results(python, [*LINT, "documentation"])
    results += run_tests(f"Python {MAIN}", python)
    return summary(results)


def compat(arguments: list[str]) -> int:
    """Run what ``test`` leaves out: the long tests, and the others with the oldest Flask and on every other Python."""
    install_browsers_things()
    install_network_things()
    found = interpreters()
    newest, oldest = "flask>=3.1,<4", "flask>=2.3,<2.4 werkzeug>=2.3,<2.4"
    plan = [(version, found.get(version), newest) for version in VERSIONS if version not in (MAIN, "3.10")]
    first = "3.10" if "3.10" in found else MAIN
    plan.insert(0, (first, found.get(first, sys.executable), oldest))
    if first != "3.10":
        plan.append(("3.10", None, newest))
    python = environment(".venv-test", found.get(MAIN, sys.executable), LOCKED)
    long = run([python, "-m", "pytest", "-q", *SIDE_BY_SIDE, "-m", "long"], LIMIT_S)
    results = [(f"long tests on Python {MAIN}", long == 0)]
    for version, path, flask in plan:
        name = f"Python {version} with {flask}"
        if path is None:
            print(f"\nskipped: {name}: no such Python on this machine")
            continue
        results += run_tests(name, environment(f".venv-{version}", path, "test,measure", flask.split()), "not once")
    return summary(results)


def run_tests(name: str, python: str, marked: str = "") -> list[tuple[str, bool]]:
    """Run the tests that have these marks: first side by side, then those that need a quiet machine one by one.

    None is run a second time: what passes only by itself needs the mark, or is broken.
    """
    marked = f"not long and {marked}" if marked else "not long"
    steps = [(f"tests on {name}", [*ONE_MORE, "-m", f"{marked} and not quiet"]),
             (f"tests that need a quiet machine, on {name}", ["-m", f"{marked} and quiet"])]
    return [(title, run([python, "-m", "pytest", "-q", *options], LIMIT_S) == 0) for title, options in steps]


def summary(results: list[tuple[str, bool]]) -> int:
    """Print which steps passed; return the exit status."""
    print("\n" + "\n".join(f"{'passed' if ok else 'FAILED'}  {name}" for name, ok in results))
    return 0 if all(ok for _, ok in results) else 1


def coverage(arguments: list[str]) -> int:
    """Run the tests under coverage, which also measures the processes they start; several times as slow as without.

    But for those with threads by the hundred: where coverage follows greenlets, the end of such threads sends it into
    an endless loop inside of greenlet's clearing up (seen with coverage 7.17, greenlet 3.5, Python 3.11).
    """
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    install_browsers_things()
    install_network_things()
    status = run([python, "-m", "coverage", "erase"])
    status |= run([python, "-m", "coverage", "run", "-m", "pytest", *SIDE_BY_SIDE, "--ignore",
                   "tests/broker/test_threads.py", *arguments])
    status |= run([python, "-m", "coverage", "combine", "--quiet"])
    return status | run([python, "-m", "coverage", "report"])


def guard(arguments: list[str]) -> int:
    """Compare the instructions of fixed workloads with those at ``BASE``, else where this branch left main."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    install_browsers_things()
    return run([python, "-m", "tests.guard", *arguments])


def fuzz(arguments: list[str]) -> int:
    """Try what comes in for long (``make fuzz ARGS="-k bytes"``); FUZZ_EXAMPLES says how many examples a test tries."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    os.environ.setdefault("FUZZ_EXAMPLES", FUZZ_EXAMPLES)
    return run([python, "-m", "pytest", "-o", "timeout=0", "tests/fuzz", "tests/web/test_openapi.py", *arguments])


def lock(arguments: list[str]) -> int:
    """Resolve what development needs anew, for every system, and write it down with hashes."""
    python = tools(".venv-lock", "uv>=0.8")
    needed = ROOT / ".ci" / "build.in"
    needed.write_text("setuptools>=70.1\nwheel\n")
    extras = [word for name in LOCKED.split(",") for word in ("--extra", name)]
    try:
        status = run([python, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", MAIN,
                      "--generate-hashes", "--no-header", "--no-annotate", *extras, "setup.cfg", str(needed),
                      "--output-file", str(LOCK), *arguments])
    finally:
        needed.unlink()
    if status == 0:
        LOCK.write_text("# What development and CI on Python 3.11 install, with hashes. Made by \"make lock\" of "
                        "setup.cfg; not to be edited.\n" + LOCK.read_text())
    return status


def audit(arguments: list[str]) -> int:
    """Ask the registry for known vulnerabilities of what is locked; say so where it does not answer such questions."""
    python = tools(".venv-audit", "pip-audit>=2.7")
    command = [python, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip",
               "--progress-spinner", "off", "--format", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        asked = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(done.stderr, file=sys.stderr)
        print("skipped: the registry cannot be asked for vulnerabilities from here")
        return 0
    answered = [item for item in asked if "vulns" in item]
    for item in answered:
        for found in item["vulns"]:
            print(f"{item['name']} {item['version']}: {found['id']}, mended in {found['fix_versions'] or 'nothing'}")
    if not answered:
        print("skipped: the registry here does not say which vulnerabilities are known")
    else:
        print(f"{len(answered)} of {len(asked)} packages were looked up")
    return int(any(item["vulns"] for item in answered))


def bench(arguments: list[str]) -> int:
    """Measure this library beside its peers; peers that are not installed and cannot be are left out."""
    python = environment(".venv-bench", interpreters().get(MAIN, sys.executable), "bench")
    install_benchmark_peers()
    return run([python, "-m", "tests.benchmarks", *arguments])


def faults(arguments: list[str]) -> int:
    """Do to servers under load what may happen to them, at full length; print the table, and write it as JSON.

    With ``--keep`` the figures go into the documentation, and so do those of the other tests that its guarantees name.
    With further arguments (``-k disk``) only those of some faults do, for what the last whole run has not.
    """
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    install_browsers_things()
    install_network_things()
    keep, arguments = kept(arguments)
    os.environ.setdefault("FAULTS", "full")
    some = keep and bool(arguments)
    os.environ["FAULTS_JSON"] = str((KEPT if keep else ROOT / "build") / ("some.json" if some else "faults.json"))
    status = run([python, "-m", "pytest", "-q", "-o", "timeout=600", "tests/faults", *arguments])
    if keep and not some:
        (KEPT / "some.json").unlink(missing_ok=True)
        os.environ.update(PYTHONPATH=str(ROOT / "tests"), PROOFS_JSON=str(KEPT / "proofs.json"))
        names = ROOT / "build" / "proofs.txt"
        names.parent.mkdir(exist_ok=True)
        names.write_text("\n".join(proofs()))
        status = max(status, run([python, "-m", "pytest", "-q", "-p", "support.kept", f"@{names}"]))
    return status


def soak(arguments: list[str]) -> int:
    """Let 500 clients come and go under faults for 10 minutes (``ARGS="--minutes 1"``); nothing may grow or be lost.

    With ``--keep`` the figures go into the documentation.
    """
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    os.environ["PYTHONPATH"] = str(ROOT / "tests")
    keep, arguments = kept(arguments)
    path = (KEPT if keep else ROOT / "build") / "soak.json"
    return run([python, "-m", "support.soak", "--json", str(path), *arguments])


def torture(arguments: list[str]) -> int:
    """Do to Redis, processes and connections what may happen to them, scenario by scenario (``ARGS="twins --seed 7"``).

    With ``--mutants``, take the rules of the shared log away one by one: a scenario must fail without each.
    """
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), LOCKED)
    install_network_things()
    os.environ["PYTHONPATH"] = str(ROOT / "tests")
    return run([python, "-m", "support.torture", *arguments])


def kept(arguments: list[str]) -> tuple[bool, list[str]]:
    """Take ``--keep`` out of the arguments; return whether it was there, and the rest."""
    return "--keep" in arguments, [argument for argument in arguments if argument != "--keep"]


def proofs() -> list[str]:
    """Return the tests that the page of guarantees names, besides those that are faults."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    found = dict.fromkeys(re.findall(r"^(tests/[\w/]+\.py::\w+)$", page, re.MULTILINE))
    return [name for name in found if not name.startswith("tests/faults/")]


def clean(arguments: list[str]) -> int:
    for pattern in (".venv*", ".coverage*", "build", "docs/_build", "*.egg-info", ".mypy_cache", ".ruff_cache",
                    ".hypothesis", ".import_linter_cache"):
        for path in ROOT.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return 0


# -- means -------------------------------------------------------------------------------------------------------


def run(command: list[str], limit_s: float | None = None, *, apart: bool = False) -> int:
    """Run a command, showing it and how long it took; return its exit status, 124 if it took longer than it may.

    What it says is shown at once; of a command that runs beside others (``apart``) when it has ended.
    """
    shown, said = f"\n$ {' '.join(command)}\n", b""
    if not apart:
        print(shown, end="", flush=True)
    # One hash seed for all workers, which must agree on the names of the tests. Byte code is kept whatever the
    # environment says: the tests start hundreds of processes, and each would compile everything anew.
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.monotonic()
    try:
        done = subprocess.run(command, env=environ, check=False, timeout=limit_s,
                              stdout=subprocess.PIPE if apart else None, stderr=subprocess.STDOUT if apart else None)
        status, said = done.returncode, done.stdout or b""
    except KeyboardInterrupt:
        return 130
    except subprocess.TimeoutExpired as error:
        status, said = 124, error.stdout or b""
    text = said.decode(errors="replace")
    print(f"{shown if apart else ''}{text}({time.monotonic() - started:.0f} s, status {status})", flush=True)
    return status


def interpreters() -> dict[str, str]:
    """Return the path of every supported CPython on this machine, by version."""
    candidates = [sys.executable, *(path for version in VERSIONS if (path := shutil.which(f"python{version}")))]
    candidates += map(str, sorted(Path.home().glob(".pyenv/versions/*/bin/python")))
    if shutil.which("py"):  # the launcher of Windows
        candidates += [f"py|-{version}" for version in VERSIONS]
    found: dict[str, str] = {}
    question = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name, sys.executable, sep='|')"
    for candidate in candidates:
        try:
            answer = subprocess.run([*candidate.split("|"), "-c", question], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        version, name, path = answer.stdout.strip().split("|")
        if name == "cpython" and version in VERSIONS:
            found.setdefault(version, path)
    return found


def environment(folder: str, interpreter: str, extras: str, more: list[str] | None = None) -> str:
    """Make a virtual environment with this package installed, unless it is there already; return its Python."""
    path = ROOT / folder
    python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    locked = LOCK if extras == LOCKED and not more and version_of(interpreter) == MAIN else None
    recipe = f"{requirements()}{interpreter}{extras}{more}{locked and locked.read_text()}"
    wanted = hashlib.sha256(recipe.encode()).hexdigest()
    stamp = path / "made-of"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    shutil.rmtree(path, ignore_errors=True)
    print(f"making {folder} with {interpreter}", flush=True)
    make_venv(path, interpreter)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if locked is None:
        subprocess.run([*pip, "setuptools>=70.1", "wheel"], check=True)
    else:
        install_locked(pip, locked)
    subprocess.run([*pip, "--no-build-isolation", "-e", f".[{extras}]", *(more or [])], check=True)
    stamp.write_text(wanted)
    return str(python)


def requirements() -> dict[str, dict[str, str]]:
    """Return what of ``setup.cfg`` an environment depends on: how the package is installed, and with what."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return {name: dict(parser[name]) for name in parser.sections() if name.startswith("options")}


def install_locked(pip: list[str], locked: Path) -> None:
    """Install what is locked, and nothing whose hash is another one.

    A version that this machine's registry does not have (any more) is no reason to stop: everything is resolved anew.
    """
    done = subprocess.run([*pip, "--require-hashes", "-r", str(locked)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    print(done.stdout + done.stderr, file=sys.stderr)
    if "DO NOT MATCH THE HASHES" in done.stderr.upper():
        raise SystemExit(f"what the registry gives is not what {locked.name} says: stopped")
    print("what is locked cannot be installed here; everything is resolved anew (then: make lock)", file=sys.stderr)
    subprocess.run([*pip, "setuptools>=70.1", "wheel"], check=True)


def version_of(interpreter: str) -> str:
    """Return the version of a Python, as in ``3.11``."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", question], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def tools(folder: str, *requirements: str) -> str:
    """Make a virtual environment for tools that are not the package's, unless it is there; return its Python."""
    path = ROOT / folder
    python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = path / "made-of"
    if not stamp.exists() or stamp.read_text() != repr(requirements):
        shutil.rmtree(path, ignore_errors=True)
        make_venv(path, sys.executable)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        stamp.write_text(repr(requirements))
    return str(python)


def install_browsers_things() -> None:
    """Have the browser, Node and npm for the browser client, valgrind and gcc, from Debian's packages, as root.

    Elsewhere the tests that need them skip.
    """
    if not can_install():
        return
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        apt_install("chromium")
    if not (shutil.which("node") and shutil.which("npm")):
        apt_install("nodejs", "npm")
    if not shutil.which("valgrind"):
        apt_install("valgrind")
    if not (shutil.which("gcc") and Path("/usr/include/stdio.h").exists()):
        apt_install("gcc", "libc6-dev")


def install_benchmark_peers() -> None:
    """Have the compiler and the servers of the benchmarks from Debian's packages, as root."""
    wanted = {"gcc": shutil.which("gcc"), "libc6-dev": Path("/usr/include/stdio.h").exists(),
              "redis-server": shutil.which("redis-server"), "nginx": shutil.which("nginx"),
              "libnginx-mod-nchan": Path("/usr/lib/nginx/modules/ngx_nchan_module.so").exists()}
    missing = [name for name, found in wanted.items() if not found]
    if missing and can_install():
        apt_install(*missing)


def can_install() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(*packages: str) -> None:
    subprocess.run(["apt-get", "update", "-q"], check=False)
    subprocess.run(["apt-get", "install", "-qy", *packages], check=True, stdin=subprocess.DEVNULL,
                   env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def install_network_things() -> None:
    """Have the proxies, Redis, and what makes networks and certificates, from Debian's packages, as root."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    wanted = {"nginx": "nginx", "caddy": "caddy", "ip": "iproute2", "openssl": "openssl", "curl": "curl",
              "redis-server": "redis-server"}
    missing = [package for command, package in wanted.items() if not shutil.which(command, path=path)]
    if missing and can_install():
        apt_install(*missing)


def make_venv(path: Path, interpreter: str) -> None:
    """Make an empty virtual environment. Debian's Python may lack what that needs; as root we can install it."""
    command = [interpreter, "-m", "venv", str(path)]
    if subprocess.run(command, check=False).returncode == 0:
        return
    shutil.rmtree(path, ignore_errors=True)
    if can_install():
        apt_install("python3-venv")
        subprocess.run(command, check=True)
        return
    raise SystemExit(f"{interpreter} cannot make a virtual environment; install python3-venv "
                     "(sudo apt-get install python3-venv), then try again")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]))
