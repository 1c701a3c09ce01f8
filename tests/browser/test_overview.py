"""The overview, the workers and the schedules, as an operator sees them in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_browser import DARK, PHONE, inspect
from tests.harness.site import PASSWORD, LiveSite

BASE = "/admin/bgtasks/operations/"


@pytest.fixture(scope="module")
def operator(site: LiveSite) -> str:
    """The name of somebody who may do everything, on a site on which tasks run and fail."""
    site.shell(
        "from signup.models import User;"
        f"User.objects.create_superuser('watcher', 'w@example.com', {PASSWORD!r});"
        "from signup.tasks import discard_files as task; from bgtasks.models import Task;"
        "task.map([[]] * 20); task(['kept'], schedule=3600, queue='a-queue-with-a-long-name');"
        "task([], repeat=3600, schedule=60);"
        "row = task(['broken'], schedule=3600);"
        "Task.objects.filter(pk=row.pk).update(task_params='[[7], {}]', run_at='2020-01-01')"
    )
    site.worker.wait_for("Rescheduling signup.tasks.discard_files")
    return "watcher"


@pytest.fixture
def overview(page: Page, site: LiveSite, operator: str) -> Page:
    page.goto(f"{site.url}{BASE}")
    page.get_by_label("Username").fill(operator)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
    return page


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
    overview.get_by_role("button", name="Pause a-queue-with-a-long-name").click()
    expect(overview.get_by_text("Queue a-queue-with-a-long-name is paused.")).to_be_visible()
    inspect(overview)
    overview.get_by_role("button", name="Resume a-queue-with-a-long-name").click()
    expect(overview.get_by_text("Queue a-queue-with-a-long-name is resumed.")).to_be_visible()
