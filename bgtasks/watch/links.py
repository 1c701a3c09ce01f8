"""The addresses at which tasks are watched. They carry the signed id of a task."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature, Signer
from django.urls import NoReverseMatch, reverse

from bgtasks.models import Task
from bgtasks.queue import outcomes
from bgtasks.results import AsyncResult

SALT = "bgtasks: watch a task"


def watch_url(task: AsyncResult | Task | int | str) -> str:
    """The path at which the creator of a task, and staff, can watch it.

    Args:
        task: its result, its row or its id.

    Raises:
        UnknownResult: it is none of these.
        ImproperlyConfigured: the project's URLs do not include ours.
    """
    result = task if isinstance(task, AsyncResult) else AsyncResult(task)
    try:
        return reverse("bgtasks:watch", args=[Signer(salt=SALT).sign(str(result.id))])
    except NoReverseMatch:
        raise ImproperlyConfigured(
            f"Task {result.id} has no address to be watched at. Add to your urls.py: "
            'path("tasks/", include("bgtasks.watch.urls"))'
        ) from None


def task_id_of(signed: str) -> int | None:
    """The id in an address; None if we have not signed it."""
    try:
        return outcomes.id_of(Signer(salt=SALT).unsign(signed))
    except BadSignature:
        return None
