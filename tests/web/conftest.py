"""What the tests of our URLs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.app import create_app
from support.servers import Api, InProcess, shown_on_failure


@pytest.fixture(params=["client", "server"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The app, reached either way."""
    if request.param == "client":
        yield InProcess(create_app(heartbeat_s=0.05, resume_s=0))
        return
    with shown_on_failure(request.getfixturevalue("running")) as server:
        yield server
