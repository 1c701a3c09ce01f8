"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str | Callable[[], str], timeout: float = 60) -> T:
    """Wait for what other processes do to a database or a file, of which nobody is notified.

    Args:
        condition: asked until it returns something true, which is returned.
        what: for the text of the error, or a function that makes that text.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"{text}: not within {timeout} s")
        time.sleep(0.01)
    return found
