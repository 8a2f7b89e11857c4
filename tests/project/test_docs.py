"""The documentation: what it shows runs, what it lists is complete, and it builds.

A comment before a code block says what is done with the block here:

``runnable``            Python that is executed by itself
``file: NAME``          a file; those of one page lie in one folder, where pytest is run and ``python app.py`` served
``start``, ``rollback`` the command that starts the example host
``run``                 commands for the running server (``run: rollback`` for the rolled back one)
``stream``              a command that goes on reading while the ones after it run
``output``              what the block before has to print, with ``…`` for anything
``streamed``            what has to come over the stream that was opened last

Those of the page of production are told in ``test_production.py``.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.hosts import SRC, Running, environment, free_port, running
from support.servers import read_until_cut

import hakgal_hybrid
from hakgal_hybrid import Settings, errors, settings, signals
from hakgal_hybrid.broker import states
from hakgal_hybrid.web import urls as our_urls

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "hakgal_hybrid"
PAGES = [path for path in (*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CHANGES.md") if path.exists()]

#: Where the files of the main branch are, for who reads the README elsewhere; ``setup.cfg`` has it as well.
REPOSITORY_URL = "https://github.com/hakgal/hakgal_hybrid"
HOSTED = (f"{REPOSITORY_URL}/blob/main", f"{REPOSITORY_URL}/tree/main",
          "https://raw.githubusercontent.com/hakgal/hakgal_hybrid/main")


def local_links(path: Path) -> str:
    """The text of a page, with links to files of this checkout in place of those to the same files elsewhere."""
    return re.sub(rf"\]\((?:{'|'.join(HOSTED)})/", "](", path.read_text(encoding="utf-8"))


_FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$",
                    re.MULTILINE | re.DOTALL)

needs_shell = pytest.mark.skipif(sys.platform == "win32" or not shutil.which("curl") or not shutil.which("bash"),
                                 reason="the examples need bash and curl")


class Block(NamedTuple):
    """One fenced block of a page."""

    page: str
    line: int
    kind: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    source = path.read_text(encoding="utf-8")
    return [Block(path.name, source[:found.start("kind")].count("\n") + 1, found["kind"], found["mark"] or "",
                  found["text"]) for found in _FENCE.finditer(source)]


ALL = [block for path in PAGES for block in blocks(path)]
PYTHON = [block for block in ALL if block.kind == "python"]
PLAYED = ("run", "stream", "output", "streamed")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def marked(name: str, *marks: str) -> list[Block]:
    return [block for block in ALL if block.page == name and block.mark.split(":")[0] in marks]


def table(name: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the tables below a heading: the code in the first cell, and all cells."""
    section = f"\n{page(name)}".split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0].split("\n|---", 1)[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in rows}


# -- Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: Block) -> None:
    """Every Python block of the documentation is Python."""
    compile(block.text, str(block), "exec", dont_inherit=True)


@pytest.mark.parametrize("block", [block for block in PYTHON if block.mark == "runnable"], ids=str)
def test_python_runs(block: Block) -> None:
    """A block that says so runs by itself, and what it asserts holds."""
    exec(compile(block.text, str(block), "exec", dont_inherit=True), {"__name__": "shown"})


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_imports_what_exists(block: Block) -> None:
    """Whatever an example imports from this package is there."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hakgal_hybrid":
            exec(compile(ast.Module([node], []), str(block), "exec"), {})


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the files that a page shows."""
    for block in marked(request.param, "file"):
        (tmp_path / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("folder", ["quickstart.md", "testing.md"], indirect=True)
def test_shown_tests_pass(folder: Path) -> None:
    """The tests that a page shows pass with the files that it shows."""
    pytest.importorskip("pytest_flask")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, timeout=60,
                          env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed", done.stdout)


@pytest.mark.parametrize("folder", ["servers.md"], indirect=True)
@pytest.mark.parametrize("worker", ["gthread", "gevent"])
@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs POSIX")
def test_gunicorn_says_good_bye(folder: Path, worker: str) -> None:
    """With the hook that the page shows, gunicorn ends streams with a farewell, and itself at once."""
    pytest.importorskip("gunicorn")
    (folder / "app.py").write_text(marked("quickstart.md", "file")[0].text)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", worker, "-b", f"127.0.0.1:{port}", "app:create_app()"]
    with running(folder, command, port, cwd=folder, PYTHONPATH=str(folder)) as server:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events/stream", timeout=20) as stream:
            stream.readline()
            started = time.monotonic()
            server.process.terminate()
            assert b"event: hybrid_bye" in read_until_cut(stream)
        server.process.wait(15)
        assert time.monotonic() - started < 15


# -- commands ----------------------------------------------------------------------------------------------------


def pattern(text: str) -> re.Pattern[str]:
    """Return what matches a printed text, in which ``…`` stands for anything."""
    return re.compile(".*?".join(map(re.escape, text.strip().split("…"))), re.DOTALL)


class Reader:
    """A command that goes on printing."""

    def __init__(self, command: str) -> None:
        self.text = ""
        self._changed = threading.Condition()
        self._process = subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            with self._changed:
                self.text += data.decode("utf-8", "replace")
                self._changed.notify_all()

    def wait_for(self, expected: str, block: Block) -> None:
        """Wait until what the block shows has been printed."""
        with self._changed:
            assert self._changed.wait_for(lambda: pattern(expected).search(self.text), 15), (
                f"{block} was not printed; this was:\n{self.text}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


def play(shown: list[Block], translate: Callable[[str], str]) -> None:
    """Run the commands of a page in order and compare what they print with what the page says.

    :param translate: puts the port of the running server in place of the one in the text.
    """
    reader: Reader | None = None
    printed = ""
    with contextlib.ExitStack() as open_readers:
        for block in shown:
            text = translate(block.text)
            if block.mark == "stream":
                reader = Reader(text)
                open_readers.callback(reader.close)
                reader.wait_for("hybrid_open", block)
                printed = ""
            elif block.mark.startswith("run"):
                done = subprocess.run(["bash", "-e", "-c", text], capture_output=True, text=True, timeout=60,
                                      check=False)
                assert done.returncode == 0, f"{block}: {done.stderr}"
                printed = done.stdout.replace("\r\n", "\n")
            elif block.mark == "streamed" or not printed:
                assert reader is not None
                reader.wait_for(text, block)
            else:
                if '"status":"accepted"' in printed:  # a busy machine took longer than 25 ms: the page says so as well
                    text = text.replace('"status":"done"', '"status":"accepted"').replace(',"result":true', "")
                assert pattern(text).fullmatch(printed.strip()), f"{block} is not what was printed:\n{printed}"


@needs_shell
@pytest.mark.parametrize("folder", ["quickstart.md"], indirect=True)
def test_quickstart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app of the quickstart, served as it says, answers its commands as it says."""
    port = free_port()
    monkeypatch.setenv("HAKGAL_PORT", str(port))
    monkeypatch.chdir(folder)
    flask = f'"{sys.executable}" -m flask --app'
    with running(folder, [sys.executable, "app.py"], port, cwd=folder, HAKGAL_PORT=str(port)):
        play(marked("quickstart.md", *PLAYED),
             lambda text: text.replace("5001", str(port)).replace("flask --app", flask))


@contextlib.contextmanager
def example_host(folder: Path, command: Block) -> Iterator[tuple[Running, Callable[[str], str]]]:
    """The example host, started by the bash command of the migration page; and what puts its port into a text."""
    port = free_port()
    text = command.text.replace("/path/to/src_hexagonal", str(SRC)).replace("5001", str(port))
    text = text.replace("hakgal-hybrid exec", f'exec "{sys.executable}" -m hakgal_hybrid exec')
    assert str(SRC) in text
    with running(folder, ["bash", "-c", text], port) as server:
        yield server, lambda text: text.replace("5001", str(port))


@needs_shell
def test_migration(tmp_path: Path) -> None:
    """The start command and the checks of the migration page, and the commands of the reference, do what they say."""
    (start,) = marked("migration.md", "start")
    shown = [block for block in marked("migration.md", *PLAYED)
             if block.line < marked("migration.md", "rollback")[0].line]
    with example_host(tmp_path, start) as (server, translate):
        play(shown, translate)
        assert server.post("/api/governor/control", {"action": "stop"}).status in (200, 202)
        for name in ("http_stream.md", "http_clients.md", "http_commands.md", "http_limits.md"):
            play(marked(name, *PLAYED), translate)
        assert translate("INFO hakgal_hybrid.server.server: serving on http://127.0.0.1:5001") in server.text()


@needs_shell
def test_rollback(tmp_path: Path) -> None:
    """The rollback of the migration page brings the host's own WebSocket back."""
    (start,) = marked("migration.md", "rollback")
    shown = [block for block in marked("migration.md", "run", "output") if block.line > start.line]
    with example_host(tmp_path, start) as (server, translate):
        play(shown, translate)
        assert "hakgal_hybrid" not in server.text()


def test_what_is_marked_is_what_is_tested() -> None:
    """No block has a mark that nothing here knows, and no page lost its marked blocks."""
    known = {"", "runnable", "file", "start", "rollback", "run", "stream", "output", "streamed"}
    known |= {"nginx", "caddy", "iis", "systemd", "environment", "winsw"}  # test_production.py
    assert {block.mark.split(":")[0] for block in ALL} <= known
    for name, mark, least in (("api.md", "runnable", 2), ("flask_socketio.md", "runnable", 1),
                              ("testing.md", "file", 6), ("quickstart.md", "file", 3), ("quickstart.md", "run", 2),
                              ("http_stream.md", "stream", 1), ("http_clients.md", "run", 2),
                              ("http_commands.md", "run", 2),
                              ("http_limits.md", "run", 1), ("migration.md", "run", 6), ("servers.md", "file", 1)):
        assert len(marked(name, mark)) >= least, (name, mark)


# -- completeness ------------------------------------------------------------------------------------------------


def settings_table() -> list[str]:
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import hybrid_settings
    finally:
        sys.path.remove(str(DOCS / "_ext"))
    return list(hybrid_settings.table())


def test_every_setting_is_in_the_table() -> None:
    """The table has one row a setting: variable, key, default, what is accepted, meaning."""
    assert "```{hybrid-settings}" in page("settings.md")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in settings_table()[2:]]
    fields = Settings.__dataclass_fields__.values()
    assert [row[0] for row in rows] == [f"`{field.metadata['env']}`" for field in fields]
    for row, field in zip(rows, fields, strict=True):
        env, config = field.metadata["env"], field.metadata["config"]
        assert row[1] == ("the same" if env == config else f"`{config}`")
        assert all(row)
        assert row[4] == field.metadata["doc"]
        # The rule by which the page names keywords; a governor is given to a transport by the keyword of that name.
        keyword = config.removeprefix("HYBRID_").lower()
        assert field.name == ("governor_mode" if keyword == "governor" else keyword)


@pytest.mark.parametrize("row", settings_table()[2:], ids=lambda row: row.split("`")[1])
def test_what_the_table_accepts_is_accepted(row: str) -> None:
    """The bounds in the table are the ones the parser has: it takes them, and nothing beyond."""
    env, _, _, accepted, _ = (cell.strip() for cell in row.strip("|").split("|"))
    parse = next(field.metadata["parse"] for field in Settings.__dataclass_fields__.values()
                 if f"`{field.metadata['env']}`" == env)
    bounds = re.fullmatch(r"a(?: whole)? number from `([\d.]+)`[^`]* to `([\d.]+)`.*", accepted)
    if bounds is None:
        assert accepted.startswith(("one of true", "HYBRID, WEBSOCKET or DUAL", "local or app", "off, auto or on",
                                    "a comma-separated list", "printable ASCII", "a path of a file",
                                    "a path such as /live", "redis://HOST", "1 to 128 letters", "here, off or desk",
                                    "host or edge"))
        return
    low, high = map(float, bounds.groups())
    assert float(parse(bounds[1])) == low
    assert float(parse(bounds[2])) == high
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match="number from"):
            parse(str(int(beyond)))


def test_profiles_are_listed() -> None:
    """The profiles of the table are those that exist."""
    assert set(table("settings.md", "## Profiles")) >= {profile.value for profile in settings.Profile}


def codes() -> set[str]:
    """Return every problem code in the source: ``code=`` of a call, and the ones the error classes begin with."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found |= {item.value for item in ast.walk(node.value)
                          if isinstance(item, ast.Constant) and isinstance(item.value, str)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HybridError)]
    return found | {kind.code for kind in kinds}


def test_every_problem_code_is_documented() -> None:
    """The reference lists each code of the source, and none that does not occur."""
    listed = table("http_limits.md", "## Problem codes")
    not_sent = page("http_limits.md").split("Raised in Python and not sent over HTTP:", 1)[1]
    in_words = set(re.findall(r"`([a-z_]+)`", not_sent))
    assert codes() == set(listed) | in_words
    assert not set(listed) & in_words
    assert list(listed) == sorted(listed)


@pytest.mark.parametrize("status", sorted({status for row in table("http_limits.md", "## Problem codes").values()
                                           for status in re.findall(r"\d{3}", row[1])}))
def test_statuses_of_problem_codes_are_used(status: str) -> None:
    """No code is listed with a status that the source never sends."""
    kinds = {kind.status for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "status")}
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert int(status) in kinds or re.search(rf"status={status}|{status} if late", source)


def urls() -> set[str]:
    return {value for name, value in vars(our_urls).items() if name.isupper() and not name.startswith("_")
            and isinstance(value, str) and value.startswith("/")}


def test_every_url_is_documented() -> None:
    """The reference lists every URL with its methods, and with who may use it."""
    assert len(urls()) >= 18
    rows = table("http.md", "# HTTP and SSE reference")
    assert set(rows) == urls() == set(our_urls.ROUTES)
    words = {"public": "everybody", "read": "readers", "ticket": "readers, tickets", "command": "commands"}
    for url, cells in rows.items():
        route = our_urls.ROUTES[url]
        assert cells[1] == route.methods
        assert cells[2].partition(", with the token")[0] == words[route.access.value]
        assert ("token" in cells[2]) == route.token


def test_every_signal_is_documented() -> None:
    """The table of signals has them all."""
    assert set(table("api.md", "## Signals")) == {name.replace("-", "_") for name in signals.namespace}


def test_every_public_name_is_documented() -> None:
    """What the package exports stands in the Python interface."""
    for name in hakgal_hybrid.__all__:
        assert name == "__version__" or f"hakgal_hybrid.{name}" in page("api.md")


def flask_socketio_names() -> Iterator[str]:
    """The public names of the installed Flask-SocketIO: of its module, its classes, their objects and keywords."""
    import flask
    import flask_socketio

    for name, value in vars(flask_socketio).items():
        if getattr(value, "__module__", "").startswith(("flask_socketio", "socketio.exceptions")):
            yield name
    app = flask.Flask(__name__)
    socketio = flask_socketio.SocketIO(app, async_mode="threading")
    for thing in (socketio, flask_socketio.Namespace("/"), socketio.test_client(app), socketio.server,
                  socketio.server.manager):
        yield from dir(thing)
    for documented in (flask_socketio.SocketIO, flask_socketio.SocketIO.run):
        yield from re.findall(r":param (\w+):", documented.__doc__ or "")


def test_every_name_of_flask_socketio_is_documented() -> None:
    """Whoever looks for a name of Flask-SocketIO finds what has become of it."""
    pytest.importorskip("flask_socketio")
    said = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", page("flask_socketio.md")))))
    assert not {name for name in flask_socketio_names() if not name.startswith("_")} - said - {"app", "kwargs"}


def keys(value: Any, prefix: str = "") -> set[str]:
    """Return the dotted names of the members of a JSON object, down to the leaves."""
    if not isinstance(value, dict) or not value:
        return {prefix}
    return set().union(*(keys(item, f"{prefix}.{name}" if prefix else name) for name, item in value.items()))


def test_every_member_of_the_status_is_documented() -> None:
    """The table of the status has a row for each of its members."""
    import flask

    app = flask.Flask(__name__)
    hakgal_hybrid.HybridTransport(app)
    told = app.test_client().get(our_urls.STATUS).get_json()
    section = page("http_status.md").split("\n## Status\n")[1].split("\n## ")[0]
    assert not [name for name in keys(told) - {"server"} if f"`{name}`" not in section]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pictures_are_there(page: Path) -> None:
    """A picture is a file of the repository, is not heavy, and says in words what it shows."""
    for words, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", _FENCE.sub("", local_links(page))):
        picture = page.parent / path
        assert len(words) > 20, path
        assert 0 < picture.stat().st_size < 200_000, path


def test_the_readme_shows_a_run() -> None:
    """Its table is between the marks where ``make figures`` puts it, with its conditions."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- figures of make figures -->")[2].partition("<!-- end of the figures -->")[0]
    assert "| `/health`, p95 |" in table
    assert re.search(r"One run of \d{4}-\d\d-\d\d on \d+ cores", table)
    assert text.count("/main/docs/_static/") >= 5


def test_the_readmes_comparison_is_of_kept_figures() -> None:
    """What its three columns say was measured: in the run that the page shows, and in that of the benchmarks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## What differs")[2].partition("## Your app")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    compared = {cells[0].rstrip("\u00b9\u00b2\u00b3"): cells[1:] for cells in rows}
    run = text.partition("<!-- figures of make figures -->")[2].partition("<!-- end of the figures -->")[0]
    before, after = re.findall(r"`/health`, p95 \| ([\d,.]+) ms \| ([\d,.]+) ms", run)[0]
    stopped = compared["one client stops reading"]
    assert f"{round(float(before.replace(',', ''))):,} ms" in stopped[0]
    assert f"{round(float(after))} ms" in stopped[2]
    before, after = re.findall(r"1000 events delivered \| ([\d.]+) \| ([\d.]+)", run)[0]
    (theirs,) = re.findall(r"old backend needs ([\d.]+) CPU", run)
    assert compared["CPU seconds per 1,000 events delivered"] == [before, theirs, after]
    kept = (DOCS / "benchmarks" / "table.md").read_text(encoding="utf-8")
    memory_row = "memory with five clients that do not read: after 15,000 events of 4 KB, and 15,000 later"
    for column, peer in ((1, "Flask-SocketIO, gevent, WebSocket"), (2, "hakgal_hybrid")):
        def row(workload: str, peer: str = peer) -> list[float]:
            section = kept.split(f"### {workload}")[1].split("\n### ")[0]
            cells = next(line for line in section.splitlines() if line.startswith(f"| {peer} |")).split("|")[2:-1]
            return [float(cell.split()[0].replace(",", "")) for cell in cells]

        def said(cell: str) -> list[float]:
            return [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", cell)]

        paced, stalled = row("W2: "), row("W5: ")
        (health,) = said(compared["`/health`, p95, beside 1,000 clients at 50 events a second"][column])
        assert health == pytest.approx(paced[4], rel=0.02)
        (late,) = said(compared["delivery of these events, p99"][column])
        assert late == pytest.approx(paced[1], rel=0.02)
        assert said(compared["processor for them"][column]) == [paced[2]]
        memory = said(compared[memory_row][column])
        assert memory[0] == pytest.approx(stalled[3], rel=0.02)
        assert (memory[1:] or [0]) == pytest.approx([stalled[4]], rel=0.02, abs=0.5)


def mapped() -> set[str]:
    """The modules in the tree of the architecture, as paths in the package."""
    tree = page("architecture.md").split("```text\nhakgal_hybrid/\n")[1].split("```")[0]
    found, room = set(), ""
    for line in tree.splitlines():
        name = line.split()[0]
        if name.endswith("/"):
            room = name
        else:
            found.add(room + name)
    return found


def test_architecture_maps_every_module() -> None:
    """The tree of the rooms has a line for each module, and none for one that is not there."""
    modules = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    assert mapped() == modules, "docs/architecture.md, The rooms"


def test_architecture_names_files_that_are_there() -> None:
    """Whatever file of the package the page sends a reader to, it exists."""
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*/[a-z_0-9]+\.py)`", page("architecture.md")))
    assert named
    assert not [name for name in named if not (PACKAGE / name).exists()]


def drawing(table: tuple[states.Transition, ...]) -> str:
    """Return a state machine as the architecture shows it: each state, and below it what leads on from there."""
    lines, state = [], None
    for row in table:
        if row.state is not state:
            state = row.state
            lines.append(state.value)
        lines.append(f"  --{row.event.value + ' ':-<16}> {row.after.value:<13}  {row.owner}")
    return "\n".join(lines)


@pytest.mark.parametrize("name", states.MACHINES)
def test_states_are_drawn_as_the_code_has_them(name: str) -> None:
    """The architecture shows the table of each state machine, transition by transition."""
    section = page("architecture.md").split(f"\n### A {name}\n")[1]
    assert section.split("```text\n")[1].split("\n```")[0] == drawing(states.MACHINES[name])


def test_changes_begin_with_what_is_unreleased() -> None:
    """The newest section of the changes is the one of the next version."""
    changes = (ROOT / "CHANGES.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", changes, re.MULTILINE)[0] == "Unreleased"
    assert hakgal_hybrid.__version__ in changes


def test_links_lead_somewhere() -> None:
    """Links between files exist, seen from the repository as well as built."""
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", local_links(path)):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_readme_works_where_it_stands_alone() -> None:
    """The page of a package index shows it without the files around it: each link is absolute, anchors too."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 30
    assert [target for target in targets if not target.startswith("https://")] == []
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall("^#+ (.*)$", text, re.MULTILINE)}
    assert {target.partition("#")[2] for target in targets if target.startswith(f"{REPOSITORY_URL}#")} <= headings


@pytest.mark.long
@pytest.mark.once
def test_documentation_builds(tmp_path: Path) -> None:
    """Sphinx builds it without a warning, and every setting stands on the built page."""
    for name in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(name)
    done = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d",
                           str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")],
                          capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    built = (tmp_path / "html" / "settings.html").read_text(encoding="utf-8")
    for field in Settings.__dataclass_fields__.values():
        assert f">{field.metadata['env']}<" in built
