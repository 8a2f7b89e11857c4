"""What holds for every test, and what tests of several folders share."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator

import hypothesis
import pytest
from support import accounting
from support.servers import Server, shown_on_failure

from hakgal_hybrid.logs import LIMIT

# What a shell without job control starts in the background ignores SIGINT, and so does all that is started from there:
# Ctrl-C would not end what tests mean to end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How busy the machine is proves nothing; and what a change breaks is not to depend on what is drawn this time.
hypothesis.settings.register_profile("tests", deadline=None, database=None, derandomize=True,
                                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _nothing_has_been_said_too_often() -> None:
    """Have each test log what it logs, however often tests before it have said the same."""
    LIMIT.forget()


@pytest.fixture(autouse=True)
def _every_stream_is_accounted_for() -> Iterator[None]:
    """Hold what every stream of a test has received against what its server has emitted."""
    yield
    accounting.settle()


#: Where the tests are that start many processes, and wait for them.
SLOW = ("tools", "faults", "project", "host", "client", "socketio", "web", "server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it when the others are done."""
    items.sort(key=lambda item: item.path.parent.name not in SLOW)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module with every kind of server that its ``SERVER_KINDS`` names."""
    if "running" in metafunc.fixturenames and hasattr(metafunc.module, "SERVER_KINDS"):
        metafunc.parametrize("running", metafunc.module.SERVER_KINDS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server that the tests of a module share: ours or one of ``SERVER_KINDS``, with the settings ``SERVER``.

    Where a module says in ``SERVER_ERRORS`` how expected tracebacks end, the server may have logged no other ones.
    """
    with Server(getattr(request, "param", "ours"), **request.module.SERVER) as server:
        yield server
        if hasattr(request.module, "SERVER_ERRORS"):
            log = server.log()
            assert log.count("Traceback") == sum(log.count(end) for end in request.module.SERVER_ERRORS), log


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The shared server; if the test fails, what it has logged is shown."""
    with shown_on_failure(running):
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate for localhost, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"openssl cannot make a certificate: {made.stderr!r:.200}")
    return cert, key
