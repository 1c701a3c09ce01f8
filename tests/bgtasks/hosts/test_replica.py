"""A router that reads from a replica which is an hour behind its primary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.deployment import Deployment
from tests.harness.private_postgresql import PrivateDatabase, private_postgresql

pytestmark = pytest.mark.on_postgresql

SETTINGS = "tests.bgtasks.project.replica"


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Replicated]:
    """A project whose replica has its tables, and no row that is written from now on."""
    with private_postgresql() as primary:
        database: Any = PrivateDatabase(primary)
        project = Deployment(tmp_path, database, MAX_ATTEMPTS=1)
        migrated = project.manage("migrate", "--verbosity", "0")
        assert migrated.returncode == 0, migrated.stderr
        with private_postgresql(primary=primary, behind="1h") as replica:
            behind = {"DJANGO_SETTINGS_MODULE": SETTINGS, "REPLICA_URL": replica.url}
            try:
                yield Replicated(project, behind)
            finally:
                project.close()


@dataclass
class Replicated:
    """A project, and the environment of processes whose router reads from its replica."""

    project: Deployment
    behind: dict[str, str]

    def run(self, code: str) -> str:
        return self.project.run(code, **self.behind)


def test_what_decides_about_a_task_is_read_where_it_is_written(replicated: Replicated) -> None:
    replicated.project.worker(**replicated.behind).wait_for("is ready")
    assert replicated.run("print(tasks.add.delay(1, 2).get(timeout=60))") == "3\n"
    read = "from bgtasks.models import Outcome\nprint(Outcome.objects.count())"
    assert replicated.run(read) == "0\n", "the replica is not behind"
    retried = (
        "made = tasks.fail.delay('again')\n"
        "assert made.get(timeout=60, propagate=False) is not None\n"
        "again = made.retry()\n"
        "again.get(timeout=60, propagate=False)\n"
        "print(made.status, again.status)"
    )
    assert replicated.run(retried) == "FAILURE FAILURE\n"
    revoked = (
        "made = tasks.work.apply_async(['never'], countdown=3600)\n"
        "print(made.revoke(), made.cancelled(), made.revoke())"
    )
    assert replicated.run(revoked) == "True True False\n"
    unique = (
        "from tests.bgtasks.project.policied import unique_by_arguments\n"
        "print(len({unique_by_arguments.apply_async(['key'], countdown=3600) for _ in range(2)}))"
    )
    assert replicated.run(unique) == "1\n"


def test_those_who_operate_the_queue_see_it_as_it_is(replicated: Replicated) -> None:
    replicated.run("tasks.work('waits', schedule=-3600)")
    listed = replicated.project.manage("tasks", "list", **replicated.behind)
    assert "tests.bgtasks.project.tasks.work" in listed.stdout, listed.stderr
    health = replicated.project.manage("task_health", **replicated.behind)
    assert health.returncode == 1, health.stdout
    replicated.project.worker(**replicated.behind).wait_for("is ready")
    replicated.project.wait_for("work", "waits")
    health = replicated.project.manage("task_health", **replicated.behind)
    assert health.returncode == 0, health.stdout + health.stderr
