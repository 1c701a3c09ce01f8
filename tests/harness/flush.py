"""Emptying the tables after a test, on PostgreSQL by DELETE.

Django empties them by TRUNCATE, which makes new files for each table and each index. Where there
is a handful of rows, DELETE is much quicker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql.operations import DatabaseOperations
from django.test.runner import DiscoverRunner


def delete_instead_of_truncate() -> None:
    """Have the test runner's flush delete rows. All foreign keys are checked at the commit."""
    truncate = DatabaseOperations.sql_flush

    def sql_flush(
        self: DatabaseOperations, style: Any, tables: Iterable[str], **options: Any
    ) -> list[str]:
        if options.get("reset_sequences"):
            return truncate(self, style, tables, **options)
        return [f"DELETE FROM {self.quote_name(table)}" for table in tables]

    DatabaseOperations.sql_flush = sql_flush  # type: ignore[assignment,method-assign]


class Runner(DiscoverRunner):
    """Django's own runner, for a suite that is not run by pytest."""

    def setup_databases(self, **options: Any) -> Any:
        delete_instead_of_truncate()
        return super().setup_databases(**options)
