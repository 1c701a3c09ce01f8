"""Which databases are used again by a later test, and how they come to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import settings
from tests.harness.databases import Database

MADE = """
CREATE TABLE task (id serial PRIMARY KEY, name text);
CREATE TABLE note (
  id serial PRIMARY KEY, task_id int REFERENCES task DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE django_migrations (id serial PRIMARY KEY, name text);
INSERT INTO django_migrations (name) VALUES ('0001');
"""
USED = "INSERT INTO task (name) VALUES ('a'), ('b'); INSERT INTO note (task_id) VALUES (1)"


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Database]:
    template = Database(tmp_path)
    with psycopg.connect(template.url) as connection:
        connection.execute(MADE)
    connection.close()
    yield template
    template.drop()


def names() -> set[str]:
    with psycopg.connect(settings.POSTGRES_URL) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_the_next_test_finds_it_as_the_template_is_and_by_another_name(
    template: Database, tmp_path: Path
) -> None:
    first = Database(tmp_path, template)
    first.query(USED)
    first.release()
    assert first.name in names()
    second = Database(tmp_path, template)
    assert first.name not in names()
    assert second.name in names()
    for table in ("task", "note"):
        assert second.query(f"SELECT * FROM {table}") == []
    assert second.query("INSERT INTO task (name) VALUES ('c') RETURNING id") == [{"id": 1}]
    added = "INSERT INTO django_migrations (name) VALUES ('0002') RETURNING id"
    assert second.query(added) == [{"id": 2}]
    second.release()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE task ADD COLUMN more int",
        "ALTER TABLE task ALTER COLUMN name SET NOT NULL",
        "DROP TABLE note",
        "CREATE TABLE other (id int)",
        "CREATE INDEX by_name ON task (name)",
        "ALTER TABLE task ADD CONSTRAINT short CHECK (length(name) < 9)",
        "INSERT INTO django_migrations (name) VALUES ('0002')",
        "CREATE VIEW names AS SELECT name FROM task",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO task (name) SELECT repeat('x', 100) FROM generate_series(1, 9000)",
        "ALTER TABLE task SET (fillfactor = 50)",
    ],
)
def test_one_that_was_changed_is_dropped(template: Database, tmp_path: Path, change: str) -> None:
    used = Database(tmp_path, template)
    used.query(change)
    used.release()
    assert used.name not in names()


def test_a_setting_of_the_database_is_a_change(template: Database, tmp_path: Path) -> None:
    used = Database(tmp_path, template)
    used.administer(f'ALTER DATABASE "{used.name}" SET work_mem = 1024')
    used.release()
    assert used.name not in names()


def test_who_is_still_connected_is_sent_away(template: Database, tmp_path: Path) -> None:
    used = Database(tmp_path, template)
    left = psycopg.connect(used.url)
    left.execute("LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
    used.release()
    again = Database(tmp_path, template)
    assert again.query("SELECT * FROM task") == []
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    left.close()
    again.release()


def test_with_the_template_all_are_dropped(tmp_path: Path) -> None:
    template = Database(tmp_path)
    copies = [Database(tmp_path, template) for _ in range(2)]
    for copy in copies:
        copy.release()
    assert {copy.name for copy in copies} <= names()
    template.drop()
    assert not {template.name, *(copy.name for copy in copies)} & names()
