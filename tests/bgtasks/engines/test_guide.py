"""The engine of docs/guides/engines.md, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.deployment import Deployment
from tests.harness.process import ROOT, Process
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.any_database, pytest.mark.once]

GUIDE = ROOT / "docs/guides/engines.md"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the guide's app is installed."""
    for name, source in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", GUIDE.read_text(), re.S):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    for folder in ("spool", "spool/management", "spool/management/commands"):
        (tmp_path / folder / "__init__.py").touch()
    return {"PYTHONPATH": f"{tmp_path}:{ROOT}", "MORE_APPS": "spool"}


@pytest.fixture
def project(tmp_path: Path, deploy: Callable[..., Deployment]) -> Deployment:
    folder = tmp_path / "messages"
    folder.mkdir()
    engine = {"ENGINE": "spool.engine.SpoolEngine", "FOLDER": str(folder), "AGAIN_AFTER": 1}
    return deploy(BGTASKS_ENGINE=engine)


def start(project: Deployment, environment: dict[str, str]) -> Process:
    fleet = Process("-m", "django", "spool", env=project.environment(**environment))
    project.workers.append(fleet)
    return fleet


def test_the_engine_of_the_guide_runs_rows(
    project: Deployment, environment: dict[str, str]
) -> None:
    project.worker(**environment)
    fleet = start(project, environment)
    call = "print(tasks.add.delay(1, 2).get(timeout=60))"
    assert project.run(call, **environment) == "3\n"
    assert fleet.stop() == 0
    assert len(project.rows("bgtasks_worker")) == 1  # the relay


def test_if_its_messages_are_lost_they_are_sent_again(
    project: Deployment, environment: dict[str, str], tmp_path: Path
) -> None:
    project.worker(**environment)
    project.run("tasks.work('lost')", **environment)
    [message] = eventually(lambda: list((tmp_path / "messages").glob("*.message")), "a message")
    message.unlink()
    start(project, environment)
    project.wait_for("work", "lost")


def test_if_it_cannot_send_the_rows_wait(
    project: Deployment, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "messages").rmdir()
    relay = project.worker(**environment)
    project.run("tasks.work('later')", **environment)
    relay.wait_for("Tasks are not sent to Spool: the folder cannot be written to")
    (tmp_path / "messages").mkdir()
    start(project, environment)
    project.wait_for("work", "later")
    assert not project.attempts()
