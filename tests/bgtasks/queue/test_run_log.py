"""What the log of a real worker says of runs: one record for each."""

from __future__ import annotations

import re

import pytest

from tests.bgtasks.worker.helpers import Deploy
from tests.harness.deployment import Deployment

pytestmark = pytest.mark.any_database

PROJECT = "tests.bgtasks.project"
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]+) Task (?P<id>\d+) (?P<name>\S+) "
    r"\(attempt (?P<attempt>\d+)(?:, (?P<seconds>\d+\.\d{3}) s)?\) (?P<story>.*)"
)


@pytest.fixture
def fresh(deploy: Deploy) -> Deployment:
    """A project as `startproject` makes it: it has no setting LOGGING."""
    return deploy(LOGGING={})


def told(output: str) -> list[dict[str, str]]:
    found = [match for line in output.splitlines() if (match := LINE.fullmatch(line))]
    return [match.groupdict() for match in found]


def test_in_a_fresh_project_each_task_has_one_line(fresh: Deployment) -> None:
    fresh.run("tasks.work(1)\ntasks.add(2, 3)")
    first, second = told(fresh.drain())
    assert (first["level"], first["story"]) == ("INFO", "succeeded.")
    assert (first["name"], first["attempt"]) == (f"{PROJECT}.tasks.work", "1")
    assert (second["name"], second["story"]) == (f"{PROJECT}.policied.add", "succeeded.")
    assert int(second["id"]) == int(first["id"]) + 1
    assert first["seconds"] is not None


def test_a_failure_is_told_once_with_time_level_and_traceback(fresh: Deployment) -> None:
    fresh.run("tasks.fail(1)")
    output = fresh.drain()
    (line,) = told(output)
    assert line["level"] == "ERROR"
    assert re.match(r"failed, and is tried again in [\d.]+ s: ValueError: ", line["story"])
    assert output.count("Traceback (most recent call last)") == 1
    assert len([each for each in output.splitlines() if "tasks.fail" in each]) == 1


def test_the_last_failure_says_so(deploy: Deploy) -> None:
    project = deploy(LOGGING={}, MAX_ATTEMPTS=1)
    project.run("tasks.fail(1)")
    (line,) = told(project.drain())
    assert (line["level"], line["story"].split(":")[0]) == ("ERROR", "failed")


def test_an_exception_whose_text_has_several_lines_is_told_whole(fresh: Deployment) -> None:
    fresh.run("tasks.fail('one\\ntwo\\nthree')")
    output = fresh.drain()
    (line,) = told(output)
    assert line["story"].endswith(r"ValueError: as it should: one\ntwo\nthree")
    assert (
        "ValueError: as it should: one\ntwo\nthree" in output
    )  # as Python prints it, below the frames


def test_a_run_that_is_lost_with_its_worker_is_told_once(fresh: Deployment) -> None:
    fresh.run("tasks.die_once('a')")
    (line,) = told(fresh.drain())
    assert (line["level"], line["seconds"]) == ("ERROR", None)
    assert line["story"].startswith("failed: Lost: ")


@pytest.mark.parametrize(
    ("call", "level", "story"),
    [
        ("tasks.cancel('it is late')", "INFO", "is cancelled: it is late"),
        ("tasks.snooze_once('a')", "INFO", "is put off, and runs "),
        ("tasks.retry_once('a')", "INFO", "asked to be tried again "),
        ("tasks.work(1, verbose_name='Mail to Zoe')", "INFO", "succeeded."),
    ],
)
def test_other_endings_have_a_line_too(
    project: Deployment, call: str, level: str, story: str
) -> None:
    project.run(call)
    output = project.drain()
    lines = [line for line in output.splitlines() if " background_task.tasks: Task " in line]
    assert f" {level} " in lines[0]
    assert story in lines[0]
    assert ('"Mail to Zoe"' in lines[0]) is ("Zoe" in call)


def test_without_info_nothing_is_told_of_success(deploy: Deploy) -> None:
    quiet = {"version": 1, "loggers": {"background_task": {"level": "WARNING"}}}
    project = deploy(LOGGING=quiet)
    project.run("tasks.work(1)")
    assert "succeeded" not in project.drain()
