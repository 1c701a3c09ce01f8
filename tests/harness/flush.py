"""Emptying the tables after a test that commits, by DELETE and without `post_migrate`.

Django empties them as `manage.py flush` does. On PostgreSQL that is TRUNCATE, which makes new
files for each table and each index; where there is a handful of rows, DELETE is much quicker. And
it sends `post_migrate`, whose receivers write content types and permissions anew, which is more
work than most tests are.
"""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.test import TransactionTestCase
from django.test.runner import DiscoverRunner

# Their rows were written by `migrate`, and no test changes them.
KEPT = {"django_content_type", "auth_permission"}


def quickly() -> None:
    """Have the tables emptied so. All foreign keys are checked at the commit."""
    TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[method-assign]


def _empty_tables(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        connection = connections[alias]
        there = connection.introspection.django_table_names(only_existing=True, include_views=False)
        quoted = map(connection.ops.quote_name, sorted({*there} - KEPT))
        connection.ops.execute_sql_flush([f"DELETE FROM {table}" for table in quoted])


class Runner(DiscoverRunner):
    """Django's own runner, for a suite that is not run by pytest."""

    def setup_databases(self, **options: Any) -> Any:
        quickly()
        return super().setup_databases(**options)
