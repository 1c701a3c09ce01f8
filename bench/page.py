"""Writing what was measured into the docs."""

from __future__ import annotations

import re
from pathlib import Path


def insert(page: Path, name: str, text: str) -> None:
    """Put Markdown between a page's lines ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        ValueError: the page has no such lines.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    before = page.read_text()
    after, count = pattern.subn(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", before)
    if not count:
        raise ValueError(f"{page} has no lines {begin} and {end} to write between.")
    page.write_text(after)
