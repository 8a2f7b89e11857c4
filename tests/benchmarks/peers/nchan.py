"""nginx with nchan: a C module that is made for this. Events come by HTTP from a process of its own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ..build import Missing
from ..server import Server
from ..system import first_line
from . import Peer

_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

_CONFIGURATION = """
{user}
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 60000;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 50000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  nchan_max_reserved_memory 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /health {{ default_type application/json; return 200 '{{"status": "ok"}}'; }}
    location = /publish {{
      nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 20000; nchan_message_timeout 5m;
    }}
    location = /events {{
      nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


def _check() -> dict[str, str]:
    if shutil.which("nginx") is None or not _MODULE.exists():
        raise Missing("nginx or libnginx-mod-nchan is not installed")
    return {"nginx": first_line("nginx", "-v") or "",
            "libnginx-mod-nchan": first_line("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan") or "unknown"}


def _start(server: Server) -> None:
    configuration = server.folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(module=_MODULE, folder=server.folder, port=server.port,
                                                   user="user root;" if os.geteuid() == 0 else ""))
    server.spawn(["nginx", "-e", "stderr", "-p", str(server.folder), "-c", str(configuration)])
    server.spawn([sys.executable, "-m", "tests.benchmarks.apps.http_publisher", str(server.port), str(server.control)],
                 counts=False)


PEER = Peer("nchan", "nginx + nchan (C)", _check, _start,
            note="published to by HTTP, from a process on the load's processor: its `emit` is a request")
