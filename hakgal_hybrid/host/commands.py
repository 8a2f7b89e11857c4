"""``hakgal-hybrid exec`` and ``hakgal-hybrid run``: start a backend under this package."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigurationError
from ..logs import get_logger, log_to_stderr
from ..settings import Profile, current_profile, load_settings


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--class", "target", metavar="MODULE:CLASS",
              help="Swap only the SocketIO that this class makes in its constructor; default: every one.")
@click.option("--children", is_flag=True, help="Hook child Python processes too.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(target: str | None, children: bool, command: tuple[str, ...]) -> None:
    """Run an unchanged start command, with every SocketIO of Flask-SocketIO swapped.

    \b
    Examples:
      hakgal-hybrid exec -- python run.py
      hakgal-hybrid exec -- flask --app shop run
      hakgal-hybrid exec -- gunicorn -k gthread --threads 32 'shop:create_app()'
      hakgal-hybrid exec -- python -c "from hexagonal_api_enhanced_clean import HexagonalAPI; …"
      hakgal-hybrid exec --class backend.api:Api -- gunicorn -k gthread 'wsgi:app'
    """  # noqa: D301 (click's mark for "do not wrap")
    from .launcher import arm, run_command

    _log_to_stderr()
    arm(target, children=children)
    try:
        again = [*(["--class", target] if target else []), *(["--children"] if children else [])]
        status = run_command(list(command), again)
    except KeyboardInterrupt:
        status = 130  # as a shell calls what an interrupt ended
    except (EOFError, OSError):  # the command's own, of which click would not show the traceback
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.exit(status)


@click.command("run")
@click.argument("target", metavar="MODULE:NAME")
@click.option("--app-dir", default=".", type=click.Path(exists=True, file_okay=False), help="Where the module is.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; default HAKGAL_PORT or 5001.")
@click.option("--set", "options", multiple=True, metavar="KEY=JSON",
              help="Keyword for the class or factory, such as enable_governor=false.")
@click.option("--debug", is_flag=True, help="Flask's debug mode.")
def run(target: str, app_dir: str, host: str, port: int | None, options: tuple[str, ...], debug: bool) -> None:
    """Serve a host class, a factory (create_app) or a plain Flask app.

    \b
    Examples:
      hakgal-hybrid run hexagonal_api_enhanced_clean:HexagonalAPI --app-dir src_hexagonal --port 5001
      hakgal-hybrid run app:create_app --set enable_all=false
      hakgal-hybrid run app:app
    """  # noqa: D301
    from .hybridize import hook, hook_socketio, hybridize, prepare

    profile = current_profile()
    rollback = profile is Profile.WEBSOCKET
    # A rollback must not stumble over a setting that it does not need.
    wanted = {name: os.environ[name] for name in ("HAKGAL_PORT",) if name in os.environ} if rollback else os.environ
    settings = load_settings(environ=wanted)
    port = settings.port if port is None else port
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigurationError.bad_value("target", target, "MODULE:NAME")
    keywords = _keywords(options)
    sys.path.insert(0, str(Path(app_dir).resolve()))
    _log_to_stderr()
    if not rollback:
        prepare()
        hook()
        hook_socketio()
    thing = _found(module_name, name)
    if isinstance(thing, type):
        takes_flag = "enable_websocket" in _parameters(thing)
        flag = {"enable_websocket": profile is not Profile.HYBRID} if takes_flag else {}
        _refuse_arguments(thing, target, {**flag, **keywords})
        thing = (thing if rollback else hybridize(thing))(**{**flag, **keywords})
    elif callable(thing) and not hasattr(thing, "wsgi_app"):
        _refuse_arguments(thing, target, keywords)
        thing = thing(**keywords)
    elif keywords:
        raise ConfigurationError(f"--set is for classes and factories; {target!r} is made already")
    if hasattr(thing, "wsgi_app"):
        _run_app(thing, host, port, debug, rollback)
        return
    if not hasattr(thing, "app") or not hasattr(thing, "run"):
        raise ConfigurationError.bad_value("target", target, "the name of a host's class or factory, or of a Flask app")
    if not rollback:
        _ensure_transport(thing)
    thing.run(host=host, port=port, debug=debug)


def _parameters(thing: Any) -> Any:
    try:
        return inspect.signature(thing).parameters
    except ValueError:  # built in, without a signature
        return {}


def _refuse_arguments(thing: Any, target: str, keywords: dict[str, Any]) -> None:
    """Check that a class or factory can be called with these keywords and nothing else."""
    try:
        inspect.signature(thing).bind(**keywords)
    except TypeError as error:
        raise ConfigurationError(f"{target!r} cannot be called so: {error}; --set KEY=JSON gives it keywords") from None
    except ValueError as error:
        raise ConfigurationError.bad_value("target", target,
                                           "the name of a host's class or factory, or of a Flask app") from error


def _ensure_transport(api: Any) -> None:
    """Give a transport to a host that has none: a factory made it of a class that the hook does not know."""
    from ..extension import HybridTransport
    from ..web.transport import KEY

    if KEY not in api.app.extensions:
        HybridTransport(api)


def _run_app(app: Any, host: str, port: int, debug: bool, rollback: bool) -> None:
    if rollback:
        _run_as_without_us(app, host, port, debug)
        return
    from ..extension import HybridTransport
    from ..web.transport import KEY

    if KEY not in app.extensions and "socketio" in app.extensions:
        get_logger(__name__).warning(
            "the SocketIO of this app is none of Flask-SocketIO's and was not swapped: its events do not leave by SSE")
    transport = HybridTransport.of(app) if KEY in app.extensions else HybridTransport(app)
    transport.run(host, port, debug=debug, use_reloader=False)


def _run_as_without_us(app: Any, host: str, port: int, debug: bool) -> None:
    """Serve an app by its own SocketIO, if it has one, or by Flask."""
    socketio = app.extensions.get("socketio")
    if socketio is None:
        app.run(host=host, port=port, debug=debug, threaded=True, use_reloader=False)
        return
    # Werkzeug's server, which mode "threading" means, is refused without a terminal unless this is said.
    own = {"allow_unsafe_werkzeug": True} if socketio.async_mode == "threading" else {}
    socketio.run(app, host=host, port=port, debug=debug, use_reloader=False, **own)


def _found(module_name: str, name: str) -> Any:
    if module_name.startswith("."):
        raise ConfigurationError.bad_value("target", f"{module_name}:{name}", "MODULE:NAME, the module by its full "
                                           "name; --app-dir says in which folder it is")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something the host itself needs is missing: its own traceback says what
        raise ConfigurationError(f"there is no module {module_name!r}; say where it is with --app-dir") from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise ConfigurationError(f"module {module_name!r} has no {name!r}") from None


def _keywords(options: tuple[str, ...]) -> dict[str, Any]:
    keywords = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError.bad_value("--set", option, "KEY=JSON, such as enable_governor=false")
        try:
            keywords[name] = json.loads(value)
        except ValueError:
            keywords[name] = value  # a bare word is a text
    return keywords


def _log_to_stderr() -> None:
    if current_profile() is not Profile.WEBSOCKET:
        log_to_stderr()


COMMANDS = {"exec": (lambda: exec_command,), "run": (lambda: run,)}
