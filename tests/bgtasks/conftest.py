from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.deployment import Deployment, deployments


@pytest.fixture(scope="session")
def make_deployment(
    tmp_path_factory: pytest.TempPathFactory, database_server: None
) -> Iterator[Callable[..., Deployment]]:
    yield from deployments(tmp_path_factory.mktemp("deployments"))


@pytest.fixture
def deploy(
    make_deployment: Callable[..., Deployment], tmp_path: Path
) -> Iterator[Callable[..., Deployment]]:
    """Makes a project on a fresh database; keyword arguments are its settings."""
    made = []

    def deploy(**extra: Any) -> Deployment:
        made.append(make_deployment(tmp_path, **extra))
        return made[-1]

    yield deploy
    for deployment in made:
        deployment.close()


@pytest.fixture
def project(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy()
