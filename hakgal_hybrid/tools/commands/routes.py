"""``flask hybrid routes``: the URLs that are answered in front of the app; ``flask routes`` does not know them."""

from __future__ import annotations

import click

from ...errors import ConfigurationError


def make() -> click.Command:
    """Return the command."""
    return click.Command("routes", callback=_list_routes, help="""List the URLs that hakgal_hybrid answers.

They are answered in front of the app, so that ``flask routes`` does not list them. The last column says who may use a
URL: the public, whom the app lets in, who may read, who has a ticket, who may command.

\b
Example:
  flask --app app hybrid routes
""")


def _list_routes() -> None:
    from flask.cli import ScriptInfo

    app = click.get_current_context().ensure_object(ScriptInfo).load_app()
    transport = app.extensions.get("hakgal_hybrid")
    if transport is None:
        raise ConfigurationError(f"{app!r} has no HybridTransport; make one with HybridTransport(app)")
    rows = [("URL", "Methods", "Access"), *((route.rule, route.methods, route.access_by(transport.settings).value)
                                             for route in transport.routes())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


COMMANDS = {"routes": (make, make)}
