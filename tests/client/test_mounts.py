"""Below a path: the app's own prefix, a mount, a proxy's; the client, the dashboard and what answers name find it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import browsers
from support.hosts import free_port
from support.mounted import ROOTS
from support.proxies import found, running
from support.servers import Http, Server, wait_until

browser = browsers.browser

pytestmark = pytest.mark.once

#: How nginx serves an app below a path: it takes the path away, and says so.
SITE = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; {temporary}
  server {{
    listen 127.0.0.1:{port};
    location /site/ {{
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Prefix /site;
    }}
  }}
}}
"""


def pages_root(way: str) -> str:
    """Where the app's own pages are: a prefix is of our URLs alone."""
    return {"keyword": "", "setting": "", "path": "", "both": "/site"}.get(way, ROOTS[way])


class Mounted(Server):
    """A server of ``support.mounted``."""

    def __init__(self, way: str, *, gunicorn: bool = False, **settings: str) -> None:
        self.root = "" if way.startswith("proxied") else pages_root(way)
        super().__init__(way, "gunicorn" if gunicorn else "ours", **settings)

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        if options == ("gunicorn",):
            return [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "40", "--bind",
                    "127.0.0.1:0", "--worker-tmp-dir", tempfile.gettempdir(), "support.mounted:create()"]
        return [sys.executable, "-m", "support.mounted", kind]

    def _answers(self) -> bool:
        try:
            return self.ask("GET", f"{self.root}/health").status == 200
        except OSError:
            return False


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """A proxy that has the app below ``/site/``; its port."""
    port = free_port()
    folder.chmod(0o755)
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in (
        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(SITE.format(folder=folder, temporary=temporary, port=port, upstream=upstream))
    with running([found("nginx"), "-p", str(folder), "-c", str(config)], port, folder / "log"):
        yield port


#: The ways that every run tries; the others are tried with the long tests.
ALWAYS = {"keyword", "dispatched", "proxied"}


@pytest.fixture(scope="module", params=[way if way in ALWAYS else pytest.param(way, marks=pytest.mark.long)
                                        for way in ROOTS])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, str]]:
    """Each way: its name, the port that a browser goes to, and where our URLs begin."""
    way = request.param
    if way == "dispatched" and sys.platform == "win32":
        pytest.skip("gunicorn needs POSIX")
    with ExitStack() as stack:
        server = stack.enter_context(Mounted(way, gunicorn=way == "dispatched"))
        port = server.port
        if way.startswith("proxied"):
            port = stack.enter_context(nginx(tmp_path_factory.mktemp("nginx"), port))
        yield way, port, ROOTS[way]


@pytest.mark.parametrize("name", ["page", "classic", "bundled"])
def test_a_page_finds_the_server(browser, site, name) -> None:
    """The client finds it by its own URL, or by the path it is given, for its stream and for an event with its ack."""
    way, port, root = site
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{port}{pages_root(way)}/{name}")
        page.wait_for_function("window.socket?.connected")
        assert page.evaluate("socket.io.uri") == f"http://127.0.0.1:{port}{root}"
        answer = page.evaluate("socket.emitWithAck('ask', 7)")
        assert answer["answer"] == 7
        assert answer["home"] == f"{pages_root(way)}/health"
        assert answer["root"] == pages_root(way)
        page.wait_for_function("seen.length >= 2")
        assert {"asked": 7} in [args[0] for args in page.evaluate("seen")]
    finally:
        page.close()


def test_the_dashboard_works_there(browser, site) -> None:
    """It has its figures and its stream, and asks the host's own ``/health`` where that is."""
    way, port, root = site
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    failed: list[str] = []
    page.on("response", lambda response: (failed if response.status >= 400 else asked).append(response.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    try:
        page.goto(f"http://127.0.0.1:{port}{root}/api/hybrid/")
        # On a busy machine the loop may be late, which is a health of its own.
        wait_until(lambda: page.evaluate("document.querySelector('#health').dataset.level !== 'unknown' "
                                         "&& document.querySelector('#events-state').textContent === ''"), 30, way)
        health = f"http://127.0.0.1:{port}{pages_root(way)}/health"
        wait_until(lambda: page.evaluate("document.querySelector('#test-url').textContent") in health, 30, way)
        wait_until(lambda: health in asked, 30, way)
        assert failed == []
    finally:
        context.close()


def test_answers_name_urls_as_they_are_seen(site) -> None:
    """The OpenAPI document says where its paths begin; a ticket opens the stream; there is nothing beside the path."""
    way, port, root = site

    def ask(method: str, path: str, body: Any = None) -> Any:
        with Http(port) as http:
            return http.ask(method, path, body, {"Host": f"127.0.0.1:{port}", "Connection": "close"})

    document = ask("GET", f"{root}/api/hybrid/openapi.json").json()
    assert document["servers"] == [{"url": root}]
    assert "/api/events/stream" in document["paths"]
    ticket = ask("POST", f"{root}/api/events/ticket", {"query": "events=news"}).json()["ticket"]
    answer = ask("HEAD", f"{root}/api/events/stream?events=news&ticket={ticket}")
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    beside = "/api/hybrid/status" if not way.startswith("proxied") else "/site/live/api/hybrid/status"
    assert ask("GET", beside).status == 404


def test_commands_are_given_the_whole_url(site) -> None:
    """``hakgal-hybrid publish URL EVENT`` and ``status URL`` work below a path."""
    _, port, root = site
    url = f"http://127.0.0.1:{port}{root}"
    for command in (["publish", url, "news", '{"from": "beside"}'], ["status", url]):
        done = subprocess.run([sys.executable, "-m", "hakgal_hybrid", *command], capture_output=True, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_a_mount_is_learnt() -> None:
    """After the first request, our server answers our URLs below a mount by threads that the host does not hold."""
    with Mounted("mounted", HYBRID_THREADS="1", HYBRID_EXTRA_THREADS="0") as server, Http(server.port) as held:
        def status() -> Any:
            return server.ask("GET", "/live/api/hybrid/status").json()

        status()
        held.request("GET", "/live/hold")
        wait_until(lambda: status()["server"]["lanes"]["host"]["busy"] == 1)
        assert status()["server"]["lanes"]["host"]["waiting"] == 0
        assert server.ask("HEAD", "/live/api/events/stream").status == 200
        assert server.ask("POST", "/live/api/events/connect?release=1", {}).status == 200
        assert held.answer().body == b"released"
