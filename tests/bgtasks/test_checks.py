"""What `manage.py check` says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from bgtasks import checks
from bgtasks.apps import BgtasksConfig
from bgtasks.dialects.django_tasks import framework
from tests import settings as test_settings
from tests.harness.deployment import Deployment
from tests.harness.process import ROOT

ON_POSTGRESQL = test_settings.DATABASE == "postgresql"


def ids(messages: list[Any]) -> list[str]:
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


def test_the_site_is_in_order() -> None:
    assert checks.apps_in_order() == []
    assert checks.database_supported() == []
    assert checks.settings_make_sense() == []
    assert checks.sqlite_file() == []


def test_the_wrong_order_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = apps.get_app_configs()
    monkeypatch.setattr(apps, "get_app_configs", lambda: reversed(list(configs)))
    assert ids(checks.apps_in_order()) == ["bgtasks.E001"]


def test_without_the_stock_app_there_is_nothing_to_stand_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda _: False)
    config = apps.get_app_config("bgtasks")
    assert isinstance(config, BgtasksConfig)
    with pytest.raises(ImproperlyConfigured, match='"bgtasks", "background_task"'):
        config.import_models()


def test_another_database_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "mysql")
    assert ids(checks.database_supported()) == ["bgtasks.E002"]


def test_an_sqlite_of_the_last_decade_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(checks.sqlite3, "sqlite_version_info", (3, 34, 1))
    assert ids(checks.database_supported()) == ["bgtasks.E002"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BGTASKS_LEASE", 0),
        ("BGTASKS_LEASE", "soon"),
        ("BGTASKS_GRACE", -1),
        ("MAX_ATTEMPTS", 0),
        ("MAX_RUN_TIME", -5),
        ("BGTASKS_RETENTION", {"done": None}),
        ("BGTASKS_RETENTION", {"failed": 7}),
        ("BGTASKS_LISTEN_DATABASE", "nowhere"),
    ],
)
def test_settings_that_make_no_sense_are_errors(settings: Any, name: str, value: Any) -> None:
    setattr(settings, name, value)
    (message,) = checks.settings_make_sense()
    assert message.id == "bgtasks.E003"
    assert name in message.msg


def test_a_database_in_memory_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: True, raising=False)
    assert ids(checks.sqlite_file()) == ["bgtasks.W001"]


@pytest.mark.parametrize("eager", [True, False])
def test_tasks_that_run_in_the_page_are_warned_about_in_production(
    settings: Any, eager: bool
) -> None:
    settings.BGTASKS_EAGER = eager
    told = [message.id for message in run_checks(include_deployment_checks=True)]
    assert ("bgtasks.W005" in told) is eager
    assert "bgtasks.W005" not in [message.id for message in run_checks()]


@pytest.fixture
def _mails_are_queued(settings: Any) -> None:
    if getattr(settings, "MAILERS", None):  # Django 6.1
        settings.MAILERS = {"default": {"BACKEND": checks.QUEUED_MAIL}}
    else:
        settings.EMAIL_BACKEND = checks.QUEUED_MAIL


@pytest.mark.usefixtures("_mails_are_queued")
def test_mails_that_cannot_be_queued_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.mails_can_be_sent() == []
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert ids(checks.mails_can_be_sent()) == ["bgtasks.E004"]


@pytest.mark.filterwarnings("ignore:The EMAIL_BACKEND setting is deprecated")
def test_mails_that_would_be_queued_for_ever_are_an_error(settings: Any) -> None:
    if hasattr(settings, "MAILERS"):
        del settings.MAILERS
    settings.EMAIL_BACKEND = settings.BGTASKS_EMAIL_BACKEND = checks.QUEUED_MAIL
    assert ids(checks.mails_can_be_sent()) == ["bgtasks.E005"]


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/data /srv/data nfs4 rw 0 0
//nas/share /srv/data/my\\040share cifs rw 0 0
tmpfs /srv/data/local tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/db.sqlite3", ""),
        ("/srv/data/db.sqlite3", "nfs4"),
        ("/srv/data/my share/db.sqlite3", "cifs"),
        ("/srv/data/local/db.sqlite3", ""),
        ("/srv/database/db.sqlite3", ""),
    ],
)
def test_network_file_systems_are_told_from_local_ones(
    tmp_path: Path, path: str, kind: str
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert checks.network_filesystem(Path(path), tmp_path / "mounts") == kind
    assert checks.network_filesystem(Path(path), tmp_path / "none") == ""


def test_an_sqlite_file_on_a_network_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: False, raising=False)
    monkeypatch.setattr(checks, "network_filesystem", lambda _: "nfs")
    assert ids(checks.sqlite_file()) == ["bgtasks.W002"]


@pytest.mark.django_db
def test_threads_beyond_the_connections_are_warned_about(settings: Any) -> None:
    assert checks.connections_suffice(databases=["default"]) == []
    settings.BACKGROUND_TASK_RUN_ASYNC = True
    settings.BACKGROUND_TASK_ASYNC_THREADS = 100_000
    expected = ["bgtasks.W003"] if ON_POSTGRESQL else []
    assert ids(checks.connections_suffice(databases=["default"])) == expected
    assert checks.connections_suffice(databases=[]) == []


@pytest.mark.on_postgresql
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("pool", "threads"),
    [(True, 4), ({}, None), (False, None), ({"max_size": 6}, 6), ({"max_size": 8}, None)],
)
def test_threads_beyond_the_connections_of_djangos_pool_are_warned_about(
    settings: Any, monkeypatch: pytest.MonkeyPatch, pool: Any, threads: int | None
) -> None:
    settings.BACKGROUND_TASK_RUN_ASYNC = True
    # And one that claims, and one for coroutines if any are declared.
    settings.BACKGROUND_TASK_ASYNC_THREADS = 6
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", pool)
    found = checks.connections_suffice(databases=["default"])
    assert ids(found) == (["bgtasks.W003"] if threads else [])
    assert threads is None or f"Django's pool has {threads}" in found[0].msg


@pytest.mark.django_db
def test_half_used_ids_are_warned_about() -> None:
    assert checks.ids_last(databases=["default"]) == []
    if ON_POSTGRESQL:  # SQLite's have eight bytes
        with connection.cursor() as cursor:
            cursor.execute("SELECT setval('background_task_id_seq', %s)", [2**30 + 2])
        assert ids(checks.ids_last(databases=["default"])) == ["bgtasks.W004"]


def test_tasks_of_djangos_that_nobody_queues_are_warned_about(project: Deployment) -> None:
    app = project.folder / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    package = framework.Task.__module__.partition(".base")[0]
    (app / "tasks.py").write_text(
        f"from {package} import task\n\n\n@task\ndef welcome(user_id):\n    pass\n"
    )
    apps = "shop" if package == "django.tasks" else "shop,django_tasks"
    more = {"MORE_APPS": apps, "PYTHONPATH": f"{ROOT}{os.pathsep}{project.folder}"}
    told = project.manage("process_tasks", "--check", **more).stderr
    assert "(bgtasks.W008) There is no setting TASKS, so that Django runs shop.tasks.wel" in told
    project.settings["TASKS"] = {"default": {"BACKEND": f"{package}.backends.dummy.DummyBackend"}}
    assert "bgtasks.W008" not in project.manage("process_tasks", "--check", **more).stderr


@pytest.mark.on_sqlite
def test_an_atomic_task_that_may_outlast_the_patience_of_others_is_named(
    project: Deployment,
) -> None:
    patient, impatient = "{}", json.dumps({"timeout": 0.5})
    said = project.run(CHECK, DATABASE_OPTIONS=impatient)
    assert "bgtasks.W010" in said
    assert "change_for_too_long is atomic and may run for 1 s" in said
    assert 'others wait for 0.5 s, and then raise "database is locked"' in said
    assert "is atomic and may run for 1 s" in project.drain(DATABASE_OPTIONS=impatient)
    assert "W010" not in project.run(CHECK, DATABASE_OPTIONS=patient)


@pytest.mark.on_postgresql
def test_on_postgresql_an_atomic_task_may_take_long(project: Deployment) -> None:
    assert "W010" not in project.run(CHECK)


# In a process that knows the tasks. Others see what the worker says when it starts.
CHECK = """
from django.core.checks import run_checks
for message in run_checks():
    print(message)
"""
