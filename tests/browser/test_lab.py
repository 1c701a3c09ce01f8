"""The lab in a real browser: each button yields figures and a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from lab.catalogue import PATTERNS, Pattern
from tests.browser.test_browser import DARK, PHONE, inspect
from tests.harness.site import PASSWORD, LabSite
from tests.harness.waiting import eventually

# One lab at a time: its clients and a browser keep a machine with two cores busy.
pytestmark = [pytest.mark.xdist_group("lab"), pytest.mark.any_database, pytest.mark.once]

# Runs of both ways of a pattern, with all that is shown of them; it prints the last one's number.
MEASURED = """
from tests.site.lab.helpers import over
samples = {"points": [[-0.5, 4], [0.1, 900], [0.9, 20]]}
figures = {"TTFB": 30, "LCP": 60, "INP": 16, "IDLE_P50": 5, "OTHERS_P50": 6, "OTHERS_LONGEST": 900}
for way in ("view", "background"):
    for _ in range(4):
        run = over("mail", way, samples=samples, server="WSGI", **figures)
print(run.pk)
"""


@pytest.fixture(scope="module")
def lab_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    site = LabSite(tmp_path_factory.mktemp("lab"))
    # Little work and few others: also on a slow machine, every run must end in time.
    site.env |= {"LAB_SCALE": "0.03", "LAB_OTHERS": "3"}
    site.start()
    site.staff("staff")
    yield site
    site.stop()


@pytest.fixture
def lab(page: Page, lab_site: LabSite) -> Page:
    """The page of the lab, with its servers ready."""
    page.goto(f"{lab_site.url}/lab/")
    page.get_by_label("Username").fill("staff")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("form.lab-run button:enabled").first).to_be_visible()
    return page


def run(page: Page, site: LabSite, pattern: str, way: str) -> dict[str, Any]:
    """Press a button, and wait for the figures; press it again if the run had a problem.

    On a machine that is busy with other tests, some of the others may get no answer.
    """

    def without_problem() -> dict[str, Any] | None:
        found = press(page, site, pattern, way)
        return None if found["problem"] else found

    return eventually(without_problem, f"a run of {pattern}, {way} without a problem", timeout=120)


def press(page: Page, site: LabSite, pattern: str, way: str) -> dict[str, Any]:
    before = page.url
    page.locator(f"#run-{pattern}-{way}:enabled").click()
    page.wait_for_url(lambda url: url != before and "?run=" in url)
    [number] = re.findall(r"run=(\d+)", page.url)

    def measured() -> dict[str, Any] | None:
        found: dict[str, Any] = page.request.get(f"{site.url}/lab/runs/{number}/").json()
        # What a browser reports may come a little later.
        return found if found["problem"] or "TTFB" in found["browser"] else None

    return eventually(measured, f"the browser has reported run {number}")


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.key)
def test_each_button_yields_figures_and_a_verdict(
    lab: Page, lab_site: LabSite, pattern: Pattern
) -> None:
    for way in pattern.ways:
        found = run(lab, lab_site, pattern.key, way.key)
        expected = {"TTFB", "SERVER", "DONE", "OTHERS_P50", "OTHERS_LONGEST"}
        assert expected <= found["figures"].keys()
        if pattern.companions:
            assert len(found["samples"]["companions"]) == pattern.companions
        section = lab.locator(f"#{pattern.key}")
        expect(section.get_by_role("heading", name=f"Your run: {way.title}")).to_be_visible()
    for way in pattern.ways[1:]:
        heading = section.get_by_role("heading", name=f"{way.title}, compared with", exact=False)
        expect(heading.first).to_be_visible()
    expect(section.get_by_text("Time to first byte (TTFB):").first).to_be_visible()


def test_the_browser_reports_all_its_figures(lab: Page, lab_site: LabSite) -> None:
    numbers = []

    def reported() -> bool:
        """Whether any run so far has all; without a window, a browser may not report LCP."""
        numbers.append(run(lab, lab_site, "mail", "background")["id"])
        found = [lab.request.get(f"{lab_site.url}/lab/runs/{each}/").json() for each in numbers]
        return any(each["browser"].keys() == {"TTFB", "LCP", "INP"} for each in found)

    eventually(reported, "a run has TTFB, LCP and INP", timeout=120)


def test_a_click_on_a_busy_script_is_seen_by_inp(lab: Page, lab_site: LabSite) -> None:
    found: list[dict[str, Any]] = []

    def reported() -> bool:
        """Whether INP of any run so far has the time of the script.

        The browser may first report how long the press took, and then the click that followed; on
        a machine that is busy with other tests, it may leave the page before it reports the click.
        """
        found.append(run(lab, lab_site, "click", "script"))
        addresses = [f"{lab_site.url}/lab/runs/{each['id']}/" for each in found]
        figures = [lab.request.get(address).json()["browser"] for address in addresses]
        return any(each.get("INP", 0) >= 400 for each in figures)

    eventually(reported, "INP has the time of the script", timeout=120)
    assert found[0]["server"] == "WSGI"


def test_who_presses_while_a_run_goes_on_is_told_so(lab: Page, lab_site: LabSite) -> None:
    # A run of somebody else that has no answer yet.
    number = lab_site.shell(
        "from lab.models import Run;"
        "print(Run.objects.create(pattern='mail', way='view', server='WSGI', visit='x').pk)"
    )
    other = lab.context.new_page()
    other.goto(f"{lab_site.url}/lab/")
    other.locator("#run-mail-view:enabled").click()
    answer = other.frame_locator("#answer-mail")
    expect(answer.get_by_text("only one is measured at a time")).to_be_visible()
    lab_site.shell(f"from lab.models import Run; Run.objects.filter(pk={number}).delete()")
    answer.get_by_role("link", name="Load the lab again").click()
    expect(other.locator("#run-mail-view:enabled")).to_be_visible()
    assert run(other, lab_site, "mail", "view")["figures"]


@pytest.mark.parametrize("context_options", [DARK, PHONE], ids=["dark", "phone"])
def test_the_page_is_accessible_and_fits_its_screen(
    lab: Page, lab_site: LabSite, context_options: dict[str, Any]
) -> None:
    number = lab_site.shell(MEASURED)
    lab.goto(f"{lab_site.url}/lab/?run={number}#mail")
    expect(lab.get_by_role("heading", name="Your run: in the background")).to_be_visible()
    for each in lab.locator("#mail details").all():
        each.evaluate("details => { details.open = true; }")
    inspect(lab)


@pytest.mark.parametrize("context_options", [{"java_script_enabled": False}])
def test_without_javascript_the_server_alone_is_measured(
    lab: Page, lab_site: LabSite, context_options: dict[str, Any]
) -> None:
    lab.locator("#run-mail-view").click()
    expect(lab.frame_locator("#answer-mail").get_by_text("has been sent")).to_be_visible()
    section = lab.locator("#mail")

    def measured() -> bool:
        lab.reload()
        return bool(section.get_by_text("What it costs the others").count())

    eventually(measured, "the page shows the figures")
    section.get_by_text("All figures").click()
    expect(section.get_by_text("The server's time for the answer")).to_be_visible()
