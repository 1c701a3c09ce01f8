"""Declares tasks while models are loaded, if the test wants that."""

from __future__ import annotations

import os
from typing import Any

if os.environ.get("TASKS_BY_MODELS"):
    from background_task.tasks import tasks as registry

    @registry.background
    def by_registry(key: int = 0) -> Any:
        return object()  # upstream ignores what its tasks return

    from tests.bgtasks.project.early import tasks

    # The models of an app connect such methods to signals.
    assert tasks.refresh.delay
    assert tasks.stock.delay
