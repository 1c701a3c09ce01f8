from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bgtasks.outside.helpers import Adapter
from tests.harness.databases import Database


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Adapter]]:
    """Starts adapters on a database; keyword arguments are what the harness asks them for."""
    started = []

    def start(database: Database, **orders: str) -> Adapter:
        started.append(Adapter(tmp_path, database, **orders))
        return started[-1]

    yield start
    for adapter in started:
        adapter.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    """A database without any table, as the harness hands it to an adapter."""
    database = Database(tmp_path)
    yield database
    database.drop()
