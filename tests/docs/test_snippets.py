"""Every snippet of the pages: Python is run, all else is checked. New ones are found by themselves.

How a page is read stands in `tests.docs.snippets`, what is checked of Python's values in
`tests.docs.python`, and of commands in `tests.docs.shell`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.docs.page import Page
from tests.docs.snippets import ROOT, Snippet, pages, snippets_of

SNIPPETS = [snippet for page in pages() for snippet in snippets_of(page)]
# The most of them, of a hundred, that are not run. A reason is written beside each.
NOT_RUN = 10
FENCE = re.compile(r"^[ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)?(?:```|~~~)", re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_snippet(
    snippet: Snippet, turn_to: Callable[[str], Page], request: pytest.FixtureRequest
) -> None:
    turn_to(snippet.page).run(snippet, request.getfixturevalue)


@pytest.mark.parametrize("page", pages())
def test_every_fence_of_a_page_belongs_to_a_snippet(page: str) -> None:
    found = [snippet for snippet in snippets_of(page) if not snippet.hidden]
    fences = FENCE.findall((ROOT / page).read_text())
    assert len(fences) == 2 * len(found), f"{page}: a fence is not closed, or stands in another"


def test_there_are_many_snippets_and_nearly_all_are_run() -> None:
    assert len(SNIPPETS) >= 20
    assert sum(snippet.language == "python" for snippet in SNIPPETS) >= 8
    left_out = [str(snippet) for snippet in SNIPPETS if not snippet.is_run]
    assert len(left_out) * 100 <= NOT_RUN * len(SNIPPETS), f"not run: {', '.join(left_out)}"
