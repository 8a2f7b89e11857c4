"""The command ``hakgal-hybrid``."""

from __future__ import annotations

import click

from .commands.group import TOOLS, ToolGroup

#: By name: what starts a host is not a tool, and needs all of the package.
_HOST = "hakgal_hybrid.host.commands"
_EDGE = "hakgal_hybrid.host.edge"


class MainGroup(ToolGroup):
    """The tools, and what starts a host."""

    modules = TOOLS | {"edge": _EDGE, "exec": _HOST, "run": _HOST}


@click.group(cls=MainGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hakgal_hybrid")
def main() -> None:
    """Serve a Flask-SocketIO backend by Server-Sent Events and HTTP commands, without a change to its code.

    APP_PROFILE=HYBRID (the default) swaps the transport; APP_PROFILE=DUAL does so, and serves clients of
    Socket.IO too; APP_PROFILE=WEBSOCKET runs the host as if this were not installed.
    """
