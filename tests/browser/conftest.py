from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.harness import needs
from tests.harness.process import ROOT

SCREENSHOTS = ROOT / "var" / "screenshots"
# Milliseconds to wait for what should appear; a machine may be busy with other tests.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = needs.chromium()
    if executable is None:
        needs.missing("Chromium (none on the PATH, none named by CHROMIUM)")
    # Its sandbox cannot be set up by root, which containers often are.
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=sandbox + quiet)
        yield browser
        browser.close()


@pytest.fixture
def context_options() -> dict[str, Any]:
    """What this test's browser is like; tests parametrize it."""
    return {}


@pytest.fixture
def page(
    browser: Browser, context_options: dict[str, Any], request: pytest.FixtureRequest
) -> Iterator[Page]:
    """A page of a fresh browser profile; its last sight is kept if the test fails."""
    context: BrowserContext = browser.new_context(**context_options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    yield page
    if request.session.testsfailed > request.node.session_failures:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png", full_page=True)
    context.close()
    assert errors == [], "the browser's console has errors"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # testsfailed counts up between the test's call and its fixtures' end.
    item.session_failures = item.session.testsfailed  # type: ignore[attr-defined]
