"""An exception on its way from the worker that caught it to whoever asks for the result."""

from __future__ import annotations

import json
import sys
from typing import Any

from bgtasks.exceptions import TaskFailed


class RemoteTraceback(Exception):
    """The traceback of a worker, as text: the cause of what ``get()`` raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}"


STOPS = (StopIteration, StopAsyncIteration)


def describe(error: BaseException) -> str:
    """An exception's class and arguments as JSON; an argument that is none, as its repr.

    Whatever it is: what cannot be told of an exception must not become another one.
    """
    type_ = type(error)
    return json.dumps(
        {
            "type": f"{type_.__module__}.{type_.__qualname__}",
            "args": [_plain(argument) for argument in error.args],
        }
    )


def _plain(value: Any) -> Any:
    try:
        if value is None or isinstance(value, str | bool | int | float):
            json.dumps(value)  # an integer may have too many digits for that
            return value
        return repr(value)  # a query set asks the database
    except Exception:
        return object.__repr__(value)


def rebuild(described: str | None, told: str) -> Exception:
    """The exception of the task's own class, with the remote traceback as its cause.

    The class must be known here already, see `imported`. It is made
    without its constructor, whose signature may be any.

    Args:
        described: as `describe` gave it.
        told: the traceback, or the story, that the row keeps.
    """
    error = _instance(described) or TaskFailed(_last_line(told) or "The task failed.")
    error.__cause__ = RemoteTraceback(told)
    return error


def _instance(described: str | None) -> Exception | None:
    try:
        found = json.loads(described or "{}")
        type_, args = imported(found["type"]), found["args"]
        # Not SystemExit and its like: to raise that would end whoever only asked for a result.
        # Nor StopIteration, which would be lost on its way through a generator or a coroutine.
        if type_ is None or not issubclass(type_, Exception) or issubclass(type_, STOPS):
            return None
        error: Exception = type_.__new__(type_, *args)
        error.args = tuple(args)
        str(error)  # some need attributes that only their constructor sets
    except Exception:
        return None
    return error


def imported(path: str) -> type[BaseException] | None:
    """The exception class of that dotted path, if its module is imported here.

    Nothing is imported because a row names it.
    """
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:end]))
        if found is None:
            continue
        for name in parts[end:]:
            # Not getattr: a module may import something when it is asked for a name.
            found = getattr(found, "__dict__", {}).get(name)
        return found if isinstance(found, type) and issubclass(found, BaseException) else None
    return None


def _last_line(told: str) -> str:
    return told.strip().rpartition("\n")[2]
