"""What the text that is kept of a failure says: its one line that names the exception."""

from __future__ import annotations

import re

# What Python prints between an exception and the one that was raised because of it, or after it.
_NEXT = re.compile(
    r"^(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):$",
    re.M,
)
_GROUP = "  + Exception Group Traceback ("
_IN_GROUP, _MEMBERS = "  | ", "  +-+"


def gist(text: str) -> str:
    """The line of a text that says the most: of a traceback, the one that names the exception.

    Of the exception's message that is the first line that is not empty. The last line, for example
    of an error of PostgreSQL, may be but a mark below the line before.

    Args:
        text: a traceback as Python prints it, or any other text, of which it is the first line.
    """
    named, *others = _after_frames(text) or [""]
    if not named.endswith(":"):
        return named
    return " ".join([named, *others[:1]])


def whole(text: str) -> str:
    """All that a text says but for frames: of a traceback, the exception with its whole message.

    Args:
        text: a traceback as Python prints it, or any other text, which is returned as it is.
    """
    if not _is_traceback(text):
        return text.strip()
    return "\n".join(_after_frames(text))


def _is_traceback(text: str) -> bool:
    return text.lstrip().startswith(("Traceback (", "+ Exception Group Traceback ("))


def exception_line(text: str) -> str:
    """The line of a traceback that begins with the class of the last exception."""
    return next(iter(_after_frames(text)), "")


def _after_frames(text: str) -> list[str]:
    """The lines that are not empty from the one on that names the last exception, stripped."""
    last = _NEXT.split(text)[-1].strip("\n")
    lines = last.splitlines()
    if last.startswith(_GROUP):
        lines = last.partition(f"\n{_MEMBERS}")[0].splitlines()
        lines = [line.removeprefix(_IN_GROUP) for line in lines]
    for place, line in enumerate(lines):
        if line.strip() and not line.startswith((" ", "Traceback (")):
            return [each.strip() for each in lines[place:] if each.strip()]
    return [line.strip() for line in lines if line.strip()][-1:]
