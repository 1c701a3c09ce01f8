"""Background tasks for Django: ``from bgtasks import background``.

A call of a function that is decorated with :func:`background` writes a row into the database, and
``manage.py process_tasks`` runs that row later. ``function.now(...)`` runs the function here.

A project's task modules should import from this package and from `bgtasks.dialects`, and from no
other module below. Those may change in any release.
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
    # Django imports this package before models can be imported. So a name is imported only when
    # somebody asks for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "background":
        _make_whole()
    return getattr(import_module(f"bgtasks.{_HOMES[name]}"), name)


def _make_whole() -> None:
    """Install the patches, so that a task is whole from its decoration on.

    The models.py of an app that stands before bgtasks may declare tasks and refer to their methods.
    """
    from django.apps import apps
    from django.core.exceptions import ImproperlyConfigured

    if not apps.is_installed("bgtasks"):
        raise ImproperlyConfigured(
            "bgtasks.background is used, and bgtasks is not in INSTALLED_APPS. Write there: "
            '"bgtasks", "background_task", in this order.'
        )
    import_module("bgtasks.patches.table").install()
