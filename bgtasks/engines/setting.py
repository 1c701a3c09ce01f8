"""The engine that the settings name: ``BGTASKS_ENGINE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from bgtasks import conf
from bgtasks.engines.base import Engine
from bgtasks.exceptions import InvalidEngine

# The engines that come with bgtasks, by the names that the setting takes.
KNOWN = {
    "celery": "bgtasks.engines.celery.CeleryEngine",
    "django_tasks": "bgtasks.engines.django_tasks.DjangoTasksEngine",
    "django_q": "bgtasks.engines.django_q.DjangoQEngine",
}


def engine() -> Engine | None:
    """The engine of the settings; None if the project's own workers run the rows.

    Raises:
        InvalidEngine: the setting names none that can be used.
    """
    options = conf.engine()
    return _class_of(options)(options) if options else None


def prepare() -> None:
    """Import the engine of the settings, so that a fleet's worker finds the task that runs rows.

    Raises:
        InvalidEngine: the setting names none that can be used.
    """
    if options := conf.engine():
        _class_of(options)


def _class_of(options: Mapping[str, Any]) -> type[Engine]:
    name = options.get("ENGINE") if isinstance(options, Mapping) else None
    if not isinstance(name, str):
        raise InvalidEngine(
            f"BGTASKS_ENGINE is {options!r}. It must be the name of an engine, or a dict with "
            'it as "ENGINE".'
        )
    try:
        found = import_string(KNOWN.get(name, name))
    except ImportError as error:
        raise InvalidEngine(
            f"BGTASKS_ENGINE names the engine {name!r}, which cannot be imported: {error}. Install "
            'what it needs, such as "django-bgtasks[celery]", or name another: '
            f"{', '.join(KNOWN)}, or a class by its dotted path."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Engine)):
        raise InvalidEngine(f"BGTASKS_ENGINE names {name}, which is no subclass of {Engine}.")
    return found
