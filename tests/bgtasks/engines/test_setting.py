"""The setting BGTASKS_ENGINE, right and wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bgtasks.engines import setting
from bgtasks.engines.base import Message
from bgtasks.engines.celery import CeleryEngine
from bgtasks.exceptions import InvalidEngine
from tests.harness.deployment import Deployment

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize("given", [None, "", {}])
def test_without_it_our_own_workers_run_the_rows(settings: Any, given: Any) -> None:
    settings.BGTASKS_ENGINE = given
    assert setting.engine() is None


@pytest.mark.parametrize("given", ["celery", {"ENGINE": "celery", "AHEAD": 5}])
def test_it_is_a_name_or_a_dict(settings: Any, given: Any) -> None:
    settings.BGTASKS_ENGINE = given
    engine = setting.engine()
    assert isinstance(engine, CeleryEngine)
    assert engine.ahead == (200 if given == "celery" else 5)


def test_a_queue_leads_where_it_says_and_others_to_the_default_queue(settings: Any) -> None:
    settings.BGTASKS_ENGINE = {"ENGINE": "celery", "QUEUES": {"urgent": "fast", None: "slow"}}
    engine = setting.engine()
    assert engine
    asked = [engine.queue_for(Message(1, "t", queue)) for queue in ("urgent", None, "other")]
    assert asked == ["fast", "slow", None]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("selery", "names the engine 'selery', which cannot be imported"),
        ("os.path", "is no subclass"),
        ("os.nothing", "cannot be imported"),
        (["celery"], "It must be the name of an engine, or a dict"),
        ({"APP": "config.celery.app"}, "It must be the name of an engine, or a dict"),
        ({"ENGINE": "celery", "QUEUE": {}}, "has the option 'QUEUE'"),
        ({"ENGINE": "celery", "QUEUES": "urgent"}, "It must be a dict"),
        ({"ENGINE": "celery", "AHEAD": 0}, "AHEAD'] is 0. It must be a number, 1 or more"),
        ({"ENGINE": "celery", "AHEAD": "many"}, "It must be a number, 1 or more"),
        ({"ENGINE": "celery", "AGAIN_AFTER": float("nan")}, "It must be a number, 1 or more"),
        ({"ENGINE": "celery", "APP": "nowhere.app"}, "'nowhere.app'"),
    ],
)
def test_what_is_wrong_with_it_is_said(settings: Any, given: Any, says: str) -> None:
    settings.BGTASKS_ENGINE = given
    with pytest.raises(InvalidEngine, match=says.replace("[", r"\[").replace("]", r"\]")):
        setting.engine()


def test_without_it_nothing_of_celery_is_imported() -> None:
    code = (
        "import django; django.setup(); from bgtasks import launch; import sys;"
        "print({name for name in sys.modules if name.partition('.')[0] in ('celery', 'kombu')})"
    )
    env = {"DJANGO_SETTINGS_MODULE": "tests.bgtasks.project.settings", "DATABASE_URL": "sqlite://"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_a_worker_says_what_is_wrong(deploy: Callable[..., Deployment]) -> None:
    project = deploy(BGTASKS_ENGINE="selery")
    worker = project.worker()
    assert worker.wait() != 0
    assert "BGTASKS_ENGINE names the engine 'selery'" in worker.output
