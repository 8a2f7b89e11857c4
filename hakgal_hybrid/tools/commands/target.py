"""Which host a command is for: a URL in ``hakgal-hybrid NAME URL …``, the app's own in ``flask hybrid NAME …``.

A command is a function whose first argument is a :class:`Target`; :func:`for_shell` and :func:`for_flask` make the two
commands of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from flask.cli import ScriptInfo

from ...errors import ConfigurationError, HybridError
from ..remote.request import Answer, Base, request
from ..remote.stream import problem_of

#: What is taken for a URL where another argument may stand in its place.
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_URL = re.compile(r"https?://|(localhost|\[[0-9a-f:.]+\])(:\d+)?(/.*)?$|[\w-]+(\.[\w-]+)+:\d+(/.*)?$", re.IGNORECASE)
#: Exit status of a command that was understood and did not succeed.
FAILED = 1


@dataclass(frozen=True)
class Target:
    """A host, and the key to it."""

    url: str
    key: str | None = None

    @property
    def base(self) -> Base:
        """The URL, taken apart."""
        return Base.of(self.url)

    @property
    def headers(self) -> dict[str, str]:
        """What proves that we may."""
        return {} if self.key is None else {"X-API-Key": self.key}

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, *,
            timeout: float = 30.0) -> Answer:
        """Make a request.

        :param method: the HTTP method.
        :param path: the path with its query.
        :param body: a JSON value; ``None`` sends no body.
        :param headers: sent with the request, by name.
        :param timeout: how long an address may take to accept, and each part of an answer, in seconds.
        :raises Failure: if it is not answered, or refused; with the code and the sentence that the host gave.
        """
        try:
            answer = request(self.base, method, path, body, {**self.headers, **(headers or {})}, timeout=timeout)
        except OSError as error:
            raise Failure(f"{self.base.url} does not answer: {error or type(error).__name__}") from error
        if answer.status >= 400:
            document = answer.json()
            if answer.status in (404, 405) and not (isinstance(document, dict) and "code" in document):
                raise Failure(f"{method} {path} was answered with status {answer.status}, and not by this package: the "
                              f"host at {self.base.url} does not have it, or has this route turned off")
            raise Failure.of(problem_of(document, answer.status))
        return answer


class Failure(click.ClickException):
    """What a command could not do: one line, exit status 1."""

    exit_code = FAILED

    @classmethod
    def of(cls, error: HybridError) -> Failure:
        """Make one of an error that a host answered with, or that was raised here.

        :param error: what was raised.
        """
        return cls(f"{error.detail} ({error.code})")


def read_key(path: str | None) -> str | None:
    """Return the key: the first line of the file, or that of the environment's ``HAKGAL_API_KEY``.

    There is no option for the key itself, because every user of a machine can see what a command was called with.

    :param path: a file whose first line is the key; ``None`` for the environment.
    """
    if path is None:
        return os.environ.get("HAKGAL_API_KEY") or None
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    key = lines[0].strip() if lines else ""
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"{path} holds no key in its first line; a key is printable ASCII text")
    return key


def _key_file() -> click.Option:
    return click.Option(["--key-file"], type=click.Path(exists=True, dir_okay=False),
                        help="File whose first line is the API key; default: the environment's HAKGAL_API_KEY.")


def for_shell(name: str, run: Callable[..., Any], params: list[click.Parameter], *, doc: str = "") -> click.Command:
    """Return the command of ``hakgal-hybrid``: its first argument is the URL.

    :param name: its name.
    :param run: what the command does; its first argument is a :class:`Target`.
    :param params: its options and arguments, beside those that every command has.
    :param doc: its help; by default the docstring of ``run``.
    """

    def callback(url: str, key_file: str | None, **values: Any) -> Any:
        Base.of(url)  # a wrong URL is refused before anything is done
        return run(Target(url, read_key(key_file)), **values)

    return click.Command(name, callback=callback, params=[click.Argument(["url"], metavar="URL"), *params, _key_file()],
                         help=doc or run.__doc__)


def for_flask(name: str, run: Callable[..., Any], params: list[click.Parameter], *, doc: str = "") -> click.Command:
    """Return the command of ``flask hybrid``: the URL may be left out, and is by default that of the app.

    :param name: its name.
    :param run: what the command does; its first argument is a :class:`Target`.
    :param params: its options and arguments, beside those that every command has.
    :param doc: its help; by default the docstring of ``run``.
    """

    def callback(url: str | None = None, key_file: str | None = None, **values: Any) -> Any:
        if url is not None:
            Base.of(url)
            return run(Target(url, read_key(key_file)), **values)
        target = of_app()
        return run(Target(target.url, read_key(key_file) or target.key), **values)

    where = click.Argument(["url"], metavar="[URL]", required=False)
    text = re.sub(r"hakgal-hybrid (\w+)(?: https?://\S+)?", r"flask --app app hybrid \1", doc or run.__doc__ or "")
    return _AppCommand(name, callback=callback, params=[where, *params, _key_file()], help=text)


class _AppCommand(click.Command):
    """A command whose first argument is a URL, or left out: an action or an event's name looks like none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what was typed.

        :param ctx: the context of the command.
        :param args: what was typed.
        """
        options: list[click.Parameter] = [param for param in self.params if isinstance(param, click.Option)]
        others = [param for param in self.params if isinstance(param, click.Argument) and param.name != "url"]
        words = click.Command(self.name, params=options).make_parser(ctx).parse_args(list(args))[1]
        enough = len(words) > sum(param.required for param in others)
        asks_help = any(name in args for name in ctx.help_option_names)  # which shows that there may be a URL
        if others and not asks_help and not (words and (_URL if enough else _SCHEME).match(words[0])):
            self.params = [param for param in self.params if param.name != "url"]
        return super().parse_args(ctx, args)


def of_app() -> Target:
    """Return where the app of ``flask --app`` is served by its own settings, and its key.

    That is ``SERVER_NAME`` if the app has one, else ``127.0.0.1`` and ``HAKGAL_PORT``.

    :raises ConfigurationError: if the app has no transport.
    """
    app = click.get_current_context().ensure_object(ScriptInfo).load_app()
    if "hakgal_hybrid" not in app.extensions:
        raise ConfigurationError(f"{app!r} has no HybridTransport; make one with HybridTransport(app)")
    settings = app.extensions["hakgal_hybrid"].settings
    scheme = app.config["PREFERRED_URL_SCHEME"]
    name = app.config["SERVER_NAME"] or f"127.0.0.1:{settings.port}"
    return Target(f"{scheme}://{name}{app.config['APPLICATION_ROOT'].rstrip('/')}{settings.prefix}", settings.api_key)


def makers(name: str, run: Callable[..., Any], *params: click.Parameter) -> tuple[
        Callable[[], click.Command], Callable[[], click.Command]]:
    """Return what makes the two commands of one function.

    :param name: its name.
    :param run: what the command does; its first argument is a :class:`Target`.
    :param params: its options and arguments, beside those that every command has.
    """
    return partial(for_shell, name, run, list(params)), partial(for_flask, name, run, list(params))
