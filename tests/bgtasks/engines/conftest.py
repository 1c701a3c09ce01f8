from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.harness.deployment import Deployment
from tests.harness.fleets import CELERY, ENGINES, Fleet, MakeFleet


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ENGINES],
)
def engine(
    request: pytest.FixtureRequest,
    make_deployment: Callable[..., Deployment],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Each engine, whose processes run for all tests: each test has arguments of its own."""
    folder = tmp_path_factory.mktemp("engine")
    project = make_deployment(
        folder,
        BGTASKS_GRACE=5.0,
        EMAIL_BACKEND="bgtasks.mail.BackgroundEmailBackend",
        BGTASKS_EMAIL_BACKEND="django.core.mail.backends.filebased.EmailBackend",
        EMAIL_FILE_PATH=str(folder / "mails"),
    )
    fleet = Fleet(project, request.param)
    fleet.start()
    yield fleet
    project.close()


@pytest.fixture(params=CELERY)
def make_celery(request: pytest.FixtureRequest, deploy: Callable[..., Deployment]) -> MakeFleet:
    """Makes a fleet of Celery's on each broker, of which nothing has been started yet."""
    return MakeFleet(deploy, request.param)


@pytest.fixture
def make_fleet(deploy: Callable[..., Deployment]) -> MakeFleet:
    """Makes a fleet of Celery's, where it does not matter which broker it has."""
    return MakeFleet(deploy, CELERY[0])
