"""``GET /api/hybrid/openapi.json``: our HTTP interface as an OpenAPI 3.1 document, of the URLs that are served."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, request

from ..broker.event import MAX_NAME
from ..commands.governor import ACTIONS
from ..settings import MAX_INTERVAL_MS
from .urls import (
    ACK,
    BACKPLANE,
    CLASSIC_CLIENT,
    CLIENT,
    CLIENTS,
    CONNECT,
    CONTROL,
    DASHBOARD,
    DASHBOARD_FILE,
    DISCONNECT,
    EMIT,
    HISTORY,
    LIVE,
    METRICS,
    OPENAPI,
    OUTCOME,
    PUBLISH,
    READY,
    ROUTES,
    SEEN,
    STACKS,
    STATUS,
    STREAM,
    TICKET,
    WEBSOCKET,
)

Json = dict[str, Any]

_ANYTHING: Json = {}
_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "string", "enum": ["0", "1", "true", "false", "yes", "no", "on", "off"]}
_NULL_OR_TEXT: Json = {"type": ["string", "null"]}
_NAMESPACE: Json = {"type": "string", "pattern": "^/[ -~]*$", "maxLength": MAX_NAME, "default": "/"}
_ID: Json = {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}
_ARGS: Json = {"type": "array", "items": _ANYTHING}
_ROOMS: Json = {"type": ["string", "array", "null"], "items": _TEXT}

_MEANINGS = {
    "400": "no JSON object, or no request that makes sense", "401": "the key is missing or wrong",
    "403": "refused: by address, host, origin, ticket, token or the application", "404": "unknown",
    "405": "not with this method", "408": "head or body came too slowly", "409": "not now",
    "413": "the body is too large",
    "415": "no JSON by its type", "422": "a member or parameter makes no sense",
    "426": "only for WebSockets",
    "429": "too many; see `Retry-After`", "500": "the application failed", "501": "not under this server",
    "503": "overloaded; see `Retry-After`",
}
#: What any request of a kind may be refused with.
_ALWAYS = ("400", "401", "403", "405", "500", "503")
_POSTED = ("408", "413", "415", "422", "429")


def _object(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _answer(meaning: str, schema: Json, media: str = "application/json", **headers: str) -> Json:
    answer: Json = {"description": meaning, "content": {media: {"schema": schema}}}
    if headers:
        answer["headers"] = {name.replace("_", "-"): {"description": text, "schema": _TEXT}
                             for name, text in headers.items()}
    return answer


def _operation(summary: str, answers: Json, *refusals: str, body: Json | None = None,
               parameters: list[Json] | None = None, key: bool = False) -> Json:
    codes = (*_ALWAYS, *(_POSTED if body is not None else ()), *refusals)
    operation: Json = {
        "summary": summary,
        "responses": {**answers, **{code: {"$ref": f"#/components/responses/{code}"} for code in sorted(set(codes))}},
        "security": [{"key": []}] if key else [{}, {"key": []}],
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _parameter(name: str, meaning: str, schema: Json, where: str = "query", *, required: bool = False) -> Json:
    return {"name": name, "in": where, "description": meaning, "schema": schema, "required": required}


_TOKEN = _parameter("X-Hybrid-Token", "the token of `sid`", _TEXT, "header")
_STREAM_QUERY = [
    _parameter("events", "names with `*` globs, comma-separated", {"type": "string", "maxLength": 4096}),
    _parameter("namespace", "what to read", _NAMESPACE),
    _parameter("snapshot", "begin with the newest of each name; `gap`: only after a gap",
               {"type": "string", "enum": [*_FLAG["enum"], "gap"]}),
    _parameter("envelope", "unnamed messages that carry everything; not with `format`", _FLAG),
    _parameter("interval_ms", "least time between two batches of events, in milliseconds",
               {"type": "integer", "minimum": 0, "maximum": MAX_INTERVAL_MS}),
    _parameter("ticket", "of `connect`, or a signed one", _TEXT),
    _parameter("anywhere", "open the stream although another process has the clients, which connect again", _FLAG),
    _parameter("last_event_id", "for clients that cannot send the header", _TEXT),
    _parameter("Last-Event-ID", "resume after this id", _TEXT, "header"),
]
_FORMAT_QUERY = [
    _parameter("format", "how events are carried",
               {"type": "string", "enum": ["json", "html", "datastar"], "default": "json"}),
    _parameter("unnamed", "HTML in unnamed messages; only with `format=html`", _FLAG),
]
_COMMAND = _object({"status": {"type": "string", "enum": ["accepted", "running", "done", "failed"]}, "id": _TEXT,
                    "action": _TEXT}, {"result": _ANYTHING, "error": _TEXT})


def _streams() -> Json:
    stream = {"200": _answer("the stream; or `hybrid_busy` and its end, for a client that accepts one", _TEXT,
                             "text/event-stream")}
    socket = {"101": {"description": "the WebSocket, with envelopes"}}
    return {
        STREAM: {"get": _operation("Read events", stream, "409", "422", "429",
                                   parameters=[*_STREAM_QUERY, *_FORMAT_QUERY])},
        WEBSOCKET: {"get": _operation("Read events and send commands over a WebSocket", socket, "409", "422",
                                      "426", "429", "501", parameters=_STREAM_QUERY)},
    }


def _clients() -> Json:
    connected = _object({
        "ticket": _TEXT, "namespace": _TEXT, "heartbeat_s": {"type": "number"}}, {
        "sid": _TEXT, "token": _TEXT, "resumed": {"type": "boolean"}, "since": _ID,
        "after": {"type": ["string", "null"]}})
    empty = {"200": _answer("done", {"type": "object", "maxProperties": 0})}
    return {
        CONNECT: {"post": _operation("Become a client, or come back as one", {"200": _answer("a client", connected)},
                                     body=_object({}, {"namespace": _NAMESPACE, "auth": _ANYTHING, "stream": _ANYTHING,
                                                       "sid": _ANYTHING, "token": _ANYTHING,
                                                       "anywhere": _ANYTHING}))},
        DISCONNECT: {"post": _operation("Leave", empty, body=_object({"sid": _TEXT}), parameters=[_TOKEN])},
        ACK: {"post": _operation("Acknowledge an event", empty, "404", parameters=[_TOKEN], key=True, body=_object(
            {"sid": _TEXT, "ack": _TEXT}, {"args": _ARGS}))},
        TICKET: {"post": _operation(
            "Get a signed ticket for a stream", {"200": _answer("a ticket", _object({
                "ticket": _TEXT, "expires_s": {"type": "integer"}}))}, key=True,
            body=_object({}, {"query": {"type": "string", "description": "the query of the stream"}}))},
    }


def _commands() -> Json:
    event_sent = _object({"event": _TEXT, "data": _ANYTHING, "args": _ARGS})
    emitted = _object({"ack": _ANYTHING}, {
        "events": {"type": "array", "items": event_sent}, "dropped": {"type": "integer"}, "args": _ARGS,
        "after": _NULL_OR_TEXT})
    event = _object({"event": {"type": "string", "minLength": 1}}, {
        "data": _ANYTHING, "args": _ARGS, "namespace": _NAMESPACE, "sid": _NULL_OR_TEXT,
        "number": {"type": ["integer", "null"]}})
    order = _object({"action": {"type": "string", "enum": list(ACTIONS)}}, {"mode": {"type": "string"}})
    key = _parameter("Idempotency-Key", "the same order with the same key is carried out once",
                     {"type": "string", "minLength": 1, "maxLength": 255}, "header")
    return {
        EMIT: {"post": _operation("Run the host's handler of an event", {"200": _answer("what it returned", emitted)},
                                  "404", "409", body=event, parameters=[_TOKEN], key=True)},
        PUBLISH: {"post": _operation("Send an event to clients", {"200": _answer("published", _object({
            "id": {"type": ["string", "null"]}}))}, key=True, body=_object(
                {"event": {"type": "string", "minLength": 1, "maxLength": MAX_NAME}},
                {"data": _ANYTHING, "args": _ARGS, "namespace": _NAMESPACE, "to": _ROOMS, "skip": _ROOMS}))},
        CONTROL: {"post": _operation(
            "Command the governor", {
                "200": _answer("done", _COMMAND, Idempotent_Replayed="`true` for a repetition"),
                "202": _answer("accepted", _COMMAND, Location="where the outcome can be had")},
            "409", body=order, parameters=[key], key=True)},
        OUTCOME: {"get": _operation(
            "The outcome of a command", {"200": _answer("the outcome, or that there is none yet", _COMMAND)}, "404",
            parameters=[_parameter("id", "of the command", _TEXT, "path", required=True)], key=True)},
    }


def _monitoring() -> Json:
    script = {"200": _answer("the script", _TEXT, "text/javascript")}
    found = {"200": _answer("a JSON object", {"type": "object"})}
    file = _parameter("file", "its name", _TEXT, "path", required=True)
    return {
        CLIENTS: {"get": _operation("Who is connected, and how far behind", found, "404", "422", parameters=[
            _parameter("limit", "how many at most", _TEXT)])},
        HISTORY: {"get": _operation("The last ten minutes", found)},
        METRICS: {"get": _operation("What is counted, for Prometheus", {
            "200": _answer("metrics", _TEXT, "text/plain")}, "501")},
        LIVE: {"get": _operation("Whether this process answers", found)},
        READY: {"get": _operation("Whether this process is to be sent clients", found)},
        SEEN: {"get": _operation("How this request looks to the host", found)},
        STACKS: {"post": _operation("What the host's requests wait for", found, body=_object({}), key=True)},
        BACKPLANE: {"post": _operation("What the Redis of the backplane says of itself", found, body=_object({}),
                                       key=True)},
        DASHBOARD: {"get": _operation("The dashboard, a page", {"200": _answer("the page", _TEXT, "text/html")})},
        DASHBOARD_FILE: {"get": _operation(
            "A script or style of the dashboard", {"200": {"description": "the file"}}, "404", parameters=[file])},
        STATUS: {"get": _operation("Everything that is counted", {"200": _answer("a snapshot", {"type": "object"})})},
        OPENAPI: {"get": _operation("This document", {"200": _answer("OpenAPI 3.1", {"type": "object"})})},
        CLIENT: {"get": _operation("The browser client, a module", script)},
        CLASSIC_CLIENT: {"get": _operation("The browser client, a classic script", script)},
    }


def document(served: Collection[str] = ROUTES.keys(), root: str = "/") -> Json:
    """Return the OpenAPI document.

    :param served: the rules of the URLs that are in it; by default all.
    :param root: the path that these URLs stand below.
    """
    problem = _object({"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "code": _TEXT, "detail": _TEXT})
    paths = {**_streams(), **_clients(), **_commands(), **_monitoring()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "hakgal_hybrid", "version": "1",
                 "description": "Events out by Server-Sent Events, commands in by HTTP."},
        "servers": [{"url": root}],
        "paths": {_template(rule): item for rule, item in paths.items() if rule in served},
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "responses": {code: _answer(meaning, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")
                          for code, meaning in _MEANINGS.items()},
            "schemas": {"Problem": problem},
        },
    }


def _template(rule: str) -> str:
    """Return a rule of Flask's routing as a path of OpenAPI."""
    return rule.replace("<", "{").replace(">", "}")


def blueprint() -> Blueprint:
    """Return the blueprint that serves the document of the URLs that its app serves."""
    views = Blueprint("openapi", __name__)

    @views.get(OPENAPI)
    def openapi() -> Response:
        prefix = request.path.removesuffix(OPENAPI)
        served = {rule.rule.removeprefix(prefix) for rule in current_app.url_map.iter_rules()}
        found = document(served, quote(request.script_root + prefix) or "/")
        return Response(json.dumps(found), content_type="application/json")

    return views
