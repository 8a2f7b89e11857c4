"""``examples/scale_out``: the start script is run as it is, and what the other files name is there."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from support.hosts import REPOSITORY, SCRIPT, free_port, listens, until
from support.needs import missing
from support.proxies import found

from hakgal_hybrid.broker.sse import Decoder, Message
from hakgal_hybrid.settings import Settings, load_settings
from hakgal_hybrid.tools.cli import main
from hakgal_hybrid.web.urls import ROUTES, Access

pytestmark = pytest.mark.once

EXAMPLE = REPOSITORY / "examples" / "scale_out"
#: Ports that the files name, which a test exchanges.
PORTS = ("5001", "5002", "5101", "5102", "6379", "8080")
KUBERNETES, COMPOSE = "kubernetes-validate==1.37.0", "docker-compose==1.29.2"


class Page:
    """What a page sees: a stream that begins anew after each cut, with the id of the last event.

    :param port: where it connects to.
    :param address: from which address.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._port, self._address, self._closed = port, address, False
        self.events: list[Message] = []
        self.id, self.opened = "", 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._read()
            time.sleep(0.1)

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30, source_address=(self._address, 0))
        with contextlib.closing(connection):
            headers = {"Last-Event-ID": self.id} if self.id else {}
            connection.request("GET", "/api/events/stream", headers=headers)
            answer, decoder = connection.getresponse(), Decoder()
            if answer.status != 200:
                return
            while not self._closed and (line := answer.readline()):
                for message in decoder.feed(line):
                    self.id = message.id or self.id
                    self.opened += message.event == "hybrid_open"
                    self.events.append(message)

    def close(self) -> None:
        """End it; a heartbeat may have to come first."""
        self._closed = True

    def data(self, name: str) -> list[Any]:
        """Return the data of the events of one name."""
        return [json.loads(message.data) for message in self.events if message.event == name]


def text_of(name: str) -> str:
    return (EXAMPLE / name).read_text(encoding="utf-8")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text_of(name)))


# -- the script ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[dict[str, int]]:
    """The example, started by its script in a copy that has free ports: where is what."""
    if SCRIPT is None:
        missing("hakgal-hybrid is not installed beside this interpreter")
    found("redis-server")
    found("nginx")
    ports = {port: free_port() for port in PORTS}
    folder = tmp_path / "scale_out"
    shutil.copytree(EXAMPLE, folder)
    for file in (folder / "start.sh", folder / "nginx.conf", folder / "upstreams.conf"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: str(ports[match[1]]), text), encoding="utf-8")
    paths = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HYBRID_", "HAKGAL_"))}
    environ |= {"PATH": os.pathsep.join(paths), "TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o755)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["sh", str(folder / "start.sh")], env=environ, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True)
    ours = psutil.Process(process.pid)
    try:
        yield {**ports, "pid": process.pid}
        started = ours.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        _, alive = psutil.wait_procs(started, timeout=10)
        assert not alive, alive
        assert not list(tmp_path.glob("tmp.*"))
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in [*ours.children(recursive=True), ours]:
                child.kill()
        process.wait(10)
        sys.stdout.write((tmp_path / "log").read_text(errors="replace"))


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the script is for Linux, and so are addresses of pages")
@pytest.mark.timeout(200)
def test_script_serves_pages_from_every_process(ports: dict[str, int]) -> None:
    """Pages at both edges and behind nginx get what hosts, the worker and the script emit, also after an edge died."""
    for port in PORTS:
        until(lambda port=port: listens(ports[port]), f"something listens at {port}", 60)
    for port in ("5001", "5002", "5101", "5102", "8080"):
        until(lambda port=port: ask(ports[port], "GET", "/api/hybrid/ready") == 200, f"{port} is ready", 60)
    pages = [Page(ports["5101"]), Page(ports["5102"]), *(Page(ports["8080"], f"127.0.0.{n}") for n in range(2, 12))]
    everywhere = pages[2:]  # those that come by nginx
    try:
        until(lambda: all(page.opened for page in pages), "all pages are open", 30)
        streams = [ask_json(ports[port], "/api/hybrid/status")["streams"] for port in ("5101", "5102")]
        assert sum(streams) == len(pages)
        assert min(streams) > 1, streams  # addresses come to both

        for number in range(6):
            assert ask(ports["8080"], "POST", "/jobs", {"text": f"job {number}"}) == 202
        until(lambda: all(len(page.data("job_progress")) == 24 for page in pages), "all jobs are done", 60)
        for page in pages:
            assert page.data("job_added") == pages[0].data("job_added")
        assert len({job["by"] for job in pages[0].data("job_added")}) == 2  # both hosts
        assert {job["done"] for job in pages[0].data("job_progress")} == {25, 50, 75, 100}

        announce(ports, "before")
        until(lambda: all(page.data("notice") for page in pages), "the script's notice", 30)

        child = process_with(ports, str(ports["5101"]))
        child.kill()
        announce(ports, "after")
        wanted = [{"text": "before"}, {"text": "after"}]
        until(lambda: all(page.data("notice") == wanted for page in everywhere), "all pages go on", 60)
        assert any(page.opened > 1 for page in everywhere)
        assert not [message for page in everywhere for message in page.events if message.event == "hybrid_gap"]
        assert all(len(page.data("job_progress")) == 24 for page in everywhere)
    finally:
        for page in pages:
            page.close()


def process_with(ports: dict[str, int], argument: str) -> psutil.Process:
    [child] = [child for child in psutil.Process(ports["pid"]).children() if argument in child.cmdline()]
    return child


def announce(ports: dict[str, int], text: str) -> None:
    """Run the script that emits."""
    environ = {**os.environ, "HYBRID_BACKPLANE": f"redis://127.0.0.1:{ports['6379']}/0",
               "HYBRID_BACKPLANE_NAME": "scale_out"}
    subprocess.run([sys.executable, str(EXAMPLE / "announce.py"), text], env=environ, check=True, timeout=60)


def ask(port: int, method: str, path: str, body: Any = None) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().status


def ask_json(port: int, path: str) -> Any:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path)
        return json.load(connection.getresponse())


def test_nginx_of_compose_is_accepted(tmp_path: Path) -> None:
    """Nginx takes the configuration with the names of containers, each of which is a service."""
    text = text_of("upstreams.compose.conf")
    names = re.findall(r"server (\w+):5001", text)
    assert set(names) <= documents("compose.yaml")[0]["services"].keys()
    (tmp_path / "nginx.conf").write_text(text_of("nginx.conf"), encoding="utf-8")
    (tmp_path / "upstreams.conf").write_text(re.sub(r"server \w+:", "server 127.0.0.1:", text), encoding="utf-8")
    done = subprocess.run([found("nginx"), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g",
                           f"pid {tmp_path}/pid; error_log stderr;"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- what is named --------------------------------------------------------------------------------------------------


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each container of the manifests, with the labels of its pods."""
    for document in documents("kubernetes.yaml"):
        template = document.get("spec", {}).get("template")
        if template:
            for container in template["spec"]["containers"]:
                yield container, template["metadata"]["labels"]


def commands() -> dict[str, list[list[str]]]:
    """Return the commands that each file has, as arguments, without what starts Redis and nginx."""
    shell = [shlex.split(line, comments=True)[1:] for line in text_of("start.sh").splitlines()
             if line.startswith("start ")]
    power = [re.findall(r'"([^"]+)"', line) for line in text_of("start.ps1").splitlines() if line.startswith("    @(")]
    compose = [shlex.split(service["command"]) for service in documents("compose.yaml")[0]["services"].values()
               if "command" in service]
    pods = [container.get("command") or container["args"] for container, _ in containers()]
    docker = re.findall(r'"([^"]+)"', next(line for line in text_of("Dockerfile").splitlines() if "CMD" in line))
    everything = {"start.sh": shell, "start.ps1": power, "compose.yaml": compose, "kubernetes.yaml": pods,
                  "Dockerfile": [docker]}
    return {name: [command for command in found if command[0] not in ("redis-server", "nginx")]
            for name, found in everything.items()}


@pytest.mark.parametrize("name", ["start.sh", "start.ps1", "compose.yaml", "kubernetes.yaml", "Dockerfile"])
def test_commands_are_there(name: str) -> None:
    """Each command is a file of the example, or one of ours with options that it takes."""
    assert commands()[name]
    for program, *arguments in commands()[name]:
        if program == "python":
            assert (EXAMPLE / arguments[0]).is_file()
        else:
            assert program == "hakgal-hybrid"
            command = main.get_command(None, arguments[0])  # type: ignore[arg-type]
            assert command is not None, arguments[0]
            command.make_context(arguments[0], arguments[1:])


def test_scripts_of_both_systems_start_the_same() -> None:
    """What runs on Linux runs on Windows."""
    assert commands()["start.sh"] == commands()["start.ps1"]


def environments() -> dict[str, dict[str, str]]:
    """Return the variables that each file sets."""
    shell = dict(re.findall(r"export (\w+)=(\S+)", text_of("start.sh")))
    power = dict(re.findall(r'^\$env:(\w+) = "(.*)"', text_of("start.ps1"), re.M))
    (config,) = (document["data"] for document in documents("kubernetes.yaml") if document["kind"] == "ConfigMap")
    return {"start.sh": shell, "start.ps1": {"HYBRID_BACKPLANE": "redis://127.0.0.1:6379/0", **power},
            "compose.yaml": documents("compose.yaml")[0]["services"]["host"]["environment"], "kubernetes.yaml": config}


@pytest.mark.parametrize("name", ["start.sh", "start.ps1", "compose.yaml", "kubernetes.yaml"])
def test_variables_are_settings(name: str) -> None:
    """Each variable is one of ours, and its value is accepted; the name of the log is the app's import name."""
    environ = environments()[name]
    known = {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    assert environ.keys() <= known
    settings = load_settings(environ=environ)
    assert settings.backplane is not None
    assert settings.backplane_name == re.search(r'Flask\("(\w+)"\)', text_of("app.py"))[1]  # type: ignore[index]


def test_ports_and_probes_meet() -> None:
    """Each port that is named is one that a command listens on; probes ask what everybody may ask."""
    listening = dict(containers_with_ports())
    for container, port in listening.items():
        command = next(c for name, c in named_containers() if name == container)
        assert str(port) in command or container == "redis", container
    probes = [probe["httpGet"] for container, _ in containers() for key in ("readinessProbe", "livenessProbe")
              if "httpGet" in (probe := container.get(key, {}))]
    assert len(probes) == 4
    checked = re.findall(r"http://127\.0\.0\.1:5001(/[\w/]+)", text_of("compose.yaml"))
    for path in [*(probe["path"] for probe in probes), *checked]:
        assert ROUTES[path].access is Access.PUBLIC
    labels = {tuple(labels.items()) for _, labels in containers()}
    services = {document["metadata"]["name"]: document["spec"] for document in documents("kubernetes.yaml")
                if document["kind"] == "Service"}
    names = {port["name"] for container, _ in containers() for port in container.get("ports", ())}
    for service in services.values():
        assert tuple(service["selector"].items()) in labels
        assert {port["targetPort"] for port in service["ports"]} <= names
    (ingress,) = (document for document in documents("kubernetes.yaml") if document["kind"] == "Ingress")
    for path in ingress["spec"]["rules"][0]["http"]["paths"]:
        backend = path["backend"]["service"]
        assert backend["port"]["number"] in {port["port"] for port in services[backend["name"]]["ports"]}


def named_containers() -> list[tuple[str, list[str]]]:
    return [(container["name"], container.get("command") or container["args"]) for container, _ in containers()]


def containers_with_ports() -> Iterator[tuple[str, int]]:
    for container, _ in containers():
        for port in container.get("ports", ()):
            yield container["name"], port["containerPort"]


# -- schemas --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], zipfile.ZipFile]:
    """Returns the wheel of a requirement, from the registry."""
    def get(requirement: str) -> zipfile.ZipFile:
        folder = tmp_path_factory.mktemp("wheel")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
             "--disable-pip-version-check", "-d", str(folder), requirement], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=100)
        wheels = list(folder.glob("*.whl"))
        if not wheels:
            missing(f"pip cannot get {requirement}: {done.stdout[-1000:]}")
        return zipfile.ZipFile(wheels[0])

    return get


def test_manifests_fit_the_schemas_of_kubernetes(wheel: Callable[[str], zipfile.ZipFile]) -> None:
    """Each document has what its kind needs, and nothing that Kubernetes does not know."""
    with wheel(KUBERNETES) as schemas:
        folder = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict"
        definitions = json.loads(schemas.read(f"{folder}/_definitions.json"))
        registry = Registry().with_resource("_definitions.json", DRAFT202012.create_resource(definitions))
        for document in documents("kubernetes.yaml"):
            version = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", document["apiVersion"])
            schema = json.loads(schemas.read(f"{folder}/{document['kind'].lower()}-{version}.json"))
            jsonschema.Draft202012Validator(schema, registry=registry).validate(document)


def test_compose_file_fits_its_schema(wheel: Callable[[str], zipfile.ZipFile]) -> None:
    """The file is one that Compose takes."""
    with wheel(COMPOSE) as schemas:
        schema = json.loads(schemas.read("compose/config/compose_spec.json"))
    document = documents("compose.yaml")[0]
    jsonschema.Draft7Validator(schema).validate(document)
    for service in document["services"].values():
        assert set(service.get("depends_on", ())) <= document["services"].keys()
        for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
            assert source in document["volumes"] or (EXAMPLE / source).is_file(), source
