"""nginx as the page about production has it, in front of a server."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .hosts import REPOSITORY, free_port, listens, until
from .needs import missing
from .servers import Answer, Http, Stream

PAGE = REPOSITORY / "docs" / "production.md"


def shown(mark: str) -> str:
    """Return the block of the page that has this mark."""
    [found] = re.findall(rf"^<!-- {mark} -->\n```\w*\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return str(found)


def replaced(text: str, **others: str) -> str:
    """Return a text with some parts of it replaced, each of which must be there."""
    for old, new in others.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Proxy(NamedTuple):
    """A proxy as the page has it, in front of the host.

    :ivar port: where it speaks plain HTTP. :ivar websocket: the status that it lets a handshake have.
    :ivar tls: where it speaks TLS, if it does. :ivar elsewhere: where it believes what visitors say of their address.
    """

    port: int
    websocket: int
    tls: int = 0
    elsewhere: int = 0

    def stream(self, headers: dict[str, str] | None = None, **options: int) -> Stream:
        """Open a stream through it."""
        return Stream(self.port, "", headers, **options)

    def ask(self, path: str, **headers: str) -> Answer:
        """Ask for something through it."""
        with Http(self.port) as http:
            return http.ask("GET", path, None, {"Connection": "close", **headers})

    def ask_from(self, address: str, path: str, **headers: str) -> Answer:
        """Ask for something through it as a visitor who has this address."""
        with Http(self.elsewhere) as http:
            http.send(f"PROXY TCP4 {address} 127.0.0.1 4711 80\r\n".encode())
            return http.ask("GET", path, None, {"Connection": "close", **headers})


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, **environ: str) -> Iterator[None]:
    """Run a proxy."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environ})
    try:
        until(lambda: process.poll() is not None or listens(port), "it listens")
        assert process.poll() is None, log.read_text(errors="replace")
        yield
    finally:
        process.terminate()
        process.wait(15)


def found(program: str) -> str:
    """Return the path of a program; skip without it, but fail in CI."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        missing(f"{program} is not installed")
    return path


@contextlib.contextmanager
def nginx(folder: Path, upstream: int | str, *, websocket: bool = False, socketio: bool = False,
          port: int | None = None) -> Iterator[Proxy]:
    """Run nginx with the page's configuration: its ports, paths and certificate exchanged, nothing else.

    :param websocket: with the page's location for our WebSocket. :param socketio: with that for clients of Socket.IO.
    """
    program, openssl = found("nginx"), found("openssl")
    port, tls, elsewhere = port or free_port(), free_port(), free_port()
    folder.chmod(0o755)  # its workers may be somebody else
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out",
                    folder / "cert.pem", "-days", "2", "-subj", "/CN=localhost"], capture_output=True, check=True)
    site = replaced(shown("nginx: site"), **{
        "127.0.0.1:5001": f"127.0.0.1:{upstream}" if isinstance(upstream, int) else upstream,
        "/etc/ssl/dash.example/fullchain.pem": str(folder / "cert.pem"),
        "/etc/ssl/dash.example/privkey.pem": str(folder / "key.pem"),
        "listen 443 ssl http2;": f"listen 127.0.0.1:{tls} ssl http2; listen 127.0.0.1:{port};"
        f" listen 127.0.0.1:{elsewhere} proxy_protocol; set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;"})
    if websocket:
        site = replaced(site, **{"    location ~ ": shown("nginx: websocket") + "    location ~ "})
    if socketio:
        site = shown("nginx: socketio map") + replaced(site, **{
            "    location ~ ": shown("nginx: socketio") + "    location ~ "})
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in (
        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"{shown('nginx: main')}http {{ access_log off; {temporary}\n{site}}}\n")
    with running([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], port, folder / "log"):
        yield Proxy(port, 101 if websocket else 426, tls, elsewhere)
