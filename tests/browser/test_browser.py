"""The site as a visitor sees it, in a real browser."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.harness import pictures
from tests.harness.site import PASSWORD, LiveSite

names = (f"visitor{number}" for number in itertools.count())

PHONE = {"viewport": {"width": 390, "height": 800}}
DARK = {"color_scheme": "dark"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "me.jpg"
    path.write_bytes(pictures.jpeg_with_location())
    return path


def send_signup(page: Page, name: str, email: str = "", picture: Path | None = None) -> None:
    """Fill the form of the page that is open, and send it."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Email address").fill(email)
    page.get_by_label("Password", exact=False).first.fill(PASSWORD)
    page.get_by_label("Password confirmation").fill(PASSWORD)
    if picture:
        page.get_by_label("Picture").set_input_files(picture)
    page.get_by_role("button", name="Sign up").click()


def sign_up(page: Page, site: LiveSite, picture: Path | None = None, email: str = "") -> str:
    name = next(names)
    page.goto(f"{site.url}/signup/")
    send_signup(page, name, email or f"{name}@example.com", picture)
    page.wait_for_url("**/account/")
    return name


def log_in(page: Page, site: LiveSite, name: str) -> None:
    page.goto(f"{site.url}/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/account/")


def test_a_signup_lands_on_the_account_with_its_message(page: Page, site: LiveSite) -> None:
    name = sign_up(page, site)
    expect(page.get_by_text("User registered")).to_be_visible()
    expect(page.get_by_role("definition").first).to_have_text(name)


def test_the_picture_and_the_word_of_the_mail_take_their_place_without_a_reload(
    page: Page, site: LiveSite, picture: Path
) -> None:
    site.worker.stop()  # so that the placeholder can be looked at
    try:
        sign_up(page, site, picture)
        expect(page.get_by_label("Your picture is being prepared")).to_be_visible()
        expect(page.get_by_text("on its way")).to_be_visible()
        page.evaluate("window.loadedOnce = true")
    finally:
        site.worker = site.start_worker()
    image = page.get_by_role("img", name="Your picture")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("(picture) => picture.naturalWidth") > 0
    expect(page.get_by_text("sent", exact=True)).to_be_visible()
    assert page.evaluate("window.loadedOnce")
    expect(page.get_by_label("Your picture is being prepared")).to_have_count(0)


REMEMBER = """
// Nothing asks from time to time, so that only events tell what has changed.
window.setInterval = () => 0;
const { setTimeout } = window;
window.setTimeout = (call, after, ...more) =>
  after >= 30000 ? 0 : setTimeout(call, after, ...more);
window.told = [];
addEventListener("task-changed", (event) => {
  told.push(event.detail);
  document.body.dataset.told = told.length;
});
"""
NO_STREAMS = """
window.EventSource = class extends EventTarget {
  static CLOSED = 2;
  readyState = 2;
  constructor() { super(); setTimeout(() => this.dispatchEvent(new Event("error"))); }
  close() {}
};
"""


def test_the_page_is_told_by_an_event_when_the_picture_is_ready(
    page: Page, site: LiveSite, picture: Path
) -> None:
    page.add_init_script(REMEMBER)
    site.worker.stop()
    try:
        sign_up(page, site, picture)
        expect(page.locator("body[data-told]")).to_be_attached()
        assert page.evaluate("told.every((task) => task.state === 'waiting')")
    finally:
        site.worker = site.start_worker()
    expect(page.get_by_role("img", name="Your picture")).to_be_visible()
    assert page.evaluate("told.some((task) => task.succeeded)")
    expect(page.locator("[data-watch]")).to_have_count(0)  # the mail was sent too


def test_where_no_stream_can_be_had_the_page_asks(
    page: Page, site: LiveSite, picture: Path
) -> None:
    page.add_init_script(NO_STREAMS)
    sign_up(page, site, picture)
    expect(page.get_by_role("img", name="Your picture")).to_be_visible()


@pytest.mark.parametrize("context_options", [{"java_script_enabled": False}])
def test_without_javascript_the_picture_comes_with_a_reload(
    page: Page, site: LiveSite, picture: Path
) -> None:
    before = site.worker.mark()
    sign_up(page, site, picture)
    site.worker.wait_for(" signup.tasks.make_renditions (attempt", before)
    page.reload()
    expect(page.get_by_role("img", name="Your picture")).to_be_visible()


def test_a_refused_picture_says_why_and_what_was_typed_stays(
    page: Page, site: LiveSite, tmp_path: Path
) -> None:
    fake = tmp_path / "me.png"
    fake.write_bytes(pictures.SVG)
    page.goto(f"{site.url}/signup/")
    send_signup(page, "mallory", picture=fake)
    expect(page.get_by_text("This is not a picture")).to_be_visible()
    expect(page.get_by_label("Username")).to_have_value("mallory")
    field = page.get_by_label("Picture")
    described = (field.get_attribute("aria-describedby") or "").split()
    assert any("not a picture" in page.locator(f"#{i}").inner_text() for i in described)


def test_after_an_error_elsewhere_the_picture_is_still_chosen(
    page: Page, site: LiveSite, picture: Path
) -> None:
    page.goto(f"{site.url}/signup/")
    send_signup(page, "z oe", picture=picture)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Username")).to_be_focused()
    send_signup(page, next(names))
    page.wait_for_url("**/account/")
    expect(page.get_by_role("img", name="Your picture")).to_be_visible()


def test_the_picture_is_removed_only_after_a_second_step(
    page: Page, site: LiveSite, picture: Path
) -> None:
    sign_up(page, site, picture)
    image = page.get_by_role("img", name="Your picture")
    expect(image).to_be_visible()
    page.get_by_text("Remove the picture").click()
    expect(page.get_by_text("It is deleted for good")).to_be_visible()
    expect(image).to_be_visible()
    page.get_by_role("button", name="Delete it").click()
    expect(image).to_have_count(0)


@pytest.mark.parametrize("context_options", [PHONE], ids=["phone"])
def test_all_of_the_code_is_seen_on_a_phone(page: Page, site: LiveSite) -> None:
    page.goto(site.url)
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('pre'))")


def test_a_long_address_leaves_the_card_its_width(page: Page, site: LiveSite) -> None:
    sign_up(page, site, email=f"{'somebody.' * 6}x@{'a-company.' * 12}example.com")
    boxes = [page.locator(selector).bounding_box() for selector in (".avatar", ".profile dl")]
    picture, facts = boxes
    assert picture
    assert facts
    assert facts["x"] >= picture["x"] + picture["width"], "the facts stand below the picture"
    term = page.locator(".profile dt").first.bounding_box()
    assert term
    assert term["height"] < 40, "a name of a fact takes two lines"


def test_logging_in_and_out(page: Page, site: LiveSite) -> None:
    name = sign_up(page, site)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    log_in(page, site, name)
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()


def test_a_report_shows_its_progress_and_then_a_download(page: Page, site: LiveSite) -> None:
    site.staff("clerk")
    log_in(page, site, "clerk")
    page.get_by_role("link", name="Reports").click()
    site.worker.stop()
    try:
        page.get_by_role("button", name="Build the report").click()
        expect(page.get_by_role("progressbar").first).to_be_visible()
        page.evaluate("window.loadedOnce = true")
    finally:
        site.worker = site.start_worker()
    link = page.get_by_role("link", name="Download").first
    expect(page.get_by_role("progressbar")).to_have_count(0, timeout=60_000)
    assert page.evaluate("window.loadedOnce")
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename.endswith(".xlsx")
    assert Path(download.value.path()).read_bytes().startswith(b"PK")


def test_a_signup_needs_nothing_but_a_keyboard(page: Page, site: LiveSite) -> None:
    page.goto(f"{site.url}/signup/")
    page.get_by_label("Username").press("Shift+Tab")  # the page puts the cursor there
    name = next(names)
    page.get_by_label("Username").focus()
    for text in (name, f"{name}@example.com", PASSWORD, PASSWORD):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/account/")


def test_the_first_tab_stop_skips_to_the_content(page: Page, site: LiveSite) -> None:
    page.goto(site.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}/#main")


@pytest.mark.any_database
@pytest.mark.parametrize(
    "context_options", [{}, DARK, PHONE, PHONE | DARK], ids=["light", "dark", "phone", "phone-dark"]
)
def test_every_page_is_accessible_and_fits_its_screen(
    page: Page, site: LiveSite, context_options: dict[str, Any]
) -> None:
    staff = f"staff-{next(names)}"
    site.staff(staff)
    paths = ["/", "/signup/", "/login/", "/password/reset/", "/password/reset/sent/"]
    for path in paths:
        page.goto(site.url + path)
        inspect(page)
    page.get_by_role("link", name="Log in").click()
    log_in(page, site, staff)
    for path in ["/account/", "/account/password/", "/reports/"]:
        page.goto(site.url + path)
        inspect(page)


def inspect(page: Page) -> None:
    """WCAG 2.2 A and AA as far as a program can tell, and no sideways scrolling."""
    # A click returns as soon as the next page begins to arrive.
    page.wait_for_load_state()
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
    assert found.violations_count == 0, f"{page.url}\n{found.generate_report()}"
    width = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(width), f"{page.url} scrolls sideways"
