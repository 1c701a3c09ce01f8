"""The links of the pages, and whether they lead anywhere.

Addresses of other sites are left alone: a test that asks the network fails for reasons of its own.
An anchor is looked for as GitHub makes it of a heading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FENCED = re.compile(r"^[ \t>]*(`{3,}|~{3,})[^\n]*\n.*?^[ \t>]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE = re.compile(r"(`+)((?:(?!\n\n).)+?)\1", re.DOTALL)
LINK = re.compile(
    r"""\]\(<?([^)\s>]+)[^)]*\)|^\[[^]\n]+\]:[ ]*(\S+)|\b(?:href|src)="([^"]+)\"""", re.M
)
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def links(page: Path) -> list[str]:
    """What the links and pictures of a page name, addresses of other sites left out."""
    text = CODE.sub("", COMMENT.sub("", FENCED.sub("", page.read_text())))
    found = (next(filter(None, match.groups())) for match in LINK.finditer(text))
    return [link for link in found if not ELSEWHERE.match(link)]


def relative_links(page: Path) -> list[str]:
    """Those that lead out of the page, and so need the files around it."""
    return [link for link in links(page) if not link.startswith("#")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = COMMENT.sub("", FENCED.sub("", page.read_text()))
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(text):
        name = _slug(heading)
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def _slug(heading: str) -> str:
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


def broken(page: Path, root: Path) -> Iterator[str]:
    """The links of a page that lead nowhere, or out of the project's folder."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(root.resolve()):
            yield f"{page.relative_to(root)}: there is no {link}"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            yield f"{page.relative_to(root)}: {path or 'the page'} has no heading #{anchor}"


def unreached(index: Path) -> set[str]:
    """The pages in the folder of an index that no way leads to, by links between its pages."""
    folder = index.parent.resolve()
    pages = {path.resolve() for path in folder.rglob("*.md")}
    reached, todo = set(), [index.resolve()]
    while todo:
        page = todo.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        todo += targets & pages - reached
    return {page.relative_to(folder).as_posix() for page in pages - reached}
