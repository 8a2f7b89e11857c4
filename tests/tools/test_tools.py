"""The operator's commands, against running hosts; under Flask's own command line; completion in shells."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.hosts import SCRIPT, Running, Stream, environment, example_host, free_port, running, until
from support.patients import patient

import hakgal_hybrid
from hakgal_hybrid.tools.cli import main
from hakgal_hybrid.tools.commands.group import TOOLS, flask_group
from hakgal_hybrid.tools.commands.printing import pretty, shown
from hakgal_hybrid.tools.measure.snapshot import load

MODULE = [sys.executable, "-m", "hakgal_hybrid"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The example host."""
    with example_host(tmp_path_factory.mktemp("host"), HYBRID_HEARTBEAT_S="1") as server:
        yield server


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests must not change them."""
    monkeypatch.delenv("HAKGAL_API_KEY", raising=False)


def at(server: Running) -> str:
    """The URL of a server."""
    return f"http://127.0.0.1:{server.port}"


def invoke(*arguments: str, stdin: str | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, list(arguments), input=stdin)


def lines(result: Result) -> list[Any]:
    """What was printed, each line JSON."""
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- tail --------------------------------------------------------------------------------------------------------


class Tailing:
    """``tail`` in a process of its own."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.process = subprocess.Popen([*MODULE, "tail", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, text=True, encoding="utf-8",
                                        env={**os.environ, "PYTHONIOENCODING": "utf-8", **env})
        self._threads = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(pipe: Any, into: list[str]) -> None:
        for line in pipe:
            into.append(line.rstrip("\n"))

    def told(self) -> list[Any]:
        """What was printed so far, each line JSON."""
        return [json.loads(line) for line in list(self.lines)]

    def __enter__(self) -> Tailing:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.process.kill()
        self.process.wait(30)
        for thread in self._threads:
            thread.join(30)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def test_tail_prints_what_was_asked_for(host: Running) -> None:
    """Names are filtered, lines are JSON, and the command ends after as many events as were asked for."""
    with Tailing(at(host), "--events", "fact_*", "--json", "--count", "2") as tail:
        until(lambda: [line for line in tail.told() if line["type"] == "open"], "it is open", 30)
        for number in range(2):
            assert host.post("/api/facts", {"statement": f"Tailed(Number{number}, Now)."}).status == 201
        assert tail.process.wait(30) == 0
        until(lambda: len(tail.lines) == 3, "all is read")
        opened, *events = tail.told()
    assert "token" not in json.dumps(opened)
    assert [(event["type"], event["event"], event["data"]["statement"]) for event in events] == [
        ("event", "fact_added", "Tailed(Number0, Now)."), ("event", "fact_added", "Tailed(Number1, Now).")]
    assert all(event["id"] and event["ts"] for event in events)


@pytest.mark.long
def test_tail_comes_back_and_shows_the_gap(tmp_path: Path) -> None:
    """The host is stopped and started again: the connection is told as lost, then open, and the gap stands between."""
    port = free_port()
    script = tmp_path / "app.py"
    script.write_text(
        "import sys, threading\nfrom flask import Flask\nfrom hakgal_hybrid import HybridTransport\n"
        "app = Flask('tailed')\ntransport = HybridTransport(app, retry_ms=50)\n"
        "@app.get('/health')\ndef health():\n    transport.emit('seen', 'ü\\x1b[2J')\n    return {}\n"
        "transport.run('127.0.0.1', int(sys.argv[1]))\n", encoding="utf-8")
    command = [sys.executable, str(script), str(port)]
    with Tailing(f"127.0.0.1:{port}") as tail:
        for _ in range(2):
            with running(tmp_path, command, port) as server:
                enough = len(tail.lines) + 2
                until(lambda host=server, count=enough: host.get("/health") and len(tail.lines) >= count,
                      "events come (again)", 40)
        until(lambda: any("lost" in line for line in tail.errors), "the loss is told")
    gaps = [line for line in tail.lines if line.startswith("-- gap: an unknown number of events missing (restarted)")]
    assert len(gaps) == 1, tail.lines
    assert any(re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3}  seen  "ü\\u001b\[2J"', line) for line in tail.lines), tail.lines
    assert sum("connected" in line for line in tail.errors) == 2


def test_tail_says_that_it_got_nothing(host: Running) -> None:
    """Its exit status is 1 if there was no connection, or fewer events than were waited for."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert invoke("tail", nowhere, "--for", "0.2").exit_code == 1
    assert invoke("tail", at(host), "--events", "never", "--count", "1", "--for", "0.5").exit_code == 1
    assert invoke("tail", at(host), "--events", "never", "--for", "0.5").exit_code == 0


@pytest.mark.parametrize("command", [["status"], ["control", "start"], ["emit", "hello"]], ids=" ".join)
def test_a_host_without_this_package_is_named(tmp_path: Path, command: list[str]) -> None:
    """What the host itself says to a URL that it does not know would help nobody."""
    with example_host(tmp_path, prefix=[], push=True, LEGACY_VINTAGE="early") as server:
        told = invoke(command[0], at(server), *command[1:])
    assert told.exit_code == 1
    assert "not by this package" in told.stderr
    assert at(server) in told.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_tail_ends_as_it_should(host: Running) -> None:
    """With Ctrl-C, with the pipe that it writes to, and after a time: always without a traceback."""
    with Tailing(at(host), "--json") as tail:
        until(lambda: tail.lines, "it is open", 30)
        tail.process.send_signal(signal.SIGINT)
        assert tail.process.wait(30) == 130
    assert "Traceback" not in "\n".join(tail.errors)
    timed = invoke("tail", at(host), "--for", "0.2", "--json")
    assert timed.exit_code == 0
    assert lines(timed)[0]["type"] == "open"
    command = f"{' '.join(MODULE)} tail {at(host)} --json | head -1"
    piped = subprocess.run(["bash", "-c", f"{command} & for i in $(seq 200); do kill -0 $! 2>/dev/null || break; "
                            f"curl -s {at(host)}/health >/dev/null; sleep 0.05; done; wait $!"], capture_output=True,
                           text=True, timeout=60, check=False)
    assert "Traceback" not in piped.stderr
    assert "BrokenPipe" not in piped.stderr


def test_tail_of_nothing(host: Running) -> None:
    """A URL without a stream is refused at once; one where nobody listens is tried, unless --once."""
    refused = invoke("tail", f"{at(host)}/health")
    assert refused.exit_code == 1
    assert "no event stream" in refused.stderr
    once = invoke("tail", f"127.0.0.1:{free_port()}", "--once", "--json")
    assert once.exit_code == 1
    assert [line["type"] for line in lines(once)] == ["lost"]


# -- control, emit, status ---------------------------------------------------------------------------------------


def test_control_starts_and_stops(host: Running) -> None:
    """What the governor answers is printed; false is exit status 1; an action that takes long is waited for."""
    started = invoke("control", at(host), "start")
    assert (started.exit_code, started.stdout) == (0, "true\n")
    again = invoke("control", at(host), "start")
    assert (again.exit_code, again.stdout) == (1, "false\n")
    assert json.loads(invoke("control", at(host), "status").stdout)["running"] is True
    assert invoke("control", at(host), "stop").exit_code == 0
    assert json.loads(invoke("control", at(host), "status").stdout)["running"] is False


def test_control_that_makes_no_sense(host: Running, tmp_path: Path) -> None:
    """Wrong words are usage errors; what the host refuses is exit status 1, with its code."""
    assert invoke("control", at(host), "dance").exit_code == 2
    assert invoke("control", at(host), "set_mode").exit_code == 2
    assert invoke("control", at(host), "start", "fast").exit_code == 2
    assert invoke("control", "ftp://x", "start").exit_code == 2
    nobody = invoke("control", f"127.0.0.1:{free_port()}", "start")
    assert nobody.exit_code == 1
    assert "does not answer" in nobody.stderr
    with patient(tmp_path) as server:
        without = invoke("control", at(server), "start")
    assert without.exit_code == 1
    assert "no_governor" in without.stderr


def test_publish_sends_an_event_to_the_clients(host: Running) -> None:
    """Its id is printed, whether the payload is an argument or standard input; one to a room reaches nobody else."""
    with Stream(host.port) as stream:
        first = lines(invoke("publish", at(host), "built", '{"ok": true}'))
        invoke("publish", at(host), "built", "2", "--to", "nobody", "--to", "here")
        second = lines(invoke("publish", at(host), "built", "-", stdin="[1]"))
        last = lines(invoke("publish", at(host), "built"))
        until(lambda: len(stream.all("built")) >= 3, "the events")
        assert stream.all("built") == [{"ok": True}, [1], None]
    numbers = [int(told[0].split("-")[1]) for told in (first, second, last)]
    assert numbers == sorted(set(numbers))
    assert invoke("publish", at(host), "built", "{").exit_code == 2
    refused = invoke("publish", at(host), "hybrid_open")
    assert refused.exit_code == 1
    assert "bad_event_name" in refused.stderr


def test_emit_runs_the_handler(host: Running) -> None:
    """What the handler returned and emitted comes back, whether the payload is an argument or standard input."""
    told = lines(invoke("emit", at(host), "kb_metrics_request"))
    assert told[0] == {"ack": None}
    assert told[1]["event"] == "kb_metrics"
    query = '{"query": "IsA"}'
    assert invoke("emit", at(host), "request_status", query).exit_code == 0
    assert invoke("emit", at(host), "request_status", "-", stdin=query).exit_code == 0
    assert invoke("emit", at(host), "request_status", "{").exit_code == 2
    unknown = invoke("emit", at(host), "unheard_of")
    assert unknown.exit_code == 1
    assert "unknown_event" in unknown.stderr


def test_the_key_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never an argument; a wrong one is refused with the host's own words."""
    key_file = tmp_path / "key"
    key_file.write_text("secret\nmore\n")
    with example_host(tmp_path, HAKGAL_API_KEY="secret") as server:
        assert "key_required" in invoke("control", at(server), "start").stderr
        assert invoke("control", at(server), "status", "--key-file", str(key_file)).exit_code == 0
        monkeypatch.setenv("HAKGAL_API_KEY", "secret")
        assert invoke("control", at(server), "status").exit_code == 0
        monkeypatch.setenv("HAKGAL_API_KEY", "guessed")
        wrong = invoke("tail", at(server), "--once")
        assert wrong.exit_code == 1
        assert "wrong_key" in wrong.stderr
        assert "guessed" not in wrong.output
    key_file.write_text("\n")
    assert invoke("status", "127.0.0.1", "--key-file", str(key_file)).exit_code == 2


def test_status_is_the_hosts(host: Running) -> None:
    """It prints what ``GET /api/hybrid/status`` answers."""
    told = json.loads(invoke("status", at(host)).stdout)
    assert told["profile"] == "HYBRID"
    assert set(told) == set(host.get("/api/hybrid/status").body)


# -- snapshot, bench ---------------------------------------------------------------------------------------------


def test_snapshots_are_written_and_compared(host: Running, tmp_path: Path) -> None:
    """YAML, JSON by name or by option, and what differs, as diff(1) says it."""
    before, after = tmp_path / "before.yaml", tmp_path / "after.json"
    db = str(host.log.parent / "kb.db")
    assert invoke("snapshot", at(host), "--db", db, "--output", str(before)).exit_code == 0
    assert host.post("/api/facts", {"statement": "Compared(Snapshot, Now)."}).status == 201
    assert invoke("snapshot", "take", at(host), "-o", str(after), "--db", db).exit_code == 0
    assert json.loads(after.read_text(encoding="utf-8"))["healthy"] is True
    changed = invoke("snapshot", "diff", str(before), str(after))
    assert changed.exit_code == 1
    assert re.search(r"^facts: \d+ -> \d+  \(\+1\)$", changed.stdout, re.MULTILINE)
    as_json = json.loads(invoke("snapshot", "diff", str(before), str(after), "--json").stdout)
    assert {"name": "facts", "by": 1}.items() <= next(item for item in as_json if item["name"] == "facts").items()
    assert invoke("snapshot", "diff", str(before), str(before)).exit_code == 0
    assert load(invoke("snapshot", at(host)).stdout).versions["host.hakgal_hybrid"] == hakgal_hybrid.__version__
    assert json.loads(invoke("snapshot", at(host), "--json").stdout)["notes"]["db_bytes"]


@pytest.mark.parametrize(("options", "error"), [
    ([], None), (["--json"], None), (["-o", "taken"], None), (["-o", "taken.json"], None),
    (["-o", "taken.yaml"], "yaml is needed"), (["-o", "taken.yml"], "yaml is needed")])
def test_a_snapshot_without_pyyaml_is_json(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], error: str | None) -> None:
    """JSON, which is YAML too, is written unless the file's name asks for YAML: then PyYAML is missing."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "yaml" else find(name, *more))
    monkeypatch.chdir(tmp_path)
    done = invoke("snapshot", f"127.0.0.1:{free_port()}", *options)
    if error is not None:
        assert done.exit_code == 2
        assert error in done.output
        return
    assert done.exit_code == 1  # nobody answers there
    text = Path(options[1]).read_text(encoding="utf-8") if "-o" in options else done.stdout
    assert json.loads(text)["healthy"] is False


def test_the_help_of_snapshot_is_its_own() -> None:
    """It names both ways to call it, not only those of ``take``."""
    text = " ".join(invoke("snapshot", "--help").stdout.split())
    assert text.startswith("Usage: ")
    assert "snapshot [take] URL [OPTIONS] | diff BEFORE AFTER" in text
    assert "diff Say in what two snapshots differ" in text


def test_snapshots_that_cannot_be(tmp_path: Path) -> None:
    """A host that does not answer is exit status 1, and still a snapshot; wrong arguments are usage errors."""
    nobody = invoke("snapshot", f"127.0.0.1:{free_port()}")
    assert nobody.exit_code == 1
    assert load(nobody.stdout).healthy is False
    assert invoke("snapshot").exit_code == 2
    assert invoke("snapshot", "127.0.0.1", "--db", str(tmp_path / "none.db")).exit_code == 2
    (tmp_path / "x").write_text("x: [\n")
    assert invoke("snapshot", "diff", str(tmp_path / "x"), str(tmp_path / "x")).exit_code == 2


def test_bench_reads_with_many(host: Running) -> None:
    """Every client is open and nothing is lost; as a table, and as JSON."""
    told = invoke("bench", at(host), "--clients", "10", "--stalled", "1", "--for", "1", "--json")
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    assert (result["opened"], result["stalled"], result["losses"]["lost"]) == (10, 1, 0)
    table = invoke("bench", at(host), "--clients", "2", "--for", "1")
    assert table.exit_code == 0
    assert "2 of 2 open" in table.stdout
    assert "a second" in table.stdout
    assert invoke("bench", f"127.0.0.1:{free_port()}", "--for", "0.1").exit_code == 1
    assert invoke("bench", f"{at(host)}/health", "--clients", "1", "--for", "0.3").exit_code == 1


# -- Flask's own command line ------------------------------------------------------------------------------------

APP = '''
from flask import Flask
from hakgal_hybrid import HybridTransport

app = Flask("app")
app.config["HYBRID_PORT"] = {port}
app.config["HYBRID_API_KEY"] = "secret"
transport = HybridTransport(app)

@app.get("/health")
def health():
    return {{"status": "operational"}}

if __name__ == "__main__":
    transport.run("127.0.0.1", {port})
'''


@pytest.mark.long
def test_flask_hybrid(tmp_path: Path) -> None:
    """``flask --app … hybrid NAME`` asks the host that the app's settings name, with the app's key."""
    port = free_port()
    (tmp_path / "served.py").write_text(APP.format(port=port))
    (tmp_path / "bare.py").write_text("from flask import Flask\napp = Flask('bare')\n")

    def flask(*arguments: str, app: str = "served") -> subprocess.CompletedProcess[str]:
        code = "from flask.cli import main; main()"
        if not entry_point_installed():
            code = ("from flask.cli import cli, main\nfrom hakgal_hybrid.tools.commands.group import flask_group\n"
                    "cli.add_command(flask_group)\nmain()")
        return subprocess.run([sys.executable, "-c", code, "--app", app, "hybrid", *arguments], cwd=tmp_path,
                              env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False)

    with running(tmp_path, [sys.executable, "served.py"], port, cwd=tmp_path):
        routes = flask("routes")
        assert routes.returncode == 0, routes.stderr
        assert re.search(r"^/api/events/emit +POST, OPTIONS +command$", routes.stdout, re.MULTILINE)
        assert "/api/events/ws" not in routes.stdout
        status = flask("status")
        assert status.returncode == 0, status.stderr
        assert json.loads(status.stdout)["profile"] == "HYBRID"
        unknown = flask("emit", "unheard_of", "1")
        assert unknown.returncode == 1
        assert "unknown_event" in unknown.stderr
        taken = flask("snapshot", "--json")
        assert json.loads(taken.stdout)["url"] == f"http://127.0.0.1:{port}"
        tailed = flask("tail", "--for", "0.3", "--json")
        assert json.loads(tailed.stdout.splitlines()[0])["type"] == "open"
        for words in (["emit", f"http://127.0.0.1:{port}", "unheard.of"], ["emit", "--namespace", "/x", "unheard.of:1"],
                      ["control", f"127.0.0.1:{port}", "status"]):
            asked = flask(*words)
            assert (asked.returncode, "Usage" in asked.stderr) == (1, False), asked.stderr
        assert flask("control", "frobnicate").returncode == 2
        named = flask("status", f"http://127.0.0.1:{port}", app="bare")
        assert named.returncode == 0, named.stderr  # reading needs no key on this machine
    for command in ("status", "routes"):
        none = flask(command, app="bare")
        assert none.returncode == 2
        assert "has no HybridTransport" in none.stderr
    for command in ("emit", "control", "tail", "snapshot"):
        assert "[URL]" in flask(command, "--help").stdout.split("\n\n")[0], command
    shown_help = flask("tail", "--help").stdout
    assert "flask --app app hybrid tail" in shown_help
    assert "http://127.0.0.1" not in shown_help


def entry_point_installed() -> bool:
    """Whether the installed metadata has the entry point already."""
    from importlib.metadata import entry_points

    return any(point.name == "hybrid" for point in entry_points(group="flask.commands"))


def test_both_command_lines_have_the_same_commands() -> None:
    """Each tool is in both, with a help text that has an example and names every option."""
    import click

    for group in (main, flask_group):
        context = click.Context(group)
        for name in TOOLS:
            command = group.get_command(context, name)
            assert command is not None
            assert "Example" in (command.help or ""), name
            for parameter in command.params:
                assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)
    assert set(TOOLS) <= set(main.list_commands(click.Context(main)))


def test_help_of_every_command() -> None:
    """``--help`` shows examples as they are written, none wrapped."""
    for name in [*TOOLS, "exec", "run"]:
        told = invoke(name, "--help")
        assert told.exit_code == 0, told.output
        assert f"hakgal-hybrid {name}" in told.stdout
    assert "hakgal-hybrid snapshot diff before.yaml after.yaml" in invoke("snapshot", "diff", "--help").stdout


def test_the_command_line_loads_little() -> None:
    """``--version`` needs none of the tools, and no tool needs gevent."""
    code = ("import sys\nfrom click.testing import CliRunner\nfrom hakgal_hybrid.tools.cli import main\n"
            "CliRunner().invoke(main, ['--version'])\n"
            "assert not [n for n in sys.modules if n.startswith('hakgal_hybrid.') and n.split('.')[1] in "
            "('doctor', 'measure', 'remote')]\n"
            "CliRunner().invoke(main, ['doctor', '--help'])\nassert 'gevent' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- completion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shell", "words", "expected"), [
    ("bash", "hakgal-hybrid sna", "plain,snapshot"), ("zsh", "hakgal-hybrid doc", "doctor"),
    ("fish", "hakgal-hybrid ta", "tail"),
    ("bash", "hakgal-hybrid control URL st", "plain,start plain,stop plain,status"),
    ("bash", "hakgal-hybrid tail URL --js", "plain,--json"), ("bash", "hakgal-hybrid snapshot di", "plain,diff")])
def test_completion(shell: str, words: str, expected: str) -> None:
    """The three shells that click knows are told commands, choices and options."""
    last = words.split()[-1]
    env = {**os.environ, "_HAKGAL_HYBRID_COMPLETE": f"{shell}_complete",
           "COMP_WORDS": words, "COMP_CWORD": last if shell == "fish" else str(len(words.split()) - 1)}
    code = "import sys; sys.argv[0] = 'hakgal-hybrid'; from hakgal_hybrid.tools.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert set(expected.split()) <= set(re.split(r"[\s]+|(?<=plain),(?=tail)", done.stdout)), done.stdout


@pytest.mark.skipif(SCRIPT is None or shutil.which("bash") is None, reason="needs bash and the console script")
def test_completion_in_bash() -> None:
    """The line of the documentation makes bash itself complete a command."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^eval .*bash_source.*$", text, re.MULTILINE)
    script = (f"{line}\nCOMP_WORDS=(hakgal-hybrid snap); COMP_CWORD=1\n"
              "_hakgal_hybrid_completion hakgal-hybrid\necho ${COMPREPLY[@]}")
    folder = Path(str(SCRIPT)).parent
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"})
    assert done.stdout.strip() == "snapshot"


# -- printing ----------------------------------------------------------------------------------------------------


def test_nothing_that_a_terminal_would_obey() -> None:
    """Control characters come out escaped, letters as they are; what is printed is still the same JSON."""
    value = {"a": "ü\x1b]0;title\x07\x9b2J\u202e\U000e0001", "b": [1, None]}
    for text in (shown(value), pretty(value).replace("\n", " ")):
        assert text.isprintable()
        assert "ü" in text
        assert json.loads(text) == value
