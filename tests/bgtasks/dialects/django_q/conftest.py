"""Fixtures of the tests of the Django Q dialect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from background_task.models import Task as Row

from tests.bgtasks.dialects.django_q.helpers import APP, install


@pytest.fixture(autouse=True)
def _app(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    install(APP, monkeypatch)
    settings.LEDGER = str(tmp_path / "ledger")
    Path(settings.LEDGER).touch()


@pytest.fixture
def empty_queue(db: None) -> None:
    """The site's own hourly task is not in the way."""
    Row.objects.all().delete()
