"""Tasks for the tests of declaring and of running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ran: list[Any] = []


def plain(*args: Any) -> str:
    """What it does."""
    ran.append(args)
    return "done"


def failing() -> None:
    raise ValueError("no")


def generating() -> Iterator[int]:
    yield 1


def wrapped(*args: Any) -> Any:
    async def coroutine() -> None:
        ran.append((*args, "awaited"))

    return coroutine()


def another() -> None: ...
