from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.deployment import Deployment
from tests.harness.hosts import Host, network
from tests.harness.pgbouncer import PgBouncer, pgbouncer
from tests.harness.private_postgresql import PrivateDatabase, PrivateServer, private_postgresql


@pytest.fixture
def bouncer(project: Deployment) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode, in front of the project's database."""
    with pgbouncer(project.database.url) as running:
        yield running


@dataclass
class Site:
    """A database and two hosts for workers, each on a host of its own."""

    server: PrivateServer
    database: Host
    hosts: list[Host]
    project: Deployment


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site; keyword arguments are settings of the project."""
    with network() as lan:
        home = lan.host("database")
        with private_postgresql(home.address, home.prefix) as server:
            project: Deployment | None = None

            def make(**settings: Any) -> Site:
                nonlocal project
                database: Any = PrivateDatabase(server)
                project = Deployment(tmp_path, database, **settings)
                migrated = project.manage(
                    "migrate", "--verbosity", "0", DATABASE_URL=server.local_url
                )
                assert migrated.returncode == 0, migrated.stderr
                return Site(server, home, [lan.host("first"), lan.host("second")], project)

            yield make
            if project:
                project.close()
