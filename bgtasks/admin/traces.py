"""Tracebacks for a page, in parts: the frames of the project's own code stand out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FRAME = re.compile(r'^[ |+]*File "(?P<path>[^"\n]+)", line \d+')
# Where code lies that is not the project's: installed packages, Python itself, and what is no file.
_FOREIGN = re.compile(r"[\\/](?:site|dist)-packages[\\/]|[\\/]lib[\\/]python\d|[\\/]Lib[\\/]|^<")
# This package, too, where it is not installed but beside the project.
_OURS = f"{Path(__file__).parents[1]}{os.sep}"


@dataclass(frozen=True)
class Part:
    """Some lines of a traceback.

    Attributes:
        kind: "own" or "foreign" for a frame; "" for what is none.
    """

    kind: str
    text: str


def parts(text: str) -> list[Part]:
    """The lines of a traceback, in parts; put together they are the text."""
    return list(_parts(text))


def _parts(text: str) -> Iterator[Part]:
    kind, indent = "", 0
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        frame = _FRAME.match(line)
        # A frame goes on as long as its lines are indented more than its first one.
        new = _kind(frame["path"]) if frame else kind
        if not frame and kind and _indent(line) <= indent:
            new = ""
        if frame:
            indent = _indent(line)
        if (new != kind or frame) and lines:
            yield Part(kind, "".join(lines))
            lines = []
        kind = new
        lines.append(line)
    if lines:
        yield Part(kind, "".join(lines))


def _kind(path: str) -> str:
    return "foreign" if _FOREIGN.search(path) or path.startswith(_OURS) else "own"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" |+"))
