"""Every link of the pages leads somewhere, every page is reached, and the wheel's needs none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import links
from tests.docs.snippets import ROOT

pytestmark = pytest.mark.any_database

WHEEL = ROOT / "bgtasks" / "README.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md")),
    WHEEL,
    *sorted(ROOT.glob("docs/**/*.md")),
]
# Code and error texts name pages of the docs too.
NAMED = re.compile(r"\bdocs/[\w./-]+\.(?:md|svg|png)")
SOURCES = ("bgtasks/**/*.py", "signup/**/*.py", "site/**/*.py", "bench/**/*.py", "Makefile")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert list(links.broken(page, ROOT)) == []


def test_every_page_of_the_docs_is_reached_from_their_index() -> None:
    assert links.unreached(ROOT / "docs" / "index.md") == set()


def test_the_wheels_readme_stands_alone() -> None:
    assert links.relative_links(WHEEL) == []


def test_the_pages_that_code_names_are_there() -> None:
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            for name in NAMED.findall(path.read_text()):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


# --- a wrong one is found


def write(root: Path, name: str, text: str) -> Path:
    page = root / name
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)
    return page


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a page](gone.md)", "there is no gone.md"),
        ("![a picture](gone.png)", "there is no gone.png"),
        ("[a link\nover two lines](gone.md)", "there is no gone.md"),
        ("[`code`](gone.md)", "there is no gone.md"),
        ('[a title](gone.md "title")', "there is no gone.md"),
        ("[by name][x]\n\n[x]: gone.md", "there is no gone.md"),
        ('<img src="gone.png">', "there is no gone.png"),
        ("[outside](../../outside.md)", "there is no ../../outside.md"),
        ("[a heading](other.md#gone)", "other.md has no heading #gone"),
        ("[a heading here](#gone)", "the page has no heading #gone"),
        ("[a comment in code](other.md#settings)", "other.md has no heading #settings"),
        ("[the third of two](other.md#twice-2)", "other.md has no heading #twice-2"),
        ("[in no page](picture.png#top)", "picture.png has no heading #top"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, text: str, wrong: str) -> None:
    root = tmp_path / "project"
    write(tmp_path, "outside.md", "")
    write(root, "docs/other.md", "# Twice\n\n```python\n# settings\n```\n\n# Twice\n")
    write(root, "docs/picture.png", "")
    page = write(root, "docs/page.md", text)
    assert list(links.broken(page, root)) == [f"docs/page.md: {wrong}"]


@pytest.mark.parametrize(
    "text",
    [
        "[a page](../README.md)",
        "[a folder](guides/)",
        "[a heading](../README.md#who-asks-not-you)",
        "[with code](../README.md#process_tasks---drain)",
        "[with a link](../README.md#the-map)",
        "[the second](../README.md#the-map-1)",
        "# Here\n\n[a heading here](#here)",
        "[another site](https://example.com/gone#gone)",
        "[a mail](mailto:zoe@example.com)",
        "`[code](gone.md)`",
        "```text\n[a block of code](gone.md)\n```",
        "<!-- [a comment](gone.md) -->",
    ],
)
def test_a_right_link_passes(tmp_path: Path, text: str) -> None:
    headings = "# Who asks? Not you\n## `process_tasks --drain`\n## The [map](m.md)\n## The map\n"
    write(tmp_path, "README.md", headings)
    write(tmp_path, "docs/guides/one.md", "")
    page = write(tmp_path, "docs/page.md", text)
    assert list(links.broken(page, tmp_path)) == []


def test_a_page_that_no_link_leads_to_is_found(tmp_path: Path) -> None:
    index = write(tmp_path, "index.md", "[one](guides/one.md#there)")
    write(tmp_path, "guides/one.md", "[two](../two.md) and [back](../index.md)")
    write(tmp_path, "two.md", "")
    write(tmp_path, "guides/alone.md", "[one](one.md)")
    assert links.unreached(index) == {"guides/alone.md"}


def test_a_relative_link_is_found(tmp_path: Path) -> None:
    page = write(tmp_path, "page.md", "[a](docs/a.md), [b](#b), [c](https://example.com)")
    assert links.relative_links(page) == ["docs/a.md"]
