"""The commands, found by name, and loaded when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

import click

from ...errors import HybridError

#: Name and module of each command; its attribute ``COMMANDS`` has what makes it, by name: for the shell, and for Flask.
TOOLS = {name: f"{__package__}.{module}" for name, module in {
    "bench": "bench", "control": "control", "doctor": "doctor", "emit": "control", "measure": "measure",
    "publish": "control", "snapshot": "snapshot", "status": "control", "tail": "tail"}.items()}


class ToolGroup(click.Group):
    """A group with the tools in it; turns our errors into one line and exit status 2.

    :ivar which: 0 for the commands of ``hakgal-hybrid``, 1 for those of ``flask hybrid``.
    :ivar modules: name and module of each command.
    """

    which = 0
    modules = TOOLS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted.

        :param ctx: the context of the command.
        """
        return sorted({*super().list_commands(ctx), *self.modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loaded if it is one of the tools.

        :param ctx: the context of the command.
        :param cmd_name: the name that was typed.
        """
        if cmd_name not in self.modules:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(self.modules[cmd_name])
        command: click.Command = module.COMMANDS[cmd_name][self.which]()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        :param ctx: the context of the command.
        """
        try:
            return super().invoke(ctx)
        except HybridError as error:
            raise click.UsageError(error.detail) from error


class FlaskToolGroup(ToolGroup):
    """The same, under Flask's own command line, and what needs the app itself."""

    which = 1
    modules = {**TOOLS, "routes": f"{__package__}.routes"}  # noqa: RUF012


flask_group = FlaskToolGroup("hybrid", help="Watch, ask and examine the running host of this app (hakgal_hybrid).")
