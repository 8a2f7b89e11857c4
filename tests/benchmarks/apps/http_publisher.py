"""A publisher outside of the server, which publishes by HTTP: for servers that have no other way."""

from __future__ import annotations

import http.client
import json
import sys

from ..publisher import Payload, Publisher

#: ``id: 1755412806:0\nevent: tick\ndata: `` and the blank line
FRAMING = len("id: 1755412806:0\nevent: tick\ndata: \n\n")
HEADERS = {"Content-Type": "application/json", "X-EventSource-Event": "tick"}


def main(port: int, control: int) -> None:
    server = http.client.HTTPConnection("127.0.0.1", port)

    def emit(payload: Payload) -> None:
        server.request("POST", "/publish", json.dumps(payload, separators=(",", ":")), HEADERS)
        server.getresponse().read()

    Publisher(control, emit, FRAMING).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
