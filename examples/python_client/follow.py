"""Print a host's events as they come, through cuts and restarts: python follow.py http://127.0.0.1:5001 [last id]"""

import json
import random
import sys
import time

import httpx


def follow(url, last_id="", key=""):
    """Yield the name, the data and the id of each event. After a cut it goes on behind the last one that it yielded."""
    retry_s = 3.0
    # A heartbeat comes every 15 s. A connection that is silent for three of them is lost.
    with httpx.Client(timeout=httpx.Timeout(10, read=45), headers={"X-API-Key": key} if key else {}) as client:
        while True:
            try:
                headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
                with client.stream("GET", f"{url}/api/events/stream", headers=headers) as answer:
                    if answer.status_code in (502, 503, 504):  # a proxy says so while the host restarts
                        raise httpx.TransportError(f"status {answer.status_code}")
                    answer.raise_for_status()
                    block, rest = {}, b""
                    for chunk in answer.iter_bytes():
                        *lines, rest = (rest + chunk).split(b"\n")
                        for line in lines:
                            name, _, value = line.decode().partition(": ")
                            if line:
                                block[name] = value
                                continue
                            last_id = block.get("id", last_id)  # now, and not before its data is here
                            retry_s = int(block.get("retry", retry_s * 1000)) / 1000
                            yield block["event"], json.loads(block["data"]), last_id
                            block = {}
                return  # a clean end: the host has ended this client
            except httpx.TransportError as error:
                print(f"{error}; back in about {retry_s:g} s", file=sys.stderr)
            time.sleep(retry_s * random.uniform(0.5, 1.5))  # not all clients at once


if __name__ == "__main__":
    for event, data, event_id in follow(*sys.argv[1:]):
        print(event_id, event, json.dumps(data), flush=True)
