"""The host that the harness asks, and the places in which its cases run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from background_task.models import Task
from django.db import connection
from due_work_harness import configure
from due_work_harness.integrations.django import django_host
from due_work_harness.integrations.django.receivers import django_receiver_breaker

from bgtasks.dialects.django_tasks.framework import task_enqueued
from tests import settings as ours
from tests.bgtasks.dialects.django_tasks.helpers import TASKS
from tests.bgtasks.due_work import places
from tests.harness.deployment import Deployment

configure(
    django_host(
        production_packages={"bgtasks"},
        receiver_breaker=django_receiver_breaker(task_enqueued),  # Django itself listens to it
        # They read the choices of a model's field. The state of a row is where it stands.
        lifecycle_proofs=False,
    )
)


@pytest.fixture
def due_work(
    request: pytest.FixtureRequest,
    deploy: Callable[..., Deployment],
    settings: Any,
    tmp_path: Path,
) -> Iterator[None]:
    """The contract's cases have no arguments, so that their places are kept in a module."""
    settings.TASKS = TASKS
    if request.node.get_closest_marker("django_db"):
        Task.objects.all().delete()
    beside = Deployment(tmp_path, SimpleNamespace(url=_url_of_this_database(), release=bool))
    beside.settings = {"TASKS": TASKS}
    places.begin(lambda: deploy(TASKS=TASKS), beside, tmp_path)
    yield
    beside.close()


def _url_of_this_database() -> str:
    name = connection.settings_dict["NAME"]
    return urlunsplit(urlsplit(ours.POSTGRES_URL)._replace(path=f"/{name}"))
