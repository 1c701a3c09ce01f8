"""What the tests of the Django Q dialect share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from background_task.models import Task as Row
from django.apps import AppConfig, apps

from tests.conftest import run_queued

APP = "tests.bgtasks.project.qapp"


MULTIPLY, TELL, FAIL = (f"{APP}.tasks.{name}" for name in ("multiply", "tell", "fail"))


CALL = "bgtasks.dialects.django_q.call"


def install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install an app that has no models."""
    config = AppConfig(name, import_module(name))
    config.apps, config.models = apps, {}
    monkeypatch.setitem(apps.app_configs, name, config)


queue = pytest.mark.usefixtures("empty_queue")


def ledger(settings: Any) -> list[str]:
    """What the tasks have noted, without the pids."""
    lines = Path(settings.LEDGER).read_text().splitlines()
    return [line.rpartition(" ")[0] for line in lines]


def fail_for_good() -> None:
    """Run the waiting rows as often as they are tried."""
    for _ in range(30):
        run_queued()
        Row.objects.update(run_at="2000-01-01T00:00:00Z")
