"""Runs an unchanged start command in this interpreter, with the host's class hooked."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ..errors import ConfigurationError
from ..settings import Profile, current_profile, load_settings
from .hybridize import HOST_CLASS, HOST_MODULES, hook, hook_socketio, prepare

#: Set for child processes that shall be hooked too: ``module[,module…]:Class``, or empty for every ``SocketIO``.
INHERIT = "HAKGAL_HYBRID_INHERIT"

_PYTHON = re.compile(r"(?:python([0-9.]*)|py)(?:\.exe)?", re.IGNORECASE)
#: Options may be joined, as in ``-uc CODE`` or ``-mMODULE``; these take what follows.
_JOINED_COMMAND = re.compile(r"-([bBdEiIOPqRsSuvx]*)([cm])(.*)", re.DOTALL)
_NEEDS_VALUE = re.compile(r"-[bBdEiIOPqRsSuvx]*[XW]|--check-hash-based-pycs")


def arm(target: str | None = None, *, children: bool = False) -> None:
    """Prepare this process for a host: hook its class, and every ``SocketIO``; in profile WEBSOCKET do nothing at all.

    :param target: ``module:Class`` if a ``SocketIO`` shall be swapped only where this class makes it.
    :param children: have child Python processes armed as well.
    :raises ConfigurationError: for any setting in the environment that is not accepted.
    """
    if current_profile() is Profile.WEBSOCKET:
        return
    load_settings()
    modules: tuple[str, ...] = HOST_MODULES
    class_name = HOST_CLASS
    if target is not None:
        module, _, class_name = target.partition(":")
        modules = tuple(module.split(","))
        if not all(modules) or not class_name:
            raise ConfigurationError.bad_value("--class", target, "module:Class")
    if children:
        site = str(Path(__file__).parent / "child_hook")
        os.environ[INHERIT] = target or ""
        os.environ["PYTHONPATH"] = os.pathsep.join([site, *filter(None, [os.environ.get("PYTHONPATH")])])
    from .serving import report_at_serving  # by wrapt, which a rollback does without

    prepare()
    hook(modules, class_name)
    if target is None:
        hook_socketio()
    report_at_serving(target)


def run_command(command: list[str], again: list[str]) -> int:
    """Run ``python …`` or an installed Python command in this interpreter, as if it had been started alone.

    A bare ``python`` means this interpreter; the path of another one is started with us in front.

    :param command: the command and its arguments.
    :param again: our own options, for that case.
    :return: the exit status of a command that ran in another interpreter; otherwise the command ends the process
        itself, or 0.
    :raises ConfigurationError: if it is no Python command.
    """
    name, *arguments = command
    if not _PYTHON.fullmatch(Path(name).name):
        return _run_script(name, arguments)
    if not _is_this_interpreter(name):
        return _run_elsewhere([name], again, ["python", *arguments])
    options, arguments = _split_arguments(arguments)
    if options:  # such as -X or -W: they can only be given to an interpreter that starts
        return _run_elsewhere([sys.executable, *options], again, ["python", *arguments])
    return _run_python(arguments)


def _run_python(arguments: list[str]) -> int:
    if arguments[:1] == ["-c"] and len(arguments) > 1:
        _run_code(arguments[1], arguments[2:])
    elif arguments[:1] == ["-m"] and len(arguments) > 1:
        _begin_path_with(os.getcwd())
        sys.argv = [arguments[1], *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments and not arguments[0].startswith("-"):
        if not Path(arguments[0]).exists():
            raise ConfigurationError(f"there is no file {arguments[0]!r} to run")
        sys.argv = arguments
        _begin_path_with(str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        raise ConfigurationError("give python something to run: -c CODE, -m MODULE or a script")
    return 0


def _run_code(code: str, arguments: list[str]) -> None:
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["-c", *arguments]
    _begin_path_with("")
    exec(compile(code, "<string>", "exec"), main.__dict__)  # noqa: S102 (it is what python -c does)


def _begin_path_with(entry: str) -> None:
    """Put ``entry`` in the place of the folder that we ourselves were started from."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = entry


def _run_script(name: str, arguments: list[str]) -> int:
    """Run an installed console script (gunicorn, flask, waitress-serve, …) through its entry point."""
    for script in importlib.metadata.entry_points(group="console_scripts"):
        if script.name == Path(name).name.removesuffix(".exe"):
            sys.argv = [name, *arguments]
            sys.exit(script.load()())
    raise ConfigurationError(f"{name!r} is no Python command; use 'python …' or a command installed for {sys.prefix}")


def _split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the interpreter's own options from ``-c CODE``, ``-m MODULE`` or the script, and what follows."""
    options: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        item = rest.pop(0)
        if item == "--":
            break
        joined = _JOINED_COMMAND.fullmatch(item)
        if joined:
            flags, kind, value = joined.groups()
            return [*options, *([f"-{flags}"] if flags else [])], [f"-{kind}", *([value] if value else []), *rest]
        options.append(item)
        if _NEEDS_VALUE.fullmatch(item) and rest:
            options.append(rest.pop(0))
    return options, rest


def _is_this_interpreter(name: str) -> bool:
    if Path(name).name == name:
        version = _PYTHON.fullmatch(name)
        return version is None or version[1] in (None, "", "3", "{}.{}".format(*sys.version_info))
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(f"there is no interpreter {name!r}")
    # The folder is compared without following links: a virtual environment's python is a link to the one it was
    # made from. One folder may hold several versions.
    here, there = Path(sys.executable).absolute(), Path(found).absolute()
    return os.path.normcase(here.parent) == os.path.normcase(there.parent) and here.resolve() == there.resolve()


def _run_elsewhere(interpreter: list[str], again: list[str], command: list[str]) -> int:
    try:
        process = subprocess.Popen([*interpreter, "-m", "hakgal_hybrid", "exec", *again, "--", *command])
    except OSError as error:
        raise ConfigurationError(f"{interpreter[0]!r} cannot be started: {error}") from error
    with _forwarding_signals(process):
        status = process.wait()
    return status if status >= 0 else 128 - status  # a shell's status for a command that a signal ended


@contextmanager
def _forwarding_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the child decide what an interrupt means; hand a request to terminate on to it."""
    import signal

    def ignore(number: int, frame: object) -> None:
        """Do nothing: the terminal sends an interrupt to the child as well."""

    before = {signal.SIGINT: signal.signal(signal.SIGINT, ignore),
              signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
