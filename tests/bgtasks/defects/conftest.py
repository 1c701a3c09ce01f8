"""One project for each test. The tables are made once and copied."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bgtasks.defects.project import STOCK, Project
from tests.harness.databases import Database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ENGINE=stock every one of these must fail; one that does not is an error."""
    for item in items if STOCK else []:
        item.add_marker(pytest.mark.xfail(strict=True))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Database:
    folder = tmp_path_factory.mktemp("template")
    template = Project(folder, Database(folder))
    migrated = template.manage("migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr
    return template.database


@pytest.fixture
def project(template: Database, tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, Database(tmp_path, template))
    try:
        yield project
    finally:
        project.open_gate()
        project.stop_workers(signal.SIGKILL)
