"""The map of bgtasks, docs/internals/map.md: its lines are the first lines of the docstrings.

``make map`` writes them anew.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "internals" / "map.md"
PACKAGE = ROOT / "bgtasks"
# A row of the table of floors, or an entry in the list of a package's modules.
LINE = re.compile(r"^(\| `(\w+)` \| |- `([\w.]+)`: )(.*?)( \|)?$", re.M)


def said_of(name: str) -> str:
    """The first line of a module's docstring, by its name below bgtasks."""
    path = PACKAGE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return docstring.splitlines()[0] if docstring else ""


def refreshed(page: str) -> str:
    """The page with each line as its module's docstring has it now; a row without one stays."""

    def line(found: re.Match[str]) -> str:
        begin, floor, module, text, end = found.groups()
        return f"{begin}{said_of(floor or module) or text}{end or ''}"

    return LINE.sub(line, page)


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
