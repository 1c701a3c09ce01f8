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


def test_atomic_tasks_are_named_that_write_into_another_database(separated: Separated) -> None:
    said = separated.drain()
    assert "atomic.change is atomic, and no table of the project is in the database queue" in said


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


COUNTED = """
from contextlib import ExitStack, contextmanager
from django.db import connections
from django.test.utils import CaptureQueriesContext
@contextmanager
def queries(most):
    with ExitStack() as stack:
        counts = [stack.enter_context(CaptureQueriesContext(c)) for c in connections.all()]
        yield
    made = [query["sql"] for count in counts for query in count]
    assert len(made) <= most, made
"""
FOUND = f"""{CREATORS}{COUNTED}
zoe = User.objects.create(username="zoe")
for number in range(3):
    tasks.work(number, creator=zoe)
assert Task.objects.first().creator == zoe  # from now on the content type is known
row = Task.objects.first()
with queries(1):
    assert row.creator == row.creator == zoe
row.creator = other = User.objects.create(username="amy")
with queries(0):
    assert row.creator is other
row.creator_object_id = zoe.pk
assert row.creator == zoe
with queries(2):
    rows = list(Task.objects.prefetch_related("creator"))
    assert [row.creator for row in rows] == [zoe] * 3
"""


def test_a_creator_in_the_other_database_is_looked_for_once(separated: Separated) -> None:
    separated.run(FOUND)


def test_a_creator_read_from_a_replica_is_looked_for_once(
    deploy: Callable[..., Deployment],
) -> None:
    project = deploy()
    project.run(FOUND, DJANGO_SETTINGS_MODULE="tests.bgtasks.project.replica")


CONSTRAINTS = """
from django.core.management import call_command
from django.db import connections
for using in ("queue", "default"):
    call_command("migrate", database=using, verbosity=0)
for using in ("queue", "default"):
    with connections[using].cursor() as cursor:
        for table in ("background_task", "background_task_completedtask"):
            found = connections[using].introspection.get_constraints(cursor, table).values()
            assert [c["foreign_key"] for c in found if c["foreign_key"]] == WANTED[using], using
call_command("makemigrations", check=True, dry_run=True)
"""
TO_CONTENT_TYPES = [("django_content_type", "id")]


@pytest.mark.parametrize("routed", [False, True])
def test_p5_tables_have_their_constraint_where_the_content_types_are(
    tmp_path: Path, routed: bool
) -> None:
    project = Separated(tmp_path)
    try:
        more = {} if routed else {"ROUTERS": ""}
        wanted = {"default": TO_CONTENT_TYPES, "queue": TO_CONTENT_TYPES}
        if routed:  # what is not made in a database has no constraint there either
            wanted = {"default": [], "queue": []}
        project.run(f"WANTED = {wanted!r}\n{CONSTRAINTS}", **more)
    finally:
        project.close()
