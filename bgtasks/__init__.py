"""Background tasks for Django: ``from bgtasks import background``.

A function decorated with :func:`background` writes a row when it is called;
``manage.py process_tasks`` runs the row later. ``function.now(...)`` runs it here.

Task modules import from this package and from nowhere below it but the dialects, so that the
engine can change while they do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgtasks.exceptions import Cancel, Retry, Snooze
    from bgtasks.results import AsyncResult
    from bgtasks.tasks.current import CurrentTask, Progress, current_task, set_progress
    from bgtasks.tasks.decorator import background

__all__ = [
    "AsyncResult",
    "Cancel",
    "CurrentTask",
    "Progress",
    "Retry",
    "Snooze",
    "__version__",
    "background",
    "current_task",
    "set_progress",
]
__version__ = "0.1.0"

_HOMES = {
    "AsyncResult": "results",
    "Cancel": "exceptions",
    "CurrentTask": "tasks.current",
    "Progress": "tasks.current",
    "Retry": "exceptions",
    "Snooze": "exceptions",
    "background": "tasks.decorator",
    "current_task": "tasks.current",
    "set_progress": "tasks.current",
}


def __getattr__(name: str) -> Any:
    # Django imports this package before there are models; its names are asked for after that.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bgtasks.{_HOMES[name]}"), name)
