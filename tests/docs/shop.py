"""The app that the snippets of a page are written in: ``shop``, made for as long as they run.

All its modules (``shop.tasks``, ``shop.models`` and so on) are one, and the snippets' names are
that module's. So ``from .tasks import remind`` finds what stands further up on the page. When the
page is done, nothing of it is left: no task, no receiver of a signal, no model, no table.
"""

from __future__ import annotations

import importlib.util
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from background_task.tasks import tasks as registry
from django.apps import AppConfig, apps
from django.db import connection
from django.dispatch import Signal

from bgtasks.tasks import policies

NAME = "shop"
MODULES = (
    "admin", "apps", "forms", "models", "services", "signals", "tasks", "tests", "urls", "views"
)  # fmt: skip
# Where signals are that a snippet may connect a receiver to.
SIGNALS = (
    "background_task.signals",
    "django.contrib.auth.signals",
    "django.core.signals",
    "django.db.models.signals",
)


@contextmanager
def shop() -> Iterator[ModuleType]:
    """The app's one module."""
    with ExitStack() as stack:
        for part in (_no_tasks_left, _no_receivers_left, _django_tasks):
            stack.enter_context(part())
        yield stack.enter_context(_app())


@contextmanager
def _app() -> Iterator[ModuleType]:
    package, code = _module(NAME), _module(f"{NAME}.tasks")
    package.__path__ = []
    names = {NAME: package, **{f"{NAME}.{name}": code for name in MODULES}}
    for name in MODULES:
        setattr(package, name, code)
    sys.modules.update(names)
    config = _Config(NAME, package)
    config.apps, config.models = apps, apps.all_models[NAME]
    apps.app_configs[NAME] = config
    apps.clear_cache()
    try:
        yield code
    finally:
        _drop_tables()
        del apps.app_configs[NAME], apps.all_models[NAME]
        apps.clear_cache()
        for name in names:
            del sys.modules[name]


class _Config(AppConfig):
    path = str(Path(__file__).parent)


def _module(name: str) -> ModuleType:
    return importlib.util.module_from_spec(ModuleSpec(name, None, is_package=name == NAME))


def make_tables() -> None:
    """Make the tables of models that a snippet has declared, if they are not there."""
    there = connection.introspection.table_names()
    for model in apps.all_models[NAME].values():
        if model._meta.db_table not in there:
            with connection.schema_editor() as editor:
                editor.create_model(model)


def _drop_tables() -> None:
    there = connection.introspection.table_names()
    for model in reversed(apps.all_models[NAME].values()):
        if model._meta.db_table in there:
            with connection.schema_editor() as editor:
                editor.delete_model(model)


def _is_the_shops(thing: Any) -> bool:
    module = getattr(thing, "__module__", None) or ""
    return module == NAME or module.startswith(f"{NAME}.")


@contextmanager
def _no_tasks_left() -> Iterator[None]:
    try:
        yield
    finally:
        # Only these: a site's module that the page has imported keeps what it has declared.
        for name, proxy in list(registry._tasks.items()):
            if name.startswith(f"{NAME}.") or _is_the_shops(proxy.task_function):
                del registry._tasks[name]
                policies._policies.pop(name, None)


@contextmanager
def _no_receivers_left() -> Iterator[None]:
    try:
        yield
    finally:
        for signal in {signal for name in SIGNALS for signal in _signals(name)}:
            with signal.lock:
                signal.receivers = [entry for entry in signal.receivers if not _is_ours(entry[1])]
                signal.sender_receivers_cache.clear()


def _signals(module: str) -> Iterator[Signal]:
    for thing in vars(import_module(module)).values():
        if isinstance(thing, Signal):
            yield thing


def _is_ours(receiver: Any) -> bool:
    return _is_the_shops(receiver() if isinstance(receiver, weakref.ref) else receiver)


@contextmanager
def _django_tasks() -> Iterator[None]:
    """Before Django 6 its tasks are a package of their own, of the same contents."""
    if django.VERSION >= (6,):
        yield
        return
    import_module("django_tasks.signals")  # hears of settings that change
    names = [name for name in sys.modules if name.partition(".")[0] == "django_tasks"]
    aliases = {name.replace("django_tasks", "django.tasks", 1): name for name in names}
    sys.modules.update({alias: sys.modules[name] for alias, name in aliases.items()})
    try:
        yield
    finally:
        for alias in aliases:
            sys.modules.pop(alias, None)
