"""The admin's pages of background tasks, as an operator sees them in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import operators
from tests.browser.operators import BASE
from tests.browser.test_browser import DARK, PHONE, inspect
from tests.harness.site import LiveSite


@pytest.fixture(scope="module")
def operator(site: LiveSite) -> str:
    return operators.create(site, "operator")


@pytest.fixture
def tasks(page: Page, site: LiveSite, operator: str) -> Page:
    """The list of tasks."""
    return operators.enter(page, site, operator, "tasks/", "Tasks")


def filled(site: LiveSite, queue: str, count: int) -> None:
    """Put tasks into a queue that are not due yet."""
    site.shell(
        "from signup.tasks import discard_files as task;"
        f"task.map([[]] * {count}, queue={queue!r}, schedule=3600)"
    )


@pytest.mark.parametrize(
    "context_options", [{}, DARK, PHONE, PHONE | DARK], ids=["light", "dark", "phone", "phone-dark"]
)
def test_every_page_is_accessible_and_fits_its_screen(
    tasks: Page, site: LiveSite, context_options: dict[str, Any]
) -> None:
    for query in ("", "?state=retrying&within=week", "?since=soon", "?name=nobody"):
        tasks.goto(f"{site.url}{BASE}tasks/{query}")
        inspect(tasks)
        for listed in tasks.locator(".bgtasks-list").all():
            assert listed.evaluate("each => each.scrollWidth <= each.clientWidth"), "cut off"
    tasks.goto(f"{site.url}{BASE}tasks/?state=retrying")
    tasks.get_by_role("link", name="signup.tasks.discard_files").first.click()
    expect(tasks.get_by_text("Traceback (most recent call last)").first).to_be_visible()
    inspect(tasks)
    url = tasks.url
    tasks.get_by_role("button", name="Change the priority").click()
    expect(tasks.get_by_label("The new priority")).to_be_visible()
    inspect(tasks)
    tasks.get_by_label("The new priority").fill("5000000000")
    tasks.get_by_role("button", name="Change the priority").click()
    expect(tasks.get_by_text("give a whole number from")).to_be_visible()
    inspect(tasks)
    tasks.get_by_role("link", name="No, go back").click()
    expect(tasks).to_have_url(url)


def test_an_address_has_only_what_is_filtered_by(tasks: Page) -> None:
    tasks.get_by_role("checkbox", name="retrying").check()
    tasks.get_by_role("button", name="Show", exact=True).click()
    expect(tasks).to_have_url(re.compile(r"/tasks/\?state=retrying$"))


def test_an_action_on_all_that_matches_goes_on_by_itself(tasks: Page, site: LiveSite) -> None:
    filled(site, "many", 400)
    tasks.goto(f"{site.url}{BASE}tasks/?queue=many&state=scheduled")
    tasks.get_by_label("Action").select_option("Cancel what waits")
    tasks.get_by_role("button", name="On all that match the filter").click()
    expect(tasks.get_by_text("Cancel what waits: 400 tasks.")).to_be_visible()
    inspect(tasks)
    tasks.get_by_role("button", name="Cancel what waits").click()
    expect(tasks.get_by_text("400 tasks were cancelled.")).to_be_visible()
    expect(tasks.get_by_text("No task matches the filter.")).to_be_visible()


def test_one_box_chooses_the_whole_page(tasks: Page, site: LiveSite) -> None:
    filled(site, "few", 3)
    tasks.goto(f"{site.url}{BASE}tasks/?queue=few")
    tasks.get_by_label("All on this page").check()
    tasks.get_by_label("Action").select_option("Move to another queue")
    tasks.get_by_role("button", name="On what is chosen").click()
    tasks.get_by_label("The new queue").fill("moved")
    tasks.get_by_role("button", name="Move to another queue").click()
    expect(tasks.get_by_text("3 tasks were moved.")).to_be_visible()


@pytest.mark.parametrize("context_options", [{"java_script_enabled": False}])
def test_without_javascript_an_action_goes_on_by_a_button(
    tasks: Page, site: LiveSite, context_options: dict[str, Any]
) -> None:
    filled(site, "plain", 400)
    tasks.goto(f"{site.url}{BASE}tasks/?queue=plain")
    expect(tasks.get_by_label("All on this page")).to_be_hidden()
    tasks.get_by_label("Action").select_option("Cancel what waits")
    tasks.get_by_role("button", name="On all that match the filter").click()
    tasks.get_by_role("button", name="Cancel what waits").click()
    while (more := tasks.get_by_role("button", name="Go on")).count():
        more.click()
    expect(tasks.get_by_text("400 tasks were cancelled.")).to_be_visible()
