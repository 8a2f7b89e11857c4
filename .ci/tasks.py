"""What ``make`` runs, on any system: ``python .ci/tasks.py demo|test|lint|docs|bench|faults|soak|clean [ARGS…]``.

Needs nothing but a Python from 3.10 on; makes the virtual environments it needs beside the sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
MAIN = "3.11"
#: Most tests wait for processes and sockets: several files at a time, each whole in one worker.
SIDE_BY_SIDE = ["-n", "3", "--dist", "loadfile"]


def main(task: str, arguments: list[str]) -> int:
    os.chdir(ROOT)
    tasks = {"demo": demo, "test": test, "lint": lint, "docs": docs, "bench": bench, "faults": faults,
             "soak": soak, "clean": clean}
    if task not in tasks:
        print(__doc__, file=sys.stderr)
        return 2
    return tasks[task](arguments)


# -- tasks -------------------------------------------------------------------------------------------------------


def demo(arguments: list[str]) -> int:
    python = environment(".venv", sys.executable, "measure,socketio")
    return run([python, "examples/demo/demo.py", *arguments])


def docs(arguments: list[str]) -> int:
    python = environment(".venv-docs", sys.executable, "docs")
    return run([python, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *arguments])


def lint(arguments: list[str]) -> int:
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), "test,docs,measure")
    return max(run([python, "-m", "ruff", "check", "."]), run([python, "-m", "mypy"]))


def test(arguments: list[str]) -> int:
    """Lint, types, docs and every test on the main Python; then the tests on other Pythons and Flasks."""
    found = interpreters()
    python = environment(".venv-test", found.get(MAIN, sys.executable), "test,docs,measure")
    install_browsers_things()
    install_faults_things()
    if arguments:  # a part of the tests, while developing
        return run([python, "-m", "pytest", *arguments])
    steps = [
        ("ruff", [[python, "-m", "ruff", "check", "."]]),
        ("mypy --strict", [[python, "-m", "mypy"]]),
        ("documentation", [[python, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs",
                            "docs/_build/html"]]),
        ("tests with coverage", covered(python)),
    ]
    results = [(name, all(status == 0 for status in map(run, commands))) for name, commands in steps]
    results += compatibility(found)
    print("\n" + "\n".join(f"{'passed' if ok else 'FAILED'}  {name}" for name, ok in results))
    return 0 if all(ok for _, ok in results) else 1


def bench(arguments: list[str]) -> int:
    """Measure this library beside its peers; peers that are not installed and cannot be are left out."""
    python = environment(".venv-bench", interpreters().get(MAIN, sys.executable), "bench")
    install_benchmark_peers()
    return run([python, "-m", "tests.benchmarks", *arguments])


def faults(arguments: list[str]) -> int:
    """Do to servers under load what may happen to them, at full length; print the table, and write it as JSON."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), "test,docs,measure")
    install_faults_things()
    os.environ["FAULTS"] = "full"
    os.environ.setdefault("FAULTS_JSON", str(ROOT / "build" / "faults.json"))
    return run([python, "-m", "pytest", "-q", "-o", "timeout=600", "tests/faults", *arguments])


def soak(arguments: list[str]) -> int:
    """Let 500 clients come and go under faults for 10 minutes (``ARGS="--minutes 1"``); nothing may grow or be lost."""
    python = environment(".venv-test", interpreters().get(MAIN, sys.executable), "test,docs,measure")
    os.environ["PYTHONPATH"] = str(ROOT / "tests")
    return run([python, "-m", "support.soak", "--json", str(ROOT / "build" / "soak.json"), *arguments])


def clean(arguments: list[str]) -> int:
    for pattern in (".venv*", ".coverage*", "build", "docs/_build", "*.egg-info", ".mypy_cache", ".ruff_cache",
                    ".hypothesis"):
        for path in ROOT.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return 0


def covered(python: str) -> list[list[str]]:
    """The tests under coverage, which also measures the processes they start."""
    return [[python, "-m", "coverage", "erase"],
            [python, "-m", "coverage", "run", "-m", "pytest", *SIDE_BY_SIDE],
            [python, "-m", "coverage", "combine", "--quiet"],
            [python, "-m", "coverage", "report"]]


def compatibility(found: dict[str, str]) -> list[tuple[str, bool]]:
    """Run the tests with the oldest Flask, and on every other Python that is here."""
    newest, oldest = "flask>=3.1,<4", "flask>=2.3,<2.4 werkzeug>=2.3,<2.4"
    plan = [(version, found.get(version), newest) for version in VERSIONS if version not in (MAIN, "3.10")]
    first = "3.10" if "3.10" in found else MAIN
    plan.insert(0, (first, found.get(first, sys.executable), oldest))
    if first != "3.10":
        plan.append(("3.10", None, newest))
    results = []
    for version, path, flask in plan:
        name = f"tests on Python {version} with {flask}"
        if path is None:
            print(f"\nskipped: {name}: no such Python on this machine")
            continue
        python = environment(f".venv-{version}", path, "test", flask.split())
        results.append((name, run([python, "-m", "pytest", "-q", "-m", "not once", *SIDE_BY_SIDE]) == 0))
    return results


# -- means -------------------------------------------------------------------------------------------------------


def run(command: list[str]) -> int:
    """Run a command, showing it and how long it took; return its exit status."""
    print(f"\n$ {' '.join(command)}", flush=True)
    started = time.monotonic()
    try:
        # One hash seed for all workers, which must agree on the names of the tests.
        status = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    except KeyboardInterrupt:
        return 130
    print(f"({time.monotonic() - started:.0f} s, status {status})", flush=True)
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
    wanted = hashlib.sha256(f"{(ROOT / 'setup.cfg').read_text()}{interpreter}{extras}{more}".encode()).hexdigest()
    stamp = path / "made-of"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    shutil.rmtree(path, ignore_errors=True)
    print(f"making {folder} with {interpreter}", flush=True)
    make_venv(path, interpreter)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "setuptools>=70.1", "wheel"], check=True)
    subprocess.run([*pip, "--no-build-isolation", "-e", f".[{extras}]", *(more or [])], check=True)
    stamp.write_text(wanted)
    return str(python)


def install_browsers_things() -> None:
    """Have the browser, Node and npm for the browser client, and valgrind, from Debian's packages, as root.

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


def install_faults_things() -> None:
    """Have the compiler and the ``ip`` of the fault suite, from Debian's packages, as root."""
    wanted = {"gcc": shutil.which("gcc"), "libc6-dev": Path("/usr/include/stdio.h").exists(),
              "iproute2": shutil.which("ip")}
    missing = [name for name, found in wanted.items() if not found]
    if missing and sys.platform == "linux" and can_install():
        apt_install(*missing)


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
