from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.docs.page import Page
from tests.docs.snippets import snippets_of


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """pytest-django's, but for many tests: the snippets of a page share what they write."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="module")
def turn_to(transactional_db: None) -> Iterator[Callable[[str], Page]]:
    """Opens the page of a name, and closes the one before it."""
    opened: dict[str, Page] = {}
    with ExitStack() as stack:

        def turn_to(name: str) -> Page:
            if name not in opened:
                stack.close()
                opened.clear()
                opened[name] = stack.enter_context(Page(snippets_of(name)))
            return opened[name]

        yield turn_to


@pytest.fixture
def read(
    tmp_path: Path, transactional_db: None, request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Reads a page of the given text, and runs its snippets."""

    def read(text: str) -> None:
        (tmp_path / "page.md").write_text(text)
        snippets = snippets_of("page.md", tmp_path)
        assert snippets
        with Page(snippets) as page:
            for snippet in snippets:
                page.run(snippet, request.getfixturevalue)

    return read
