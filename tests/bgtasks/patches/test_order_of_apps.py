"""A task is whole from its decoration on, whatever the order of INSTALLED_APPS."""

from __future__ import annotations

import subprocess

import pytest

from tests.bgtasks.dialects.django_tasks.helpers import TASKS
from tests.harness.deployment import Deployment

pytestmark = pytest.mark.any_database

EARLY = "tests.bgtasks.project.early"
ORDERS = {
    "before bgtasks": f"{EARLY},bgtasks,background_task",
    "before both, in the wrong order": f"{EARLY},background_task,bgtasks",
    "after": f"bgtasks,background_task,{EARLY}",
}
WAYS = pytest.mark.parametrize("by_models", ["", "1"], ids=["by ready", "by models"])
IMPORT = f"from {EARLY} import tasks\n"


def command(
    project: Deployment, in_ready: str, apps: str = ORDERS["before bgtasks"], by_models: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of a project whose app does something in its ready()."""
    project.settings = {"TASKS": TASKS, "SILENCED_SYSTEM_CHECKS": ["bgtasks.E001"]}
    more = {"ENGINE_APPS": apps, "IN_READY": IMPORT + in_ready, "TASKS_BY_MODELS": by_models}
    return project.manage("check", **more)


@WAYS
@pytest.mark.parametrize("apps", ORDERS.values(), ids=ORDERS)
def test_p8_a_unique_task_called_in_ready_has_one_row_however_many_commands_run(
    project: Deployment, apps: str, by_models: str
) -> None:
    for _ in range(3):
        done = command(project, "tasks.refresh(repeat=300)", apps, by_models)
        assert done.returncode == 0, done.stderr
    [row] = project.rows()
    assert (row["priority"], row["repeat"]) == (7, 300)


CALLS = {
    "tasks.refresh(1)": 7,
    "tasks.refresh.delay(1)": 7,
    "tasks.refresh.apply_async([1])": 7,
    "tasks.refresh.map([1])": 7,
    "tasks.stock(1)": 7,
    "tasks.stock.delay(1)": 7,
    "tasks.shared.delay(1)": 7,
    "tasks.shared.proxy(1)": 7,
    "tasks.of_django.enqueue(1)": 7,
    f"from bgtasks.dialects.django_q import async_task; async_task('{EARLY}.tasks.refresh', 1)": 7,
    f"from bgtasks.dialects.django_q import async_task; async_task('{EARLY}.tasks.plain', 1)": 0,
}


@WAYS
@pytest.mark.parametrize("call", CALLS)
def test_p8_a_call_in_ready_has_the_priority_of_its_task(
    project: Deployment, call: str, by_models: str
) -> None:
    done = command(project, call, by_models=by_models)
    assert done.returncode == 0, done.stderr
    [row] = project.rows()
    assert row["priority"] == CALLS[call]


@WAYS
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("tasks.refresh(1, 2)", "WrongArguments"),
        ("tasks.refresh(object())", "NotJSON"),
        ("tasks.stock(object())", "NotJSON"),
        ("tasks.refresh(repeat='soon')", "InvalidOption"),
        ("tasks.shared.delay(1, 2)", "TypeError"),
    ],
)
def test_p8_a_call_in_ready_is_checked(
    project: Deployment, call: str, error: str, by_models: str
) -> None:
    done = command(project, call, by_models=by_models)
    assert error in done.stderr.splitlines()[-1]
    assert project.rows() == []


def test_p9_a_task_that_upstreams_registry_declared_before_us_is_whole(project: Deployment) -> None:
    call = f"from {EARLY} import models; models.by_registry.delay(1); models.by_registry.now"
    done = command(project, call, by_models="1")
    assert done.returncode == 0, done.stderr
    more = {"ENGINE_APPS": ORDERS["before bgtasks"], "TASKS_BY_MODELS": "1"}
    project.drain(**more)
    [row] = project.completed()
    assert row["failed_at"] is None, row["last_error"]


UNMIGRATED = "try:\n    {}\nexcept (OperationalError, ProgrammingError):\n    print('caught')\n"


@pytest.mark.parametrize("call", [call for call in CALLS if "django_q" not in call])
def test_p8_a_call_in_ready_on_an_unmigrated_database_names_cron(
    project: Deployment, call: str
) -> None:
    project.database.query("DROP TABLE background_task")
    done = command(project, call)
    last = done.stderr.splitlines()[-1]
    assert "NoTable" in last
    assert "manage.py migrate" in last
    assert "cron" in last
    assert "post_migrate" in last
    # Projects catch the errors of the database around such calls.
    imports = "from django.db import OperationalError, ProgrammingError\n"
    done = command(project, imports + UNMIGRATED.format(call))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "caught"), done.stderr


def test_p8_a_unique_call_without_our_own_tables_names_cron(project: Deployment) -> None:
    project.database.query("DROP TABLE bgtasks_uniquekey")
    done = command(project, "tasks.refresh()")
    assert "NoTable" in done.stderr.splitlines()[-1]


def test_p8_a_unique_call_before_the_last_migration_names_migrate(project: Deployment) -> None:
    assert project.manage("migrate", "bgtasks", "0003").returncode == 0
    done = command(project, "tasks.refresh()")
    last = done.stderr.splitlines()[-1]
    assert "NoTable" in last
    assert "lacks a table or a column" in last
    assert "manage.py migrate" in last


def test_p8_our_decorator_without_our_app_says_what_to_write(project: Deployment) -> None:
    more = {"ENGINE_APPS": "background_task", "IN_READY": "from bgtasks import background"}
    project.settings = {"INSTALLED_APPS": ["django.contrib.contenttypes", "background_task", EARLY]}
    done = project.manage("check", **more)
    assert 'bgtasks is not in INSTALLED_APPS. Write there: "bgtasks"' in done.stderr
