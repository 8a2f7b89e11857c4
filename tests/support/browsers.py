"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .needs import missing

#: Without a sandbox, as root; and asking nothing of the internet.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebound.test 127.0.0.1"]


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser; skip without one, but fail in continuous integration."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        missing("no Chromium, or no Playwright: apt-get install chromium, pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")  # not for longer: Playwright's loop runs until then, and there can be one only
def browser() -> Iterator[Any]:
    """A browser for the tests of one module."""
    with chromium() as running:
        yield running
