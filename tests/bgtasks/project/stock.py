"""The decorator of django-background-tasks, for the same tasks without our engine."""

from __future__ import annotations

from typing import Any

from background_task import background as stock


def background(*args: Any, timeout: float | None = None, **options: Any) -> Any:
    """It has no limit for a single task."""
    return stock(*args, **options)
