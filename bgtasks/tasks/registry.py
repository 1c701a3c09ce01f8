"""The tasks that this process knows, by the names that rows carry.

The registry is upstream's own, so that tasks declared with either package's decorator are in it.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path
from traceback import walk_tb
from typing import Any

from background_task import tasks as upstream
from django.apps import apps
from django.utils.module_loading import module_has_submodule

from bgtasks.exceptions import DuplicateTask, TaskModuleError
from bgtasks.tasks import policies, validation


def check_name(registry: Any, name: str, function: Callable[..., Any]) -> None:
    """Refuse a second function for a name, and functions that no worker can run.

    Raises:
        DuplicateTask: another function has the name.
        GeneratorTask: the function is a generator function.
    """
    validation.check_runnable(name, function)
    other = registry._tasks.get(name)
    if other is None:
        return
    paths = [".".join(validation.path_of(each)) for each in (function, other.task_function)]
    if paths[0] != paths[1] and not any("<locals>" in path for path in paths):
        raise DuplicateTask(
            f"{' and '.join(paths)} both want to be the task {name}. Give one of them another "
            "name: @background(name=...)."
        )


def is_coroutine(name: str) -> bool:
    """Whether the event loop runs a task: it is a coroutine function and not atomic.

    An atomic one needs a connection of its own, and so a thread runs it: the ORM calls of the
    coroutine are made in the thread that waits for it. A task that is not known is none.
    """
    proxy = upstream.tasks._tasks.get(name)
    if proxy is None or policies.of(name).atomic:
        return False
    return iscoroutinefunction(proxy.task_function)


def names() -> list[str]:
    """The names of the tasks that this process knows."""
    return list(upstream.tasks._tasks)


def find(name: str) -> Any:
    """The task of that name.

    Raises:
        KeyError: this process knows no such task.
    """
    return upstream.tasks._tasks[name]


def autodiscover() -> None:
    """Import every app's ``tasks.py``, so that its tasks are known.

    Raises:
        TaskModuleError: one of them cannot be imported. Those after it are not imported either.
    """
    for error in import_task_modules():
        raise error


_PYTHONS = tuple(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib"))

_further_modules: list[str] = []


def add_modules(*names: str) -> None:
    """Make `import_task_modules` import these modules too, besides every app's ``tasks.py``."""
    _further_modules.extend(name for name in names if name not in _further_modules)


def import_task_modules() -> Iterator[TaskModuleError]:
    """Import every app's ``tasks.py``.

    Yields:
        An error for each that cannot be imported.
    """
    for module in _further_modules:
        import_module(module)
    for app in apps.get_app_configs():
        if not module_has_submodule(app.module, "tasks") or app.name in {
            "bgtasks",
            "background_task",
        }:
            continue
        try:
            import_module(f"{app.name}.tasks")
        except Exception as error:
            failure = TaskModuleError(
                f"{app.name}.tasks cannot be imported. {_place(error)}{type(error).__name__}: "
                f"{error}. The tasks in it are unknown to this worker, and their rows wait."
            )
            failure.__cause__ = error
            yield failure


def _place(error: BaseException) -> str:
    """The file and the line where an import has failed, as text before a reason.

    It is the last line of the project's own code that was executed, if there is one.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    own = [place for place in places if not _is_foreign(place[0])] or places
    return f"{own[-1][0]}, line {own[-1][1]}: " if own else ""


def _is_foreign(file: str) -> bool:
    """Whether a file is Python's, that of an installed package, or one of bgtasks."""
    foreign = (*_PYTHONS, str(Path(__file__).parents[1]))
    return file.startswith(("<", *foreign)) or "site-packages" in file
