"""Html: HTML as the payload of an event."""

from __future__ import annotations

import re
from typing import Any

from ..errors import EventError

#: How Datastar may put HTML into the page.
MODES = ("outer", "inner", "replace", "prepend", "append", "before", "after", "remove")

#: The classes of most payloads. To ask a class for what it has not takes ten times as long as to look here.
_PLAIN = frozenset({dict, list, str, int, float, bool, bytes, type(None)})
#: What ends a line of a stream, or of a field.
LINE_BREAKERS = re.compile(r"[\r\n\x00]")


class Html(str):
    """HTML text. Readers of ``format=html`` and ``format=datastar`` get it as it is, all others as a JSON string.

    Jinja takes it for safe, as it does :class:`markupsafe.Markup`.

    :param text: the text, or an object with ``__html__``. Escape in it what others have written.
    :param selector: for Datastar, the CSS selector of the element that is patched; ``None``: the one with the same id.
    :param mode: for Datastar, how the element is patched: one of :data:`MODES`; ``None``: ``outer``.
    :ivar placement: selector and mode, as fields of ``datastar-patch-elements``.

    .. versionadded:: 0.1
    """

    placement: str

    def __new__(cls, text: object = "", *, selector: str | None = None, mode: str | None = None) -> Html:
        """Make an HTML text.

        :param text: the text, or an object with ``__html__``.
        :param selector: for Datastar, the CSS selector of the element that is patched.
        :param mode: for Datastar, how the element is patched.
        :return: the text.
        :raises EventError: if the selector is no line of text, or the mode is unknown.
        """
        if selector is not None and (not selector or LINE_BREAKERS.search(selector)):
            raise EventError(f"selector {selector!r:.80} is not one line of text", code="bad_payload")
        if mode is not None and mode not in MODES:
            raise EventError(f"mode {mode!r:.80} is not accepted; use one of {', '.join(MODES)}", code="bad_payload")
        made = super().__new__(cls, html_text(text) if is_html(text) else text)
        made.placement = "".join(f"{field} {value}\n" for field, value in (("selector", selector), ("mode", mode))
                                 if value is not None)
        return made

    def __html__(self) -> Html:
        """Return the text itself."""
        return self


def is_html(value: object) -> bool:
    """Return true for a value that says of itself that it is HTML, as templates and forms do.

    :param value: what is emitted.
    """
    return type(value) not in _PLAIN and hasattr(type(value), "__html__")


def html_text(value: Any) -> str:
    """Return the HTML of a value.

    :param value: one with ``__html__``.
    :return: plain text of the class ``str``.
    :raises EventError: if ``__html__`` raises, or returns something else.
    """
    try:
        text = value.__html__()
    except Exception as error:  # it is the host's
        raise EventError(f"__html__ of {type(value).__name__} raised {type(error).__name__}: {error}",
                         code="bad_payload") from error
    if not isinstance(text, str):
        raise EventError(f"__html__ of {type(value).__name__} returned {text!r:.80}, which is no text",
                         code="bad_payload")
    return str.__str__(text)
