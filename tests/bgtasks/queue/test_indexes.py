"""The indexes of the task tables: after a migration, after its undoing, and after a mishap."""

from __future__ import annotations

import pytest

from tests.harness.databases import Database
from tests.harness.deployment import Deployment

OWN_INDEXES = {"bgtasks_ready", "bgtasks_ready_in_queue", "bgtasks_held", "bgtasks_repeating"}


def names(database: Database, table: str) -> set[str]:
    """The names of a table's indexes but for its primary key's."""
    if database.on_postgresql:
        sql = f"SELECT indexname AS name FROM pg_indexes WHERE tablename = '{table}'"
    else:
        sql = f"SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = '{table}'"
    return {row["name"] for row in database.query(sql) if not row["name"].endswith("_pkey")}


def of_queue(project: Deployment) -> set[str]:
    return names(project.database, "background_task")


def of_history(project: Deployment) -> set[str]:
    return names(project.database, "background_task_completedtask")


def assert_tuned(project: Deployment) -> None:
    hashes = of_queue(project) - OWN_INDEXES
    assert of_queue(project) > OWN_INDEXES
    assert [name[: len("background_task_task_hash_")] for name in hashes] == [
        "background_task_task_hash_"
    ]
    (run_at,) = of_history(project)
    assert run_at.startswith("background_task_completedtask_run_at_")


def migrate(project: Deployment, *target: str) -> None:
    done = project.manage("migrate", "--verbosity", "0", *target)
    assert done.returncode == 0, done.stderr


def test_a_migration_leaves_the_indexes_that_are_needed(project: Deployment) -> None:
    assert_tuned(project)


@pytest.mark.parametrize("target", ["zero", "0001"])
def test_p9_undone_it_brings_the_stock_indexes_back(project: Deployment, target: str) -> None:
    migrate(project, "bgtasks", target)
    on_postgresql = project.database.on_postgresql
    assert len(of_queue(project)) == len(of_history(project)) == (14 if on_postgresql else 10)
    assert not of_queue(project) & OWN_INDEXES
    migrate(project, "bgtasks")
    assert_tuned(project)


def test_a_remade_table_is_tuned_by_the_next_migrate(project: Deployment) -> None:
    project.database.query("DROP INDEX bgtasks_ready")
    project.database.query(
        "CREATE INDEX background_task_attempts_0123abcd ON background_task (attempts)"
    )
    project.database.query("CREATE INDEX of_the_projects_own ON background_task (attempts)")
    migrate(project)
    assert of_queue(project) >= {*OWN_INDEXES, "of_the_projects_own"}
    project.database.query("DROP INDEX of_the_projects_own")
    assert_tuned(project)


def test_an_index_whose_build_was_broken_off_is_built_anew(project: Deployment) -> None:
    if project.database.on_postgresql:
        invalid = "indexrelid = 'bgtasks_ready'::regclass AND NOT indisvalid"
        project.database.query(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bgtasks_ready'::regclass"
        )
        migrate(project)
        assert not project.database.query(f"SELECT 1 FROM pg_index WHERE {invalid}")
    assert_tuned(project)
