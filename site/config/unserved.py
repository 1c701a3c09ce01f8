"""On a development machine, the pages say it if tasks wait for nobody."""

from typing import Any

from django.conf import settings
from django.db import Error
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from bgtasks.operations import unserved as tasks


def unserved(request: HttpRequest) -> dict[str, Any]:
    """Context processor: ``unserved``, the tasks that wait for nobody. Visitors never see it."""
    return {"unserved": SimpleLazyObject(_find)} if settings.DEBUG else {}


def _find() -> list[tasks.Unserved]:
    try:
        return tasks.unserved()
    except Error:  # the page itself will say what is wrong with the database
        return []
