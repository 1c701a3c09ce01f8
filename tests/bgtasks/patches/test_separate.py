"""The task tables in a database of their own, by the router of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.databases import Database
from tests.harness.deployment import Deployment

CREATORS = """
from bgtasks.models import Task
from django.contrib.auth.models import User
"""


class Separated(Deployment):
    """A deployment with a further database for the task tables."""

    def __init__(self, folder: Path) -> None:
        (folder / "queue").mkdir()
        super().__init__(folder, Database(folder))
        self.queue = Database(folder / "queue")

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(
            DJANGO_SETTINGS_MODULE="tests.bgtasks.project.two_databases",
            QUEUE_URL=self.queue.url,
            **more,
        )

    def rows(self, table: str = "background_task", where: str = "true") -> list[dict[str, object]]:
        return self.queue.query(f"SELECT * FROM {table} WHERE {where} ORDER BY 1")

    def close(self) -> None:
        super().close()
        self.queue.drop()


@pytest.fixture
def separated(tmp_path: Path) -> Iterator[Separated]:
    project = Separated(tmp_path)
    try:
        for using in ("default", "queue"):
            done = project.manage("migrate", "--database", using, "--verbosity", "0")
            assert done.returncode == 0, done.stderr
        yield project
    finally:
        project.close()


def test_rows_are_enqueued_and_run_there(separated: Separated) -> None:
    separated.run(
        "tasks.work(1)\ntasks.add.apply_async((1, 2), expires=3600)\ntasks.work.map([2, 3])\n"
        "first = tasks.unique_by_arguments('a').pk\n"
        "assert tasks.unique_by_arguments('a').pk == first"
    )
    assert len(separated.rows()) == 5
    separated.drain()
    assert len(separated.rows("bgtasks_outcome", "state = 'succeeded'")) == 5


def test_a_task_finds_its_creator_in_the_other_database(separated: Separated) -> None:
    separated.run(
        f"{CREATORS}zoe = User.objects.create(username='zoe')\n"
        "row = tasks.note_creator(creator=zoe)\n"
        "assert row.creator == zoe\n"
        "row = Task.objects.get()\n"
        "assert (row.creator, row.creator_content_type.model) == (zoe, 'user')\n"
        "assert list(Task.objects.created_by(zoe)) == [row]"
    )
    separated.drain()
    assert separated.ledger("creator", "zoe")
    separated.run(
        "from bgtasks.models import CompletedTask\n"
        "assert CompletedTask.objects.get().creator.username == 'zoe'"
    )


def test_p1_a_row_commits_by_itself_there_and_a_check_says_so(separated: Separated) -> None:
    code = (
        "from django.db import transaction\n"
        "try:\n    with transaction.atomic():\n        {}\n        raise ZeroDivisionError\n"
        "except ZeroDivisionError: pass\n"
    )
    separated.run(code.format("transaction.on_commit(lambda: tasks.work('on commit'))"))
    assert separated.rows() == []
    separated.run(code.format("tasks.work('in it')"))
    assert len(separated.rows()) == 1
    done = separated.manage("check")
    assert "bgtasks.W006" in done.stderr
    assert "transaction.on_commit" in done.stderr


def test_where_all_share_a_database_there_is_no_such_warning(
    deploy: Callable[..., Deployment],
) -> None:
    assert "W006" not in deploy().manage("check").stderr


def test_a_process_that_only_checks_finds_nothing_missing(separated: Separated) -> None:
    done = separated.manage("makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout
    done = separated.manage("migrate", "bgtasks", "zero", "--database", "queue")
    assert done.returncode == 0, done.stderr
