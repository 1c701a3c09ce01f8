"""Finds the snippets of the pages: fenced blocks of Markdown, with the remarks before them.

A remark is an HTML comment that stands right before a block, where no reader sees it:

- ``<!-- not run: reason -->``: the block is read, but not run. Python must still compile.
- ``<!-- worker -->``: a worker runs what waits while the block runs, and is done when it ends.
  A Python block that asks for a result, by ``.get(``, has one anyway.
- ``<!-- only: postgresql -->`` or ``sqlite``: before SQL that the other database does not know.

What a reader need not see, such as the users that an example is about, is a hidden block::

    <!-- invisible-code: python
    user_ids = [1, 2]
    -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sybil import Document, Region
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
FENCED = FencedCodeBlockLexer(language=".*")
HIDDEN = DirectiveInHTMLCommentLexer(directive="invisible-code", arguments=".+")
REMARK = re.compile(r"<!--\s*(not run|worker|only)\b:?\s*((?:(?!-->).)*?)\s*-->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A block of a page.

    Attributes:
        page: where it stands, from the project's folder.
        line: of its fence; the code begins on the next one.
        language: the first word after the fence; empty if there is none.
        remarks: what the comments before it say, by their first words.
        hidden: no reader sees it.
    """

    page: str
    line: int
    language: str
    source: str
    remarks: dict[str, str] = field(default_factory=dict, hash=False)
    hidden: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return "not run" not in self.remarks


def pages() -> list[str]:
    """All pages that readers are given, from the project's folder."""
    at_the_top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bgtasks/README.md")]
    found = [*at_the_top, *sorted(ROOT.glob("docs/**/*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def snippets_of(page: str, root: Path = ROOT) -> list[Snippet]:
    """The snippets of a page, hidden ones too, from its top to its end."""
    document = Document.parse(str(root / page), FENCED, HIDDEN)
    return [_snippet(page, document, example.line, example.region) for example in document]


def _snippet(page: str, document: Document, line: int, region: Region) -> Snippet:
    hidden = "arguments" in region.lexemes
    words = region.lexemes["arguments" if hidden else "language"].split()
    return Snippet(
        page=page,
        line=line,
        language=words[0].lower() if words else "",
        source=str(region.lexemes["source"]),
        remarks=dict(_remarks(document.text[: region.start])),
        hidden=hidden,
    )


def _remarks(before: str) -> Iterator[tuple[str, str]]:
    while match := REMARK.search(before):
        yield match[1], match[2]
        before = before[: match.start()]
