"""Print what happens in the backend, through its restarts: python watch.py http://127.0.0.1:5001 [polling|websocket]

Needs ``pip install "python-socketio[client]"``.
"""

import sys

import socketio

client = socketio.Client(reconnection_delay=0.5, reconnection_delay_max=2)


def say(*words):
    """Print a line now, also into a pipe."""
    print(*words, flush=True)


@client.event
def connect():
    """Ask for what there is. It is called again after each restart."""
    say("connected", client.get_sid())
    client.emit("request_initial_data", {})


@client.event
def disconnect(reason):
    """Say why; the client tries to come back by itself."""
    say("disconnected", reason)


@client.event
def initial_data(data):
    """Take what there is."""
    say("there are", data["metrics"]["fact_count"], "facts; connected by", client.transport())


@client.event
def fact_added(data):
    """Take a new fact, and ask how well the others support it."""
    say("added", data["statement"])
    client.emit("reasoning_request", {"query": data["statement"]})


@client.event
def reasoning_result(data):
    """Take the answer."""
    say("confidence", data["query"], data["confidence"])


if __name__ == "__main__":
    url, *transports = sys.argv[1:]
    client.connect(url, transports=transports or None, retry=True)
    client.wait()
