"""Exceptions as text: a worker writes what a task raised, and ``get()`` raises it elsewhere."""

from __future__ import annotations

import json
import sys
from typing import Any

from bgtasks.exceptions import TaskFailed
from bgtasks.serialize.tracebacks import gist


class RemoteTraceback(Exception):
    """The cause of what ``get()`` raises. It shows the traceback of the worker, which is text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text.rstrip()}"


STOPS = (StopIteration, StopAsyncIteration)


def describe(error: BaseException) -> str:
    """Write an exception's class and arguments as JSON. It never raises.

    An argument that is no text, number, boolean or None is written as its repr.
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
            json.dumps(value)  # this raises if an integer has too many digits
            return value
        return repr(value)  # this may raise: the repr of a query set asks the database
    except Exception:
        return object.__repr__(value)


def rebuild(described: str | None, error_text: str) -> Exception:
    """Make the exception that a task raised, with the remote traceback as its cause.

    It is of the task's own class, if that is imported here (see `imported`); else it is a
    `TaskFailed`. The constructor is not called, because its signature is not known.

    Args:
        described: the exception as `describe` wrote it.
        error_text: the traceback, or another text, that the row keeps of the failure.
    """
    error = _instance(described) or TaskFailed(gist(error_text) or "The task failed.")
    error.__cause__ = RemoteTraceback(error_text)
    return error


def _instance(described: str | None) -> Exception | None:
    try:
        found = json.loads(described or "{}")
        type_, args = imported(found["type"]), found["args"]
        # SystemExit and its like are not made: raised, they would end whoever only asked for a
        # result. Nor is StopIteration, which would be lost in a generator or a coroutine.
        if type_ is None or not issubclass(type_, Exception) or issubclass(type_, STOPS):
            return None
        error: Exception = type_.__new__(type_, *args)
        error.args = tuple(args)
        str(error)  # this raises if it needs attributes that only the constructor sets
    except Exception:
        return None
    return error


def imported(path: str) -> type[BaseException] | None:
    """The exception class of a dotted path, if its module is imported already; else None.

    No module is imported only because a row names it.
    """
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:end]))
        if found is None:
            continue
        for name in parts[end:]:
            # getattr() is not used: it may call the module's __getattr__, which may import things.
            found = getattr(found, "__dict__", {}).get(name)
        return found if isinstance(found, type) and issubclass(found, BaseException) else None
    return None
