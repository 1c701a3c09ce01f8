"""The overview, the workers and the schedules, as an operator sees them in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import operators
from tests.browser.operators import BASE
from tests.browser.test_browser import DARK, PHONE, inspect
from tests.harness.site import LiveSite


@pytest.fixture(scope="module")
def operator(site: LiveSite) -> str:
    return operators.create(
        site, "watcher", "task.map([[]] * 20)", "task([], repeat=3600, schedule=60)"
    )


@pytest.fixture
def overview(page: Page, site: LiveSite, operator: str) -> Page:
    return operators.enter(page, site, operator, "", "Overview")


@pytest.mark.parametrize(
    "context_options", [{}, DARK, PHONE, PHONE | DARK], ids=["light", "dark", "phone", "phone-dark"]
)
def test_every_page_is_accessible_and_fits_its_screen(
    overview: Page, site: LiveSite, context_options: dict[str, Any]
) -> None:
    # What was counted reaches the charts within seconds, and the page refreshes itself.
    expect(overview.get_by_role("link", name="signup.tasks.discard_files").first).to_be_visible()
    overview.get_by_text("Numbers").first.click()
    inspect(overview)
    for page in ("?range=week", "workers/", "schedules/"):
        overview.goto(f"{site.url}{BASE}{page}")
        inspect(overview)


@pytest.mark.parametrize("context_options", [{}, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_its_screen_from_right_to_left(overview: Page, site: LiveSite) -> None:
    for page in ("", "tasks/", "workers/", "schedules/"):
        overview.goto(f"{site.url}{BASE}{page}")
        overview.evaluate("document.documentElement.dir = 'rtl'")
        inspect(overview)


def test_the_overview_refreshes_itself_and_keeps_what_is_open(
    overview: Page, site: LiveSite
) -> None:
    expect(overview.get_by_text("Numbers").first).to_be_visible()
    overview.get_by_text("Numbers").first.click()
    site.shell(
        "from signup.tasks import discard_files as task; task([], schedule=3600, queue='fresh')"
    )
    expect(overview.get_by_role("link", name="fresh", exact=True)).to_be_visible()
    expect(overview.locator("#bgtasks-throughput-numbers")).to_have_attribute("open", "")


def test_a_queue_is_paused_by_a_click(overview: Page) -> None:
    overview.get_by_role("button", name="Pause a-queue-with-quite-a-long-name").click()
    expect(overview.get_by_text("Queue a-queue-with-quite-a-long-name is paused.")).to_be_visible()
    inspect(overview)
    overview.get_by_role("button", name="Resume a-queue-with-quite-a-long-name").click()
    expect(overview.get_by_text("Queue a-queue-with-quite-a-long-name is resumed.")).to_be_visible()
