"""Hosts with something wrong with them, each in a process of its own; and proxies in front of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .hosts import Running, free_port, listens, running, until
from .needs import missing

#: A host whose routes wait for what hosts are known to wait for. ``PATIENT_PATCH``: what is patched as it starts.
PATIENT = '''
import os, sqlite3, sys, threading, time
import psutil
from flask import Flask
from hakgal_hybrid import HybridTransport

app = Flask("patient")
transport = HybridTransport(app)
database = os.environ["HAKGAL_DB"]

@app.get("/health")
def health():
    return {"status": "operational"}

@app.get("/sleeps")
def sleeps():
    time.sleep(1.2)
    return {}

@app.get("/measures")
def measures():
    return {"cpu": psutil.cpu_percent(interval=1.2)}

@app.get("/writes")
def writes():
    connection = sqlite3.connect(database, timeout=1.2)
    try:
        connection.execute("INSERT INTO facts VALUES (1)")
    except sqlite3.OperationalError as error:
        return {"error": str(error)}
    finally:
        connection.close()
    return {}

@app.get("/emits")
def emits():
    transport.emit("tick", {"filler": "x" * 5000})
    return {}

@app.get("/breaks")
def breaks():
    return {"error": "broken"}, 500

@app.get("/waits")
def waits():
    threading.Event().wait(1.2)
    return {}

connection = sqlite3.connect(database, check_same_thread=False)
connection.execute("CREATE TABLE facts (number)")
connection.commit()
if os.environ.get("PATIENT_LOCK"):
    connection.execute("BEGIN EXCLUSIVE")  # which nobody ends
patch = os.environ.get("PATIENT_PATCH", "")
if "gevent" in patch:
    from gevent import monkey
    monkey.patch_subprocess()
if "eventlet" in patch:
    import warnings
    warnings.simplefilter("ignore")
    import eventlet
    eventlet.monkey_patch(all=False, os=True)
transport.run(sys.argv[2], int(sys.argv[1]))
'''


@contextmanager
def patient(folder: Path, host: str = "127.0.0.1", **env: str) -> Iterator[Running]:
    """The host above."""
    script, port = folder / "patient.py", free_port()
    script.write_text(PATIENT)
    with running(folder, [sys.executable, str(script), str(port), host], port, **env) as server:
        yield server


def nginx_needed() -> None:
    """Skip without nginx; in CI that is an error."""
    if shutil.which("nginx") is None:
        missing("nginx is not installed")


@contextmanager
def nginx(folder: Path, upstream: int, location: str, http: str = "", *, version: str = "1.1") -> Iterator[int]:
    """A real nginx in front of a host; give its port.

    :param location: directives of the only location, besides ``proxy_pass``.
    :param http: directives of the ``http`` block.
    :param version: of HTTP, towards the host; what comes in chunks (1.1) nginx was seen to pass on at once in any case.
    """
    nginx_needed()
    port, prefix = free_port(), folder / f"nginx-{upstream}"
    prefix.mkdir()
    config = prefix / "nginx.conf"
    config.write_text(textwrap.dedent(f"""
        daemon off;
        master_process off;
        pid {prefix}/pid;
        error_log {prefix}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {prefix}/body; proxy_temp_path {prefix}/proxy; fastcgi_temp_path {prefix}/fastcgi;
            uwsgi_temp_path {prefix}/uwsgi; scgi_temp_path {prefix}/scgi;
            {http}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://127.0.0.1:{upstream};
                    proxy_http_version {version};
                    proxy_set_header Connection "";
                    {location}
                }}
            }}
        }}
    """))
    process = subprocess.Popen([str(shutil.which("nginx")), "-p", str(prefix), "-c", str(config)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or listens(port), "nginx listens")
        assert process.poll() is None, (prefix / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(15)
