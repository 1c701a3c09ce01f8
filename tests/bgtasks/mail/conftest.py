"""Fixtures of the tests of mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from background_task.models import Task

from tests.bgtasks.mail.helpers import HAS_MAILERS


@pytest.fixture
def sent_by(settings: Any) -> Callable[..., None]:
    """Sets the backend that really sends, as this version of Django has it set."""

    def sent_by(path: str, **options: Any) -> None:
        if HAS_MAILERS:
            settings.MAILERS = {"real": {"BACKEND": path, "OPTIONS": options}}
            return
        settings.BGTASKS_EMAIL_BACKEND = path
        for name, value in options.items():
            setattr(settings, f"EMAIL_{name.upper()}", value)

    return sent_by


@pytest.fixture(autouse=True)
def _in_memory(sent_by: Callable[..., None]) -> None:
    sent_by("django.core.mail.backends.locmem.EmailBackend")


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("django_db"):
        Task.objects.all().delete()
