"""The main job, live: an unmodified backend before and after the migration, measured, then served.

``python demo.py [--once] [options of hakgal-hybrid measure]``. Before: the example backend as it is, whose broadcaster
writes to its WebSockets inside every request; twenty live dashboards and one that stopped reading. After: the same
files with the transport swapped, the same dashboards over Server-Sent Events. Reference: the same files once more, with
Flask-SocketIO, for the CPU that delivering an event takes. Leaves ``report.html``, ``report.md`` and ``report.json`` in
the folder ``report``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

BACKEND = Path(__file__).resolve().parent.parent / "legacy_backend" / "src_hexagonal"
TARGET = "hexagonal_api_enhanced_clean:HexagonalAPI"
HYBRID = [sys.executable, "-m", "hakgal_hybrid"]
MEASURE = [*HYBRID, "measure", TARGET, "--app-dir", str(BACKEND), "--set", "use_legacy=false",
           "--env", "LEGACY_BROADCASTER=blocking", "--reference-env", "LEGACY_BROADCASTER=socketio",
           "--assert", "cpu_events_vs_reference<=-50%"]


def main(arguments: list[str]) -> int:
    once = "--once" in arguments
    print("Measuring the example backend before and after the migration: about three minutes.", flush=True)
    status = run([*MEASURE, *(argument for argument in arguments if argument != "--once")])
    if not once and status in (0, 1):
        stay()
    return status


def run(command: list[str]) -> int:
    """Run a command that looks after Ctrl-C by itself."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal sends it to the command as well
                continue


def stay() -> None:
    """Serve the migrated backend until Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    stream, control = f"{url}/api/events/stream", f"{url}/api/governor/control"
    print(f"""
The migrated backend is live until Ctrl-C. Open its dashboard in a browser; try the lines below in another terminal:

  {url}/api/hybrid/

  curl -N {stream}
  curl -X POST {url}/api/facts -H "Content-Type: application/json" -d '{{"statement": "Likes(You, Tea)."}}'
  curl -X POST {control} -H "Content-Type: application/json" -d '{{"action": "start"}}'
  curl {url}/api/hybrid/status

PowerShell:
  curl.exe -N {stream}
  Invoke-RestMethod {url}/api/facts -Method Post -ContentType application/json -Body '{{"statement": "Likes(I, Tea)."}}'
  Invoke-RestMethod {control} -Method Post -ContentType application/json -Body '{{"action": "start"}}'
  Invoke-RestMethod {url}/api/hybrid/status
""", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.update(APP_PROFILE="HYBRID", LEGACY_BROADCASTER="blocking", HAKGAL_DB=str(Path(folder) / "facts.db"))
        run([*HYBRID, "run", TARGET, "--app-dir", str(BACKEND), "--set", "use_legacy=false", "--port", str(port)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
