"""What the host of ``support.app`` does with processes of its own (``SUPPORT_FORKS=1``)."""

from __future__ import annotations

import atexit
import concurrent.futures
import ctypes
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, request

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.errors import HybridError

#: Every child is gone after so long (seconds), whatever happens to its test.
LIVES_S = 40.0


def asked(call: Callable[[], object]) -> str:
    """Return what a call raises: its class, its code and what it says; an empty text for nothing."""
    try:
        call()
    except HybridError as error:
        return f"{type(error).__name__} {error.code} {error}"
    except Exception as error:
        return repr(error)
    return ""


def emit_in_worker() -> str:
    """Emit in a process of a pool, through the transport that it has inherited."""
    assert _transport is not None
    return asked(lambda: _transport.emit("note", "from a child"))


_transport: Any = None


def add(app: Flask, transport: HybridTransport) -> None:
    """Add routes that fork."""
    global _transport
    _transport = transport
    fork = multiprocessing.get_context("fork")
    noise = threading.Event()

    @app.post("/fork/terminate")
    def terminate() -> Any:
        """Start processes and terminate them at once, or when they have begun; return how they ended."""
        codes = []
        for number in range(request.get_json()["n"]):
            process = fork.Process(target=time.sleep, args=(LIVES_S,))
            process.start()
            time.sleep(0.002 * (number % 3))
            process.terminate()
            process.join(30)
            codes.append(process.exitcode)
            process.kill()
        return {"codes": codes}

    @app.post("/fork/pool")
    def pool() -> Any:
        """Give up waiting for a pool, and leave it."""
        began = time.monotonic()
        with fork.Pool(1) as workers:
            try:
                workers.apply_async(time.sleep, (LIVES_S,)).get(timeout=0.5)
                raised = ""
            except multiprocessing.TimeoutError as error:
                raised = type(error).__name__
        return {"raised": raised, "seconds": time.monotonic() - began}

    @app.post("/fork/child")
    def child() -> Any:
        """Leave a child behind that does nothing; return its number."""
        if request.get_json().get("daemon"):
            process = fork.Process(target=time.sleep, args=(LIVES_S,), daemon=True)
            process.start()
            return {"pid": process.pid}
        pid = os.fork()
        if not pid:
            time.sleep(LIVES_S)
            os._exit(0)
        return {"pid": pid}

    @app.post("/fork/handlers")
    def handlers() -> Any:
        """Tell what a child does about signals, and for how long its threads run at a time."""
        def look(pipe: Any) -> None:
            pipe.send({"term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
                       "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
                       "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
                       "switch_interval": sys.getswitchinterval()})

        here, there = fork.Pipe()
        process = fork.Process(target=look, args=(there,))
        process.start()
        assert here.poll(5)
        process.join(30)
        return {**here.recv(), "in_parent": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))}

    @app.post("/fork/serve")
    def serve() -> Any:
        """Serve another app in a child, until it is asked for on ``/end``; return how the child ended."""
        def run(port: int) -> None:
            other = Flask("other")
            transport = HybridTransport(other)
            other.add_url_rule("/end", view_func=lambda: transport.socketio.stop() or "")
            transport.run(port=port)

        process = fork.Process(target=run, args=(request.get_json()["port"],))
        process.start()
        process.join(LIVES_S)
        return {"code": process.exitcode}

    @app.post("/fork/emit")
    def emit() -> Any:
        """Fork while threads emit without pause; return what an emit in each child raised, or that it never ended."""
        noise.clear()
        threads = [threading.Thread(target=_emit_until, args=(transport, noise), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            return {"raised": [in_child(lambda: asked(lambda: transport.emit("note", "from a child")))
                               for _ in range(request.get_json()["n"])]}
        finally:
            noise.set()
            for thread in threads:
                thread.join()

    @app.post("/fork/use")
    def use() -> Any:
        """Use everything else in a child."""
        sid = request.get_json().get("sid", "nobody")
        server = transport.socketio.server
        uses: dict[str, Callable[[], object]] = {
            "socketio.emit": lambda: transport.socketio.emit("note"),
            "callback": lambda: transport.emit("note", callback=print),
            "room": lambda: transport.emit("note", to="room"),
            "enter_room": lambda: server.enter_room(sid, "room"),
            "close_room": lambda: server.close_room("room"),
            "disconnect": lambda: transport.disconnect(sid),
            "statistics": transport.statistics,
        }
        return {name: in_child(lambda call=call: asked(call)) for name, call in uses.items()}

    @app.post("/fork/executor")
    def executor() -> Any:
        """Emit in a worker of a ``ProcessPoolExecutor``."""
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as workers:
            return {"raised": workers.submit(emit_in_worker).result(30)}

    @app.post("/fork/exits")
    def exits() -> Any:
        """Have children emit, and end like any program: what is registered for the end of the process is run."""
        codes = []
        for _ in range(request.get_json()["n"]):
            pid = os.fork()
            if not pid:
                asked(lambda: transport.emit("note", "from a child"))
                end_as_python_does()
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return {"codes": codes}

    @app.post("/fork/spawn")
    def spawn() -> Any:
        """Run a process that shares nothing, by each of the methods that do not only fork."""
        codes = []
        for method in ("spawn", "forkserver"):
            process = multiprocessing.get_context(method).Process(target=time.sleep, args=(LIVES_S,))
            process.start()
            process.terminate()
            process.join(30)
            codes.append(process.exitcode)
        return {"codes": codes}

    @app.post("/fork/program")
    def program() -> Any:
        """Start another program, with something to do between fork and exec."""
        done = subprocess.run([sys.executable, "-c", "import signal; print(signal.getsignal(15) == signal.SIG_DFL)"],
                              preexec_fn=os.setsid, capture_output=True, text=True, timeout=20, check=True)
        return {"default": done.stdout.strip()}


def _emit_until(transport: HybridTransport, ended: threading.Event) -> None:
    while not ended.is_set():
        transport.emit("noise", "x" * 100)


def end_as_python_does() -> None:
    """End this process in any thread as the main thread would by its end."""
    if sys.version_info >= (3, 13):  # Py_Exit in a thread of a child crashes there, in a program of three lines too
        atexit._run_exitfuncs()
        os._exit(0)
    ctypes.pythonapi.Py_Exit(0)


def in_child(call: Callable[[], str], seconds: float = 5.0) -> str:
    """Return what a call returns in a child of its own; ``"never ended"`` if it does not in time."""
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(there, (call() or "nothing").encode())
        finally:
            os._exit(0)
    os.close(there)
    try:
        ready = select.select([here], [], [], seconds)[0]
        return os.read(here, 10_000).decode() if ready else "never ended"
    finally:
        os.close(here)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
