"""What the tests of real workers share."""

from __future__ import annotations

from collections.abc import Callable

from tests.harness.deployment import Deployment

Deploy = Callable[..., Deployment]


def elsewhere(project: Deployment) -> dict[str, str]:
    """An environment as on another host: without proof of who else lives on this one."""
    folder = project.folder / f"host{len(project.workers)}"
    folder.mkdir()
    return {"TMPDIR": str(folder)}


def allow_connections(project: Deployment, allowed: bool) -> None:
    """An outage of PostgreSQL, for one database: no new connections, and the old ones ended."""
    name = project.database.name
    project.database.administer(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')
    if not allowed:
        project.database.administer(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
