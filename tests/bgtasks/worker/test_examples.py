"""The examples of docs/operating/running.md: each is started as it stands there, or validated."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bgtasks.worker.helpers import Deploy
from tests.docs.snippets import snippets_of
from tests.harness import needs
from tests.harness.deployment import Deployment
from tests.harness.process import Process, run

pytestmark = pytest.mark.any_database

PAGE = "docs/operating/running.md"


def sources(language: str) -> list[str]:
    return [each.source for each in snippets_of(PAGE) if each.language == language]


def logging_of(number: int) -> dict[str, Any]:
    [assignment] = ast.parse(sources("python")[number]).body
    assert isinstance(assignment, ast.Assign)
    return ast.literal_eval(assignment.value)  # type: ignore[no-any-return]


def test_a_worker_logs_as_the_text_example_says(deploy: Deploy) -> None:
    project = deploy(LOGGING=logging_of(0))
    project.run("tasks.work(1)\ntasks.fail(2)")
    output = project.drain()
    line = r"[\d-]+ [\d:,]+ INFO background_task\.tasks: Task \d+ tests\.\S+\.work .* succeeded\.$"
    assert re.search(line, output, re.MULTILINE)
    assert re.search(r"INFO bgtasks\.\S+: Worker .* is ready\.", output)
    assert output.count("Traceback (most recent call last)") == 1


def test_a_worker_logs_as_the_json_example_says(deploy: Deploy) -> None:
    if importlib.util.find_spec("pythonjsonlogger") is None:
        needs.missing("python-json-logger")
    project = deploy(LOGGING=logging_of(1))
    project.run("tasks.work(1)\ntasks.fail('two\\nlines')")
    records = [json.loads(line) for line in project.drain().splitlines()]
    done, failed = [record for record in records if "task" in record]
    [example] = map(json.loads, sources("json"))
    assert done.keys() == example.keys()
    assert done["task"].keys() == example["task"].keys()
    assert done["task"]["outcome"] == "succeeded"
    assert failed["task"]["outcome"] == "retrying"
    assert "ValueError: as it should: two\nlines" in failed["exc_info"]


def commands() -> dict[str, list[str]]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string(sources("systemd")[0])
    [line] = re.findall(r"^worker: (.*)$", sources("procfile")[0], re.MULTILINE)
    [cmd] = re.findall(r"^CMD (.*)$", sources("dockerfile")[0], re.MULTILINE)
    return {
        "systemd": shlex.split(unit["Service"]["ExecStart"]),
        "procfile": shlex.split(line),
        "docker": json.loads(cmd),
    }


@pytest.mark.parametrize("kind", commands())
def test_the_command_of_each_example_starts_a_worker(project: Deployment, kind: str) -> None:
    python, manage, *arguments = commands()[kind]
    assert (Path(python).name, manage) == ("python", "manage.py")
    worker = Process("-m", "django", *arguments, env=project.environment())
    project.workers.append(worker)
    assert "Processes: 2" in worker.wait_for("is ready")
    assert worker.stop() == 0  # by SIGTERM, as all of them stop it


def test_all_of_them_wait_for_the_grace_period() -> None:
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", sources("systemd")[0], re.MULTILINE)
    worker = yaml.safe_load(sources("yaml")[0])["services"]["worker"]
    assert int(seconds) > 30
    assert int(worker["stop_grace_period"].rstrip("s")) > 30


def test_systemd_knows_all_that_the_unit_says(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        needs.missing("systemd-analyze")
    unit = sources("systemd")[0].replace("/srv/shop/.venv/bin/python", sys.executable)
    path = tmp_path / "shop-worker.service"
    path.write_text(unit.replace("/srv/shop", str(tmp_path)))
    done = run(tool, "verify", "--man=no", path, env={"PATH": "/usr/bin:/bin"})
    if "Failed to initialize manager" in done.stderr:
        needs.missing("a systemd that can look at units")
    assert str(path.name) not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
