"""The OpenAPI document: complete, valid, and true: requests made from it get the answers that it says."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support.servers import Server, shown_on_failure

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.web import openapi, urls

#: These do not end by themselves: their queries are tried by the fuzz tests.
ENDLESS = (urls.STREAM, urls.WEBSOCKET)
#: How many requests are tried, each; a long run tries others each time.
LONG = "FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
#: Of these a few are enough: whatever it is that they are asked with, they look for two seconds.
SLOW = {urls.STACKS: 3}


def test_every_url_is_in_it_with_its_methods() -> None:
    """Each with the methods that the gate lets through, besides HEAD and OPTIONS."""
    paths = openapi.document()["paths"]
    assert set(paths) == {rule.replace("<", "{").replace(">", "}") for rule in urls.ROUTES}
    for url, item in paths.items():
        route = urls.find(url)
        methods = set((route.methods if route else "").lower().split(", ")) - {"head", "options"}
        assert set(item) == methods, url


def test_what_is_not_served_is_not_in_it() -> None:
    """The document that an app serves is that of its settings."""
    app = Flask(__name__)
    HybridTransport(app, enable_sse=False)
    paths = set(app.test_client().get(urls.OPENAPI).get_json()["paths"])
    assert paths >= {urls.EMIT, urls.CONTROL, urls.CONTROL + "/{id}", urls.STATUS, urls.OPENAPI, urls.CLIENT}
    assert not paths & {urls.STREAM, urls.CONNECT, urls.DISCONNECT, urls.ACK, urls.TICKET, urls.WEBSOCKET}


def test_it_is_read_like_the_status() -> None:
    """Not by other machines without the key."""
    app = Flask(__name__)
    HybridTransport(app, api_key="k")
    client = app.test_client()
    assert client.get(urls.OPENAPI).status_code == 200
    assert client.get(urls.OPENAPI, environ_overrides={"REMOTE_ADDR": "203.0.113.9"}).status_code == 401


def test_references_lead_somewhere() -> None:
    """Every ``$ref`` names a part of the document."""
    document = openapi.document()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    for reference in references(document):
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
        assert part


#: The server that the tests here share.
SERVER = {"HYBRID_REQUEST_S": 5}


@pytest.mark.once
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize("rule", [pytest.param(rule, marks=[pytest.mark.long] if rule in SLOW else [])
                                  for rule in urls.ROUTES if rule not in ENDLESS])
def test_generated_requests_get_the_answers_it_says(running: Server, rule: str, mode: str) -> None:
    """Schemathesis makes requests that fit and requests that do not; status, type, headers and body are as written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    document = openapi.document([rule])
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://127.0.0.1:{running.port}")
    checks = schemathesis.checks.CHECKS.get_by_names([
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
        "response_schema_conformance"])
    [operation] = [result.ok() for result in schema.get_all_operations()]
    tried = []

    @settings(max_examples=SLOW.get(rule, EXAMPLES), deadline=None, database=None, derandomize=not LONG,
              phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    def attempt(case: Any) -> None:
        response = case.call()
        tried.append(response.status_code)
        case.validate_response(response, checks=checks)

    with shown_on_failure(running):
        start = len(running.log().encode())
        try:
            attempt()
        except Unsatisfiable:
            assert mode == "NEGATIVE"
            pytest.skip("there is nothing wrong that it could be asked with")
        assert tried
        assert "Traceback" not in running.log(start)
