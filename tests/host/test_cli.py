"""The command line: start commands run as Python would run them, with the host hooked; ``run``; wrong values."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from support.hosts import (
    EXEC,
    EXEC_MODULE,
    SCRIPT,
    SRC,
    START,
    Stream,
    alive,
    environment,
    example_host,
    free_port,
    running,
    until,
)

import hakgal_hybrid
from hakgal_hybrid import HybridTransport
from hakgal_hybrid.commands.node import Node
from hakgal_hybrid.host.launcher import INHERIT
from hakgal_hybrid.socketio.substitution import restore
from hakgal_hybrid.tools.cli import main

needs_script = pytest.mark.skipif(SCRIPT is None, reason="the console script is not installed here")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and exit statuses")

#: A module with a host class and factories, as small as can be.
TINY = '''
from flask import Flask
from flask_socketio import SocketIO

def create_websocket_adapter(app, facts, engine):
    return object(), SocketIO(app, async_mode="threading")

class Api:
    def __init__(self, enable_websocket=True, name="tiny"):
        self.app, self.socketio, self.name = Flask(name), None, name
        self.app.add_url_rule("/health", "health", lambda: {"name": name, "push": self.socketio is not None})
        if enable_websocket:
            self.websocket_adapter, self.socketio = create_websocket_adapter(self.app, None, None)

    def run(self, host, port, debug):
        if self.socketio:
            self.socketio.run(self.app, host=host, port=port, debug=debug, allow_unsafe_werkzeug=True)
        else:
            self.app.run(host=host, port=port, debug=debug, threaded=True, use_reloader=False)

def create_api(name="made", push=False):
    return Api(push, name)

def create_app(name="factory"):
    app = Flask(name)
    app.add_url_rule("/health", "health", lambda: {"name": name})
    return app

app = create_app("plain")
number = 7
'''


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing from outside, and everything put back that starting a command in this process changes."""
    for name in list(os.environ):
        if name.startswith(("APP_PROFILE", "HYBRID_", "ENABLE_", "HAKGAL_", "LEGACY_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    before, ours = dict(sys.modules), logging.getLogger("hakgal_hybrid")
    handlers, level = list(ours.handlers), ours.level
    yield
    restore()
    ours.handlers[:], ours.level = handlers, level
    for name in sys.modules.keys() - before.keys():
        if name.startswith(("tiny", "eventlet")):
            del sys.modules[name]
    sys.modules["__main__"] = before["__main__"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with the module ``tiny_host``."""
    (tmp_path / "tiny_host.py").write_text(TINY)
    return tmp_path


def invoke(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def shell(folder: Path, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    return subprocess.run(command, check=False, env=environment(folder, **env), cwd=folder, capture_output=True,
                          text=True, timeout=60, stdin=subprocess.DEVNULL)


# -- exec, as Python would have it -------------------------------------------------------------------------------

TELL = "import json, sys; print(json.dumps([__name__, sys.argv, sys.path, sys.flags.dev_mode, sys.warnoptions]))"


@pytest.mark.parametrize(
    "arguments",
    [["-c", TELL], ["-c", TELL, "-m", "--flag", "x y"], ["-m", "teller", "a", "-c"], ["-m", "package", "a"],
     ["teller.py", "-x", "--", "a"], ["./teller.py"], ["-X", "dev", "-c", TELL, "a"],
     ["-W", "ignore", "teller.py", "a"], ["-uc", TELL, "a"], [f"-c{TELL}", "a"], ["-mteller", "a"],
     ["-uW", "ignore", "-mteller"], ["-Wignore", "-bm", "teller"],
     ["--", "teller.py", "--", "a"]],
    ids=lambda arguments: " ".join(arguments).replace(TELL, "CODE"),
)
def test_python_sees_what_it_would_see_alone(tmp_path: Path, arguments: list[str]) -> None:
    """``__name__``, ``sys.argv``, ``sys.path`` and the interpreter's options are those of the bare command."""
    (tmp_path / "teller.py").write_text(TELL)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(TELL)
    alone = shell(tmp_path, [sys.executable, *arguments])
    hooked = shell(tmp_path, [*EXEC_MODULE, "python", *arguments])
    assert (alone.returncode, hooked.returncode) == (0, 0), hooked.stderr
    assert json.loads(hooked.stdout) == json.loads(alone.stdout)


@needs_script
def test_the_console_script_leaves_no_trace_on_the_path(tmp_path: Path) -> None:
    """The folder of the console script does not stay on ``sys.path``."""
    alone = shell(tmp_path, [sys.executable, "-c", TELL])
    hooked = shell(tmp_path, [*EXEC, "python", "-c", TELL])
    assert json.loads(hooked.stdout) == json.loads(alone.stdout)


@pytest.mark.parametrize("prefix", [pytest.param(EXEC, marks=needs_script), EXEC_MODULE], ids=["script", "module"])
@pytest.mark.parametrize(
    ("code", "status"),
    [("pass", 0), ("import sys; sys.exit(7)", 7), ("raise SystemExit('told')", 1), ("1 / 0", 1),
     ("import os; os._exit(9)", 9), ("raise EOFError", 1), ("raise BrokenPipeError(32, 'x')", 1)],
)
def test_exit_statuses_are_the_commands(tmp_path: Path, prefix: list[str], code: str, status: int) -> None:
    """The exit status is that of the command, and what it raised is told as Python tells it."""
    done = shell(tmp_path, [*prefix, "python", "-c", code])
    assert done.returncode == status
    for error in ("ZeroDivisionError", "EOFError", "BrokenPipeError"):
        assert (f"\n{error}" in done.stderr) is (error in code or (error[0] == "Z" and code == "1 / 0"))
    assert ("told" in done.stderr) is ("told" in code)


def test_exit_statuses_pass_through_another_interpreter(tmp_path: Path) -> None:
    """Where options need an interpreter of its own, its exit status is ours."""
    done = shell(tmp_path, [*EXEC_MODULE, "python", "-X", "utf8", "-c", "import sys; sys.exit(7)"])
    assert done.returncode == 7


@posix
def test_a_signal_that_ends_another_interpreter_is_told_as_a_shell_tells_it(tmp_path: Path) -> None:
    """A command that is killed by signal 9 gives 137."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert shell(tmp_path, [*EXEC_MODULE, "python", "-X", "utf8", "-c", code]).returncode == 128 + signal.SIGKILL


@posix
def test_a_request_to_terminate_reaches_another_interpreter(tmp_path: Path) -> None:
    """SIGTERM to us ends the server in the interpreter we started, which ends cleanly, and then us."""
    port = free_port()
    code = START.format(src=SRC, push=False, port=port, extra="")
    with running(tmp_path, [*EXEC_MODULE, "python", "-X", "utf8", "-c", code], port) as host:
        [child] = [process for process in host.family() if process.pid != host.process.pid]
        assert host.get("/api/hybrid/status").status == 200
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(30) == 0
        assert not alive(child)


def test_another_interpreter_is_started_with_us_in_front(tmp_path: Path) -> None:
    """The path of another interpreter runs there, hooked, with our options."""
    folder = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = shutil.which("python", path=str(scripts))
    assert python is not None
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(Path(hakgal_hybrid.__path__[0]).parent)]
    [packages] = [path for path in folder.rglob("site-packages") if path.is_dir()]
    (packages / "ours.pth").write_text("\n".join(dict.fromkeys(places)))
    (tmp_path / "tiny_host.py").write_text(TINY)
    code = ("import json, sys, tiny_host\n"
            "print(json.dumps([sys.prefix, sys.argv, tiny_host.Api.__dict__.get('__hybridized__')]))")
    prefix = [*EXEC_MODULE[:-1], "--class", "tiny_host:Api", "--"]
    done = shell(tmp_path, [*prefix, python, "-c", code, "a"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(folder), ["-c", "a"], True]


def test_the_path_of_this_interpreter_means_this_process(tmp_path: Path) -> None:
    """Our own interpreter's path, or ``python`` beside it, does not cost a second process."""
    for python in (sys.executable, shutil.which("python", path=str(Path(sys.executable).parent)) or sys.executable):
        done = subprocess.Popen([*EXEC_MODULE, python, "-c", "import os; print(os.getpid())"], cwd=tmp_path,
                                env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
        out, _ = done.communicate(timeout=30)
        if os.name != "nt":  # there, a virtual environment's python is a launcher
            assert int(out) == done.pid


@pytest.mark.parametrize(
    ("command", "words"),
    [(["no-such-command", "x"], ["'no-such-command'", "no Python command"]),
     (["/no/such/python", "-c", "1"], ["no interpreter", "python"]),
     (["python"], ["something to run"]), (["python", "-c"], ["something to run"]),
     (["python", "-"], ["something to run"]),
     (["python", "no_such_script.py"], ["no file", "'no_such_script.py'"]),
     (["python9.9", "-c", "1"], ["'python9.9'", "cannot be started"]), ([], ["COMMAND"])],
    ids=" ".join,
)
def test_a_command_that_cannot_be_run_is_refused(command: list[str], words: list[str]) -> None:
    """What is no Python command ends with status 2 and a line that says what is."""
    result = invoke("exec", "--", *command)
    assert result.exit_code == 2
    for word in words:
        assert word in result.output


@pytest.mark.parametrize("command", [["ls"], ["python", "no_such_script.py"]], ids=" ".join)
def test_the_real_error_comes_alone(tmp_path: Path, command: list[str]) -> None:
    """Nobody is warned that no host was hybridized where nothing was run."""
    done = shell(tmp_path, [*EXEC_MODULE, *command])
    assert done.returncode == 2
    assert "no host was hybridized" not in done.stderr


@pytest.mark.parametrize("own", [True, False])
def test_log_lines_come_once(tiny: Path, own: bool) -> None:
    """A line of ours is shown by the handlers of the host once it has set up logging, else by ours; never by both."""
    code = (f"import logging\nif {own}: logging.basicConfig(level=logging.INFO)\n"
            "logging.getLogger('hakgal_hybrid').warning('a line of ours')")
    done = shell(tiny, [*EXEC_MODULE, "python", "-c", code])
    assert done.stderr.count("a line of ours") == 1


@pytest.mark.parametrize("target", ["tiny_host", ":Api", "tiny_host:", "a,,b:Api"])
def test_a_class_that_is_no_module_and_class_is_refused(target: str) -> None:
    """``--class`` takes ``module:Class`` only."""
    result = invoke("exec", "--class", target, "--", "python", "-c", "pass")
    assert result.exit_code == 2
    assert f"--class={target!r} is not accepted; use module:Class" in result.output


def test_exec_hooks_the_named_class(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--class`` the class is hybridized as its module is imported, in this very process."""
    monkeypatch.syspath_prepend(tiny)
    script = tiny / "tiny_start.py"
    script.write_text("import tiny_host, sys\nprint(type(tiny_host.Api(False).socketio).__module__, sys.argv[1:])")
    result = invoke("exec", "--class", "tiny_host:Api", "--", "python", str(script), "a")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "hakgal_hybrid.socketio.socketio ['a']"


@pytest.mark.parametrize("way", ["-c", "-m"])
def test_exec_runs_code_and_modules_in_this_process(tiny: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """``-c`` and ``-m`` run as ``__main__`` with their own arguments."""
    monkeypatch.syspath_prepend(tiny)
    code = "import sys; print(__name__, sys.argv[1:]); sys.exit(3)"
    (tiny / "tiny_module.py").write_text(code)
    monkeypatch.chdir(tiny)
    result = invoke("exec", "--", "python", way, code if way == "-c" else "tiny_module", "a", "-b")
    assert (result.exit_code, result.output.splitlines()[-1]) == (3, "__main__ ['a', '-b']")


def test_an_installed_command_runs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console script is run through its entry point."""
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")  # flask's command sets it for good
    result = invoke("exec", "--", "flask", "--version")
    assert result.exit_code == 0
    assert "Werkzeug" in result.output


# -- child processes ---------------------------------------------------------------------------------------------

CHILD = ("import tiny_host, json, os; print(json.dumps([tiny_host.Api.__dict__.get('__hybridized__', False), "
         "os.environ.get('REAL_ONE')]), flush=True)")
PARENT = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {CHILD!r}]).returncode)"


@pytest.mark.parametrize("children", [True, False])
def test_children_are_hooked_if_asked_only(tiny: Path, children: bool) -> None:
    """With ``--children`` a child's import of the host is hooked too; without it, it is not."""
    options = ["--class", "tiny_host:Api", *(["--children"] if children else [])]
    done = shell(tiny, [*EXEC_MODULE[:-1], *options, "--", "python", "-c", PARENT])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [children, None]


def test_a_childs_own_sitecustomize_still_runs(tiny: Path) -> None:
    """Ours makes way for the one it hides."""
    own = tiny / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import os; os.environ['REAL_ONE'] = __file__")
    done = shell(tiny, [*EXEC_MODULE[:-1], "--class", "tiny_host:Api", "--children", "--", "python", "-c", PARENT],
                 PYTHONPATH=str(own))
    assert json.loads(done.stdout) == [True, str(own / "sitecustomize.py")], done.stderr


def test_a_child_that_cannot_be_hooked_starts_all_the_same(tiny: Path) -> None:
    """A wrong setting in a child's environment is reported, and the child runs as it would without us."""
    parent = f"import os, subprocess, sys; os.environ['HYBRID_THREADS'] = 'many'; {PARENT}"
    done = shell(tiny, [*EXEC_MODULE[:-1], "--class", "tiny_host:Api", "--children", "--", "python", "-c", parent])
    assert json.loads(done.stdout) == [False, None]
    assert "this child process is not armed" in done.stderr
    assert "HYBRID_THREADS='many'" in done.stderr


def test_rollback_arms_no_children(tiny: Path) -> None:
    """In profile WEBSOCKET ``--children`` leaves the environment of children alone."""
    code = f"import os, sys; print([os.environ.get(name) for name in ({INHERIT!r}, 'PYTHONPATH')])"
    done = shell(tiny, [*EXEC_MODULE[:-1], "--children", "--", "python", "-c", code], APP_PROFILE="WEBSOCKET")
    assert done.stdout.strip() == "[None, None]"


# -- wrong values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [("APP_PROFILE", "HYBIRD", "HYBRID, WEBSOCKET or DUAL"),
     ("ENABLE_SSE", "maybe", "true, false, 1, 0, yes, no, on, off"),
     ("HYBRID_THREADS", "0", "a whole number from 1 to"), ("HYBRID_THREAD", "1", "did you mean HYBRID_THREADS?"),
     ("HAKGAL_PORT", "http", "a whole number from 0 to 65535")],
)
@pytest.mark.parametrize("command", [["exec", "--", "python", "-c", "print('ran')"], ["run", "tiny_host:app"]],
                         ids=["exec", "run"])
def test_a_wrong_setting_ends_the_start(tiny: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], variable: str,
                                        value: str, accepted: str) -> None:
    """Exit status 2 and one line that names variable, value and what is accepted; nothing is run."""
    monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tiny)
    result = invoke(*command)
    assert result.exit_code == 2
    [line] = [line for line in result.output.splitlines() if line.startswith("Error")]
    for part in (variable, repr(value), accepted):
        assert part in line
    assert "ran" not in result.output.split()


@needs_script
def test_a_wrong_setting_ends_a_real_start(tmp_path: Path) -> None:
    """The same from a shell: status 2, no traceback."""
    done = shell(tmp_path, [*EXEC, "python", "-c", "print('ran')"], ENABLE_SSE="maybe")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ENABLE_SSE='maybe' is not accepted" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_that_cannot_be_carried_ends_with_a_line(tiny: Path) -> None:
    """An error of ours while the host is constructed is a line and status 2, not a traceback."""
    code = ("from flask import Flask\nfrom hakgal_hybrid import HybridTransport\napp = Flask('x')\n"
            "HybridTransport(app)\nHybridTransport(app)\n")
    done = shell(tiny, [*EXEC_MODULE, "python", "-c", code])
    assert done.returncode == 2
    assert "already has a HybridTransport" in done.stderr
    assert "Traceback" not in done.stderr


# -- the two ways to call it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [pytest.param([SCRIPT], marks=needs_script), [sys.executable, "-m", "hakgal_hybrid"]],
    ids=["script", "module"],
)
def test_script_and_module_are_one(tmp_path: Path, command: list[str]) -> None:
    """``hakgal-hybrid`` and ``python -m hakgal_hybrid`` know the same version and commands."""
    version = shell(tmp_path, [*command, "--version"])
    assert (version.returncode, version.stdout.split()[-1]) == (0, hakgal_hybrid.__version__)
    usage = shell(tmp_path, [*command, "-h"]).stdout
    assert usage.startswith("Usage: hakgal-hybrid ")
    for word in ("exec", "run"):
        assert word in usage


# -- run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [pytest.param([SCRIPT], marks=needs_script), EXEC_MODULE[:3]],
                         ids=["script", "module"])
def test_run_serves_the_example_hosts_class(tmp_path: Path, prefix: list[str]) -> None:
    """``run module:Class --app-dir`` swaps and serves, with the class's keywords from ``--set``."""
    port = free_port()
    command = [*prefix, "run", "hexagonal_api_enhanced_clean:HexagonalAPI", "--app-dir", str(SRC), "--port", str(port),
               "--set", "use_legacy=false", "--set", "enable_governor=false"]
    with running(tmp_path, command, port) as host, Stream(port) as stream:
        assert host.get("/health").body["repository"] == "sqlite"
        assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
        assert stream.first("fact_added")["success"] is True
        refused = host.post("/api/governor/control", {"action": "start"})
        assert (refused.status, refused.body["code"]) == (409, "no_governor")


def test_run_serves_the_example_hosts_factory(tmp_path: Path) -> None:
    """``run module:create_app`` hooks the class that the factory makes."""
    port = free_port()
    command = [*EXEC_MODULE[:3], "run", "hexagonal_api_enhanced_clean:create_app", "--app-dir", str(SRC), "--port",
               str(port), "--set", "enable_all=false"]
    with running(tmp_path, command, port) as host, Stream(port) as stream:
        host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."})
        assert stream.first("fact_added")["success"] is True


def test_run_rolls_back(tmp_path: Path) -> None:
    """In profile WEBSOCKET ``run`` gives the class its WebSocket and serves it as the host would."""
    port = free_port()
    command = [*EXEC_MODULE[:3], "run", "hexagonal_api_enhanced_clean:HexagonalAPI", "--app-dir", str(SRC), "--port",
               str(port)]
    with running(tmp_path, command, port, APP_PROFILE="WEBSOCKET", LEGACY_VINTAGE="early") as host:
        assert host.get("/api/status").body["websocket"]["enabled"] is True
        assert host.get("/socket.io/?EIO=4&transport=polling").status == 200
        assert host.get("/api/events/stream").status == 405


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> list[dict[str, Any]]:
    """What would have been served: our server and Flask's are replaced by one that notes what it is given."""
    calls: list[dict[str, Any]] = []

    class Server:
        def __init__(self, node: Node, application: Any, host: str, port: int, **options: Any) -> None:
            calls.append({"by": "ours", "name": node.app.name, "transport": HybridTransport.of(node.app),
                          "at": (host, port)})

        def serve_forever(self) -> None: ...

    monkeypatch.setattr("hakgal_hybrid.server.server.Server", Server)
    monkeypatch.setattr(Flask, "run", lambda app, host, port, **options: calls.append(
        {"by": "flask", "name": app.name, "transport": app.extensions.get("hakgal_hybrid"), "at": (host, port)}))
    monkeypatch.chdir(tiny)
    return calls


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["tiny_host:Api"], "tiny"), (["tiny_host:Api", "--set", "name=other"], "other"),
     (["tiny_host:Api", "--set", 'name="quoted"'], "quoted"), (["tiny_host:create_api"], "made"),
     (["tiny_host:create_app"], "factory"), (["tiny_host:create_app", "--set", "name=given"], "given"),
     (["tiny_host:app"], "plain")],
    ids=" ".join,
)
def test_run_takes_classes_factories_and_apps(served: list[dict[str, Any]], arguments: list[str], name: str) -> None:
    """Whatever the name stands for is served by our server, with a transport, on the address that was asked for."""
    result = invoke("run", *arguments, "--host", "127.0.0.5", "--port", "5099")
    assert result.exit_code == 0, result.output
    [call] = served
    assert (call["by"], call["name"], call["at"]) == ("ours", name, ("127.0.0.5", 5099))
    assert isinstance(call["transport"], HybridTransport)
    assert call["transport"].mode == "sse"


@pytest.mark.parametrize("target", ["tiny_host:Api", "tiny_host:app", "tiny_host:create_app"])
def test_run_leaves_everything_alone_in_rollback(
        served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """In profile WEBSOCKET nothing is given a transport."""
    monkeypatch.setenv("APP_PROFILE", "WEBSOCKET")
    result = invoke("run", target, "--port", "5099", *(["--set", "enable_websocket=false"] if "Api" in target else []))
    assert result.exit_code == 0, result.output
    [call] = served
    assert (call["by"], call["transport"]) == ("flask", None)


def test_run_takes_its_port_from_the_environment(
        served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """``HAKGAL_PORT`` is the port if ``--port`` is not given, and 5001 if neither is."""
    assert invoke("run", "tiny_host:create_app").exit_code == 0
    monkeypatch.setenv("HAKGAL_PORT", "5123")
    assert invoke("run", "tiny_host:create_app").exit_code == 0
    assert [call["at"] for call in served] == [("127.0.0.1", 5001), ("127.0.0.1", 5123)]


def test_run_uses_the_transport_an_app_has(served: list[dict[str, Any]], tiny: Path) -> None:
    """An app that made its own transport keeps it."""
    (tiny / "tiny_app.py").write_text("from flask import Flask\nfrom hakgal_hybrid import HybridTransport\n"
                                      "app = Flask('own')\ntransport = HybridTransport(app, max_streams=3)\n")
    result = invoke("run", "tiny_app:app")
    assert result.exit_code == 0, result.output
    assert served[0]["transport"] is importlib.import_module("tiny_app").transport


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["tiny_host"], ["'tiny_host'", "MODULE:NAME"]), ([":app"], ["MODULE:NAME"]), (["tiny_host:"], ["MODULE:NAME"]),
     (["tiny_host:nothing"], ["'tiny_host'", "'nothing'"]), (["tiny_nowhere:app"], ["'tiny_nowhere'", "--app-dir"]),
     (["tiny_host.sub:app"], ["'tiny_host.sub'", "--app-dir"]), (["../tiny_host:app"], ["MODULE:NAME", "--app-dir"]),
     ([".tiny_host:app"], ["MODULE:NAME", "--app-dir"]),
     (["tiny_host:number"], ["'tiny_host:number'", "Flask app"]),
     (["tiny_host:app", "--set", "name"], ["--set", "KEY=JSON"]), (["tiny_host:app", "--set", "a b=1"], ["KEY=JSON"]),
     (["tiny_host:app", "--set", "name=1"], ["--set is for classes and factories", "'tiny_host:app'"]),
     (["tiny_host:app", "--port", "99999"], ["--port", "65535"]), (["tiny_host:app", "--port", "-1"], ["--port"]),
     (["json:loads"], ["'json:loads' cannot be called so", "'s'", "--set"]),
     (["tiny_host:create_api", "--set", "nam=1"], ["cannot be called so", "'nam'"]),
     (["json:dumps"], ["'json:dumps'"]), (["os:getcwd"], ["'os:getcwd'", "Flask app"]),
     (["builtins:dict"], ["Flask app"]),
     (["tiny_host:app", "--app-dir", "no/such"], ["--app-dir", "no/such"]), ([], ["MODULE:NAME"])],
    ids=" ".join,
)
def test_run_refuses_what_cannot_be_served(
        served: list[dict[str, Any]], arguments: list[str], words: list[str]) -> None:
    """Exit status 2 and a line that says what is wrong and what would be right."""
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert served == []
    for word in words:
        assert word in result.output


@pytest.mark.parametrize("missing", ["no_such_dependency", "tiny"])
def test_run_shows_what_the_host_itself_is_missing(tiny: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """A dependency of the host that is not installed is told by the host's own traceback, not as a wrong target."""
    (tiny / "tiny_needy.py").write_text(f"import {missing}\n")
    monkeypatch.chdir(tiny)
    with pytest.raises(ModuleNotFoundError, match=f"'{missing}'"):
        invoke("run", "tiny_needy:app")


# -- gunicorn ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="gunicorn runs on POSIX only")
def test_gunicorn_serves_the_example_host(tmp_path: Path) -> None:
    """``exec -- gunicorn -k gthread`` serves the unchanged host through a wsgi module, stream and control included."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    port = free_port()
    (tmp_path / "wsgi_example.py").write_text(textwrap.dedent("""
        from hexagonal_api_enhanced_clean import HexagonalAPI
        api = HexagonalAPI(use_legacy=False, enable_websocket=False)
        app = api.app
    """))
    target = "hexagonal_api_enhanced_clean:HexagonalAPI"
    command = [*EXEC_MODULE[:-1], "--class", target, "--", "gunicorn", "-k", "gthread", "--threads", "8", "--bind",
               f"127.0.0.1:{port}", "--pythonpath", str(SRC), "--chdir", str(tmp_path), "--graceful-timeout", "1",
               "wsgi_example:app"]
    with running(tmp_path, command, port) as host:
        with Stream(port) as stream:
            assert host.post("/api/facts", {"statement": "IsA(Platypus, Monotreme)."}).status == 201
            assert stream.first("fact_added")["statement"] == "IsA(Platypus, Monotreme)."
            assert host.post("/api/governor/control", {"action": "start"}).status in (200, 202)
            assert stream.first("control_result")["action"] == "start"
            assert host.post("/api/governor/control", {"action": "stop"}).status in (200, 202)
            stream.first("control_result", lambda data: data["action"] == "stop")
        # Such a server notices that a client is gone when it writes to it: every request of this host emits.
        until(lambda: host.get("/health") and host.get("/api/hybrid/status").body["streams"] == 0, "it is forgotten")


def test_the_start_command_runs_by_either_prefix(tmp_path: Path) -> None:
    """Script and module start the unchanged command alike."""
    for prefix in (EXEC, EXEC_MODULE):
        with example_host(tmp_path, prefix=prefix, LEGACY_VINTAGE="early") as host:
            assert host.get("/api/hybrid/status").body["transport"] == "sse"
            assert host.stop() == 0
