"""A short run with a fixed seed; `make chaos` is the long one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.chaos import SETTINGS, Chaos
from tests.harness.deployment import Deployment, deployments

SEED = 20261121
SECONDS = 12
TASKS = 1500


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    maker: Iterator[Callable[..., Deployment]] = deployments(tmp_path_factory.mktemp("template"))
    deployment = next(maker)(tmp_path, **SETTINGS)
    yield deployment
    deployment.close()
    next(maker, None)


def test_every_task_reaches_one_outcome_and_every_second_run_is_explained(
    project: Deployment,
) -> None:
    chaos = Chaos(project, SEED)
    chaos.run(SECONDS, TASKS)
    print(chaos.check(TASKS))
