"""The adapter of bench/outside, run as the harness runs it, and every line that it prints."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.outside.adapter.controls import FailurePlan
from tests.bgtasks.outside.helpers import FOLDER, MANIFEST, Adapter, Record, jobs, latest
from tests.harness.databases import Database
from tests.harness.deployment import Deployment
from tests.harness.process import state
from tests.harness.waiting import eventually

pytestmark = pytest.mark.on_postgresql  # the harness is for queues on PostgreSQL

Start = Callable[..., Adapter]

SYSTEM = MANIFEST["system"]
SAMPLE: dict[str, type | tuple[type, ...]] = {
    "t": str,
    "system": str,
    "kind": str,
    "subject_kind": str,
    "subject": str,
    "metric": str,
    "value": (int, float),
    "window_s": (int, float),
    "instance_id": int,
}
# What has to be told at every tick, and to how many seconds it applies (None: to those of a tick).
REQUIRED = {
    "claim_p50_ms": 30,
    "claim_p95_ms": 30,
    "claim_p99_ms": 30,
    "enqueue_rate": None,
    "completion_rate": None,
    "queue_depth": 0,
}


# A time of UTC as the contract shows it.
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def check_descriptor(record: Record, database: Database) -> None:
    assert record["kind"] == "descriptor"
    assert record["system"] == SYSTEM
    assert set(record["event_tables"]) >= set(MANIFEST["event_tables"])
    assert set(record["extensions"]) >= set(MANIFEST["extensions"])
    assert record["db_name"] == database.name
    assert all(isinstance(record[name], str) for name in ("version", "schema_version"))
    assert TIME.fullmatch(record["started_at"])


def check_sample(record: Record) -> None:
    assert record.keys() == SAMPLE.keys()
    assert all(isinstance(record[name], kind) for name, kind in SAMPLE.items()), record
    assert (record["system"], record["kind"]) == (SYSTEM, "adapter")
    assert (record["subject_kind"], record["subject"]) == ("adapter", "")
    assert TIME.fullmatch(record["t"])
    assert record["value"] >= 0
    assert math.isfinite(record["value"])


def check(records: list[Record], database: Database, every: int = 1) -> None:
    """All that an adapter has printed, from its start to its end, is as the contract wants it."""
    check_descriptor(records[0], database)
    ticks = defaultdict(list)
    for record in records[1:]:
        check_sample(record)
        ticks[record["t"]].append(record)
    for samples in ticks.values():
        windows = {sample["metric"]: sample["window_s"] for sample in samples}
        assert len(windows) == len(samples), "one line for each metric"
        for metric, window in REQUIRED.items():
            assert windows[metric] == (every if window is None else window), metric


def test_a_run_is_by_the_contract(empty: Database, start: Start) -> None:
    adapter = start(empty)
    adapter.wait_for("descriptor", bool)
    for _ in range(4):
        adapter.enqueue(5)
    adapter.wait_for("20 jobs", lambda records: jobs(records, "completion_rate") == 20)
    assert adapter.stop() == 0
    check(adapter.records, empty)
    assert jobs(adapter.records, "enqueue_rate") == 20
    assert latest(adapter.records, "end_to_end_p99_ms")
    (done,) = empty.query("SELECT count(*) AS jobs FROM bgtasks_outcome WHERE state = 'succeeded'")
    assert done["jobs"] == 20


def test_the_manifest_names_what_is_there(project: Deployment) -> None:
    for name in (*MANIFEST["event_tables"], *MANIFEST["event_indexes"]):
        (found,) = project.database.query(f"SELECT to_regclass('{name}') AS relation")
        assert found["relation"], name
    for query in MANIFEST["state_queries"].values():
        assert project.database.query(query) == [{"count": 0}]
    assert MANIFEST["db_name"] == f"{SYSTEM}_bench"


def test_another_scenario_is_refused() -> None:
    command = [sys.executable, "main.py"]
    done = subprocess.run(
        command, cwd=FOLDER, env={"SCENARIO": "x"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert (done.stdout, "'long_horizon'" in done.stderr) == ("", True)


def test_without_tokens_it_keeps_the_rate_itself(project: Deployment, start: Start) -> None:
    adapter = start(project.database, PRODUCER_PACING="adapter", PRODUCER_RATE="50")
    adapter.wait_for("50 jobs", lambda records: jobs(records, "completion_rate") >= 50)
    assert adapter.stop() == 0
    assert latest(adapter.records, "producer_target_rate") == 50
    check(adapter.records, project.database)


def test_a_replica_but_the_first_tells_nothing_of_the_whole(
    project: Deployment, start: Start
) -> None:
    adapter = start(project.database, BENCH_INSTANCE_ID="1")
    adapter.wait_for("sample", lambda records: latest(records, "enqueue_rate") == 0)
    assert adapter.stop() == 0
    assert {record["instance_id"] for record in adapter.records} == {1}
    assert latest(adapter.records, "queue_depth") is None


def test_a_closed_gate_keeps_the_worker_from_starting(
    project: Deployment, start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.write_text("closed")
    orders = {"PRODUCER_MODE": "depth-target", "TARGET_DEPTH": "30", "PRODUCER_BATCH_MAX": "7"}
    queues = {"BENCH_QUEUE_COUNT": "2", "CONSUMER_GATE_FILE": str(gate)}
    adapter = start(project.database, **orders, **queues)
    adapter.wait_for("full queue", lambda records: latest(records, "queue_depth") == 30)
    assert jobs(adapter.records, "completion_rate") == 0
    by_queue = Counter(row["queue"] for row in project.rows())
    assert by_queue == {"queue0": 16, "queue1": 14}  # 7, 7, 7, 7, 2
    gate.write_text("open\n")
    adapter.wait_for("30 jobs", lambda records: jobs(records, "completion_rate") >= 30)
    assert adapter.stop() == 0
    check(adapter.records, project.database)


def test_what_a_killed_replica_leaves_the_next_one_runs(project: Deployment, start: Start) -> None:
    killed = start(project.database, JOB_WORK_MS="1000")
    killed.enqueue(20)
    killed.wait_for("first job", lambda records: jobs(records, "completion_rate") > 0)
    worker = killed.worker()
    killed.kill()
    eventually(lambda: state(worker) in {"", "Z"}, "its worker is dead too")
    assert project.rows(), "the kill came in the middle"
    adapter = start(project.database)
    eventually(lambda: not project.rows(), "nothing is left")
    assert len(project.completed("failed_at IS NULL")) == 20
    assert adapter.stop() == 0
    check(adapter.records, project.database)


def test_it_goes_on_when_the_database_has_ended_all_connections(
    project: Deployment, start: Start
) -> None:
    adapter = start(project.database, PRODUCER_PACING="adapter", PRODUCER_RATE="100")
    adapter.wait_for("first job", lambda records: jobs(records, "completion_rate") > 0)
    project.database.administer(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{project.database.name}'"
    )
    before = len(adapter.records)
    adapter.wait_for(
        "further jobs",
        lambda records: all(
            jobs(records[before:], rate) >= 100 for rate in ("enqueue_rate", "completion_rate")
        ),
    )
    assert adapter.stop() == 0
    check(adapter.records, project.database)


def test_jobs_fail_by_plan(project: Deployment, start: Start, tmp_path: Path) -> None:
    plan, file = FailurePlan(transient=40, poison=20), tmp_path / "plan.json"
    file.write_text(json.dumps({"transient_pct": 40, "poison_pct": 20, "transient_failures": 1}))
    expected = Counter(plan.kind(number) for number in range(53))
    failing = expected["poison"] + expected["transient"]
    adapter = start(project.database, JOB_FAILURE_CONTROL_FILE=str(file), JOB_MAX_ATTEMPTS="2")
    adapter.wait_for("descriptor", bool)
    adapter.enqueue(53)
    eventually(lambda: waits_again(project) == failing, "all that have failed wait again")
    project.hurry()  # instead of waiting until the second attempts are due
    assert plan.kind(53) == ""
    adapter.enqueue(1)  # which wakes the worker
    adapter.wait_for(
        "second attempts",
        lambda records: (
            jobs(records, "injected_failure_rate") == failing + expected["poison"]
            and jobs(records, "retried_completion_rate") == expected["transient"]
        ),
    )
    eventually(lambda: not project.rows(), "nothing is left")
    dead = project.database.query(MANIFEST["state_queries"]["dead"])
    assert dead == [{"count": expected["poison"]}]
    assert adapter.stop() == 0
    assert jobs(adapter.records, "poison_exhausted_rate") == expected["poison"]
    assert jobs(adapter.records, "completion_rate") == 54 - expected["poison"]
    assert "InjectedFailure" not in adapter.log.read_text()
    check(adapter.records, project.database)


def waits_again(project: Deployment) -> int:
    """How many jobs wait for another attempt."""
    return len(project.rows(where="locked_by IS NULL AND attempts > 0"))


def test_a_herd_is_enqueued_once_and_told_of(
    project: Deployment, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "herd.json"
    herd = {"id": "first", "count": 12, "run_at_ms": 1_700_000_000_000, "spread_ms": 300}
    file.write_text(json.dumps(herd))
    adapter = start(project.database, SCHEDULE_CONTROL_FILE=str(file))
    adapter.wait_for("herd", lambda records: latest(records, "schedule_started_total") == 12)
    assert adapter.stop() == 0
    told = {record["metric"]: record["value"] for record in adapter.records[1:]}
    assert told["schedule_enqueued_total"] == 12
    assert told["schedule_early_total"] == 0
    assert told["schedule_lateness_max_ms"] >= told["schedule_lateness_p50_ms"] > 0
    assert jobs(adapter.records, "scheduled_completion_rate") == 12
    assert jobs(adapter.records, "completion_rate") == 0
    check(adapter.records, project.database)
