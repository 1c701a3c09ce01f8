"""What does waiting cost? Every way of the lab, several times, with real clicks in a browser.

    make lab                                     # writes docs/guides/when-async-helps.md
    .venv/bin/python bench/lab.py --rounds 2     # only prints it, in a few minutes

A site runs as in production, with the servers of ``manage.py lab``. Chromium has a window on a
screen of its own (Xvfb): without a window it may report no LCP, and paints its frames late. In each
round each way is run once, in an order shuffled anew. A click is sent as the mouse would send it,
because a click by a script is no interaction and has no INP. A first round is not counted. At the
end the figures must lie in the order that physics demands, with a wide margin; if they do not, it
fails and writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "site")]

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django  # noqa: E402

django.setup()

from playwright.sync_api import Error as PlaywrightError  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

from bench import page as pages  # noqa: E402
from bench.lab_report import Report, Run, dump  # noqa: E402
from bench.versions import machine  # noqa: E402
from lab.catalogue import PATTERNS  # noqa: E402
from tests.harness import needs, preloaded  # noqa: E402
from tests.harness.site import PASSWORD, LabSite  # noqa: E402

# A forked process imports this file first, and with it the settings of another database.
preloaded.CAN_FORK = False

IMAGES = ROOT / "docs" / "images" / "lab"
# Seconds before a click in which the server has nothing else to do: a little more than the lab
# takes as idle (`lab.stage.record.BEFORE`).
QUIET = 2.2
PATIENCE = 90_000  # milliseconds for a run
# Minutes after which no further round is begun: the whole must end within fifteen.
ENOUGH_MINUTES = 14.2


@contextlib.contextmanager
def screen() -> Iterator[str]:
    """A screen that nobody sees; yields its name."""
    if not shutil.which("Xvfb"):
        sys.exit("There is no Xvfb. Install it (Debian: apt install xvfb chromium), and try again.")
    reading, writing = os.pipe()
    command = [
        "Xvfb",
        "-displayfd",
        str(writing),
        "-screen",
        "0",
        "1280x1000x24",
        "-nolisten",
        "tcp",
    ]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        try:
            yield f":{number}"
        finally:
            server.terminate()


@contextlib.contextmanager
def browser_page(display: str) -> Iterator[Page]:
    executable = needs.chromium()
    if executable is None:
        sys.exit("There is no Chromium. Install it, or name one: CHROMIUM=/path/to/it make lab")
    arguments = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    if os.geteuid() == 0:  # Chromium's sandbox cannot be set up by root
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            headless=False,
            args=arguments,
            env={**os.environ, "DISPLAY": display},
        )
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def log_in(page: Page, site: LabSite) -> None:
    page.goto(f"{site.url}/lab/")
    page.get_by_label("Username").fill("staff")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/lab/")


def click(page: Page, site: LabSite, pattern: str, way: str) -> Run:
    """Run a way once, as a visitor does."""
    page.goto(f"{site.url}/lab/")
    button = page.locator(f"#run-{pattern}-{way}:enabled")
    button.scroll_into_view_if_needed()
    page.wait_for_timeout(QUIET * 1000)
    button.click()
    # The page hides itself after a pause, by loading itself with the figures of the run.
    page.wait_for_url(re.compile(r"\?run=\d+"))
    [number] = re.findall(r"\?run=(\d+)", page.url)
    found = figures(page, f"{site.url}/lab/runs/{number}/")
    print(f"{pattern} {way}: {found['problem'] or found['browser']}", file=sys.stderr)
    return Run(pattern, way, {} if found["problem"] else found["figures"])


def figures(page: Page, address: str) -> dict[str, Any]:
    """The figures of a run, when the browser has reported all of its own."""
    for _ in range(5):
        page.wait_for_timeout(500)  # the last report is sent when the page before is hidden
        found: dict[str, Any] = page.request.get(address).json()
        if found["problem"] or len(found["browser"]) == 3:
            break
    return found


def attempt(page: Page, site: LabSite, pattern: str, way: str) -> Run:
    """Run a way once; a run that does not end has failed, and the others go on."""
    try:
        return click(page, site, pattern, way)
    except PlaywrightError as error:
        print(f"{pattern} {way} failed: {error}", file=sys.stderr)
        return Run(pattern, way, {})


def measure(site: LabSite, rounds: int) -> list[Run]:
    """Run every way in each round, as many rounds as there is time for."""
    ways = [(pattern.key, way.key) for pattern in PATTERNS for way in pattern.ways]
    begin = time.monotonic()
    runs: list[Run] = []
    with screen() as display, browser_page(display) as page:
        log_in(page, site)
        for number in range(rounds + 1):
            random.shuffle(ways)
            found = [attempt(page, site, *way) for way in ways]
            runs += found if number else []
            minutes = (time.monotonic() - begin) / 60
            print(f"round {number} of {rounds}, {minutes:.1f} minutes", file=sys.stderr)
            if minutes * (number + 2) / (number + 1) > ENOUGH_MINUTES:
                break
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="runs of each way (6)")
    parser.add_argument("--into", type=Path, help="write the figures into this page")
    parser.add_argument("--record", type=Path, help="write every run as JSON, for the tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = LabSite(Path(folder))
        site.start()
        try:
            site.staff("staff")
            report = Report(machine(), measure(site, options.rounds))
        finally:
            site.stop()
    print(report.markdown())
    if problems := report.problems():
        sys.exit("Nothing is written: these figures contradict physics.\n" + "\n".join(problems))
    if options.into:
        pages.insert(options.into, "figures of the lab", report.markdown())
        IMAGES.mkdir(parents=True, exist_ok=True)
        for name, drawing in report.charts().items():
            (IMAGES / name).write_text(drawing)
    if options.record:
        options.record.write_text(dump(report.runs))


if __name__ == "__main__":
    main()
