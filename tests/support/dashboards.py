"""The dashboard in a tab of Chromium."""

from __future__ import annotations

from typing import Any

from .servers import Server, wait_until


class Page:
    """The dashboard in a tab of its own browser profile; collects what must not happen."""

    def __init__(self, browser: Any, server: Server, script: str = "", **options: Any) -> None:
        self.server = server
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(30_000)
        self.page = self.context.new_page()
        self.page.add_init_script(script)
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text)
                     if "Content Security Policy" in message.text else None)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"http://127.0.0.1:{server.port}/api/hybrid/")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.faults == []

    def wait(self, script: str, arg: Any = None) -> None:
        """Wait until a script is true. (Playwright's own way evaluates text in the page, which its policy forbids.)"""
        wait_until(lambda: self.page.evaluate(script, arg), 30, script)

    def wait_connected(self) -> Page:
        """Wait until the page has its figures and its stream."""
        self.wait("document.querySelector('#health').dataset.level !== 'unknown' "
                  "&& document.querySelector('#events-state').textContent === ''")
        return self

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def names(self) -> list[str]:
        """The names of the events that are shown."""
        return list(self.page.eval_on_selector_all("#events .name", "items => items.map(item => item.textContent)"))

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait("([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
                  [selector, text])

    def active(self) -> str:
        """The element that has the focus: its id, or its tag and text."""
        return str(self.page.evaluate("(item => item.id || `${item.tagName} ${item.className}`.trim())"
                                      "(document.activeElement)"))


def opened(browser: Any, server: Server, script: str = "", **options: Any) -> Page:
    return Page(browser, server, script, **options)


_VIOLATIONS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
    found => [found.id, found.nodes.map(node => node.html.slice(0, 200) + " " + node.failureSummary)])"""


def accessible(page: Page, axe: str) -> None:
    page.page.evaluate(axe)  # through the debugger: the page's policy would not let it in
    assert page.page.evaluate(_VIOLATIONS) == []
