"""The script of watched tasks in a real browser: how many streams it opens, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_browser import log_in, names
from tests.harness.site import LiveSite

# What the page is to believe about itself; and that it has changed.
SET_HIDDEN = """(hidden) => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Streams:
    """The event streams that a page has opened, and those of them that it has closed."""

    def __init__(self, page: Page) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        page.on("request", lambda request: self._note(self.opened, request.url))
        page.on("requestfailed", lambda request: self._note(self.closed, request.url))

    @staticmethod
    def _note(urls: list[str], url: str) -> None:
        if url.endswith("format=events"):
            urls.append(url)


@pytest.fixture
def reports(page: Page, site: LiveSite) -> Iterator[Page]:
    """A page that watches three reports, which nobody builds."""
    name = f"clerk-{next(names)}"
    site.staff(name)
    log_in(page, site, name)
    page.get_by_role("link", name="Reports").click()
    expect(page.locator("[data-watch]")).to_have_count(0)  # of an earlier test
    site.worker.stop()
    for built in range(1, 4):
        page.get_by_role("button", name="Build the report").click()
        expect(page.locator("[data-watch]")).to_have_count(built)
    yield page
    if not site.worker.alive:
        site.worker = site.start_worker()


def test_a_page_has_two_streams_at_most_and_asks_for_the_others(reports: Page) -> None:
    streams = Streams(reports)
    third = reports.locator("[data-watch]").nth(2).get_attribute("hx-get") or ""
    with reports.expect_response(lambda answer: answer.url.endswith(third)):
        reports.reload()
    assert len(set(streams.opened)) == 2


def test_a_page_that_nobody_sees_has_no_stream(reports: Page) -> None:
    streams = Streams(reports)
    with reports.expect_event("requestfailed", lambda _: len(streams.closed) == 2):
        reports.evaluate(SET_HIDDEN, True)
    assert streams.opened == []
    with reports.expect_event("request", lambda _: len(streams.opened) == 2):
        reports.evaluate(SET_HIDDEN, False)
    assert sorted(streams.opened) == sorted(streams.closed)


def test_when_one_ends_the_next_gets_its_stream(reports: Page, site: LiveSite) -> None:
    first = reports.locator("[data-watch]").first.get_attribute("data-watch") or ""
    task_id = re.findall(r"\d+", first)[0]
    streams = Streams(reports)
    with reports.expect_event("request", lambda _: len(streams.opened) == 1):
        site.shell(f"from bgtasks import AsyncResult; AsyncResult({task_id}).revoke()")
    expect(reports.locator("[data-watch]")).to_have_count(2)
