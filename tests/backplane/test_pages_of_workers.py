"""Pages of the browser client on several workers behind one port; nothing sends a page to the same one again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.npm import install
from support.redis_server import RedisServer
from support.servers import TESTS, Server, wait_until

pytestmark = [
    pytest.mark.once, pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a system that forks")]

CLIENT = TESTS.parent / "hakgal_hybrid" / "web" / "static" / "client" / "client.js"
PROGRAM = Path(__file__).with_name("pages.mjs")
PAGES = 24


class Workers(Server):
    """Workers that serve ``client.app``."""

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        return [*Server._command(kind, options)[:-1], "client.app:create_app()"]

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/notes").status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(TESTS / "client", tmp_path_factory.mktemp("client_modules")).parent


@pytest.fixture(params=["gunicorn-gthread", pytest.param("gunicorn-gevent", marks=pytest.mark.long)])
def workers(redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Server]:
    with Workers(request.param, "--workers", "2", HYBRID_BACKPLANE=redis_server.url, HYBRID_RESUME_S=5,
                 HYBRID_HEARTBEAT_S=1) as server:
        def met() -> bool:
            """Ask a lot at a time, until both workers were asked: one that was not yet knows of nothing."""
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda _: server.ask("POST", "/do", {"event": "warm"}), range(32)))
                asked = list(pool.map(lambda _: server.status()["backplane"]["processes"], range(32)))
            return set(asked) == {2}

        wait_until(met, 30, "the workers know of each other")
        yield server


def said_by_pages(workers: Server, modules: Path) -> dict[str, Any]:
    ran = subprocess.run(
        ["node", str(PROGRAM), f"http://127.0.0.1:{workers.port}", str(PAGES), str(CLIENT)],
        env={**os.environ, "CLIENT_MODULES": str(modules)}, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr + workers.log()
    return dict(json.loads(ran.stdout))


def test_pages_connect_at_the_first_try(workers: Server, modules: Path) -> None:
    """Each page connects at once, sends and gets answers, comes back when its stream breaks, and no try fails.

    Its ``connect`` handler runs once, although the stream may have reached another worker than what was posted.
    """
    said = said_by_pages(workers, modules)
    assert said["errors"] == []
    assert said["opened"] == PAGES
    assert said["answers"] == said["before"]
    assert said["again"] == said["after"]
    assert len({sid[:16] for sid in said["before"]}) == 2  # both workers have some
    assert set(said["gaps"]) <= {"lapsed", "restarted"}  # of pages that have come to the other worker
    assert len(said["gaps"]) == sum(map(str.__ne__, said["before"], said["after"]))
    wait_until(lambda: not workers.status()["backplane"]["streams"], 20, "the streams have ended")
