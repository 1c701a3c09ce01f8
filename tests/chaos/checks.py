"""What must be true after everything.

Each task has one outcome, every second run is explained, and what an atomic task writes is there
once.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from tests.harness.deployment import Deployment

# A task that uses the database fails its attempt when that is away.
AWAY = ("OperationalError", "InterfaceError", "DatabaseError")
Row = dict[str, Any]


class Books:
    """All that is known of the tasks of a run, when nothing is left in the queue.

    Args:
        committed: the keys of the tasks that must be there. There may be others: of a commit whose
            answer was lost nobody knew.
    """

    def __init__(self, project: Deployment, committed: set[str]) -> None:
        assert project.rows() == [], "rows are left"
        self._committed = committed
        self._outcomes = project.rows("bgtasks_outcome")
        self._completed = {row["id"]: row for row in project.completed()}
        self._begins = Counter(line[1] for line in project.ledger("begin"))
        self._effects = Counter(row["username"].split()[0] for row in project.rows("auth_user"))
        self._attempts: dict[int, list[Row]] = defaultdict(list)
        for attempt in project.attempts():
            self._attempts[attempt["task_id"]].append(attempt)

    def check(self) -> None:
        assert len(self._outcomes) == len(self._completed)
        assert {each["completed_id"] for each in self._outcomes} == set(self._completed)
        keys = Counter(self._key(outcome) for outcome in self._outcomes)
        assert not [key for key, count in keys.items() if count > 1], "a task with two outcomes"
        assert self._committed <= keys.keys(), f"lost: {sorted(self._committed - keys.keys())[:9]}"
        for outcome in self._outcomes:
            self._check_task(outcome)

    def _key(self, outcome: Row) -> str:
        row = self._completed[outcome["completed_id"]]
        return str(json.loads(row["task_params"])[0][0])

    def _check_task(self, outcome: Row) -> None:
        key, row = self._key(outcome), self._completed[outcome["completed_id"]]
        attempts, begins = self._attempts[outcome["task_id"]], self._begins[key]
        told = f"task {key}: {begins} runs, {outcome}, {attempts}"
        succeeded = outcome["state"] == "succeeded"
        assert row["failed_at"] is None if succeeded else row["failed_at"], told
        effects = int(succeeded and row["task_name"].endswith(".write_once"))
        assert self._effects[key] == effects, f"{self._effects[key]} effects: {told}"
        # Each run but the last is explained by an attempt, and each attempt names its reason.
        assert begins <= len(attempts) + succeeded, f"a run that nobody explains: {told}"
        # Of what a lost host had claimed, nobody knows whether it had begun: it counts as lost.
        never = all(attempt["state"] == "lost" for attempt in attempts)
        assert begins or never or key.startswith("probe"), told
        numbers = [attempt["number"] for attempt in attempts]
        assert len(set(numbers)) == len(numbers), f"an attempt recorded twice: {told}"
        assert outcome["attempts"] == len(attempts) + succeeded, f"an attempt is missing: {told}"
        for attempt in attempts:
            assert attempt["error"], told
            if attempt["state"] == "failed":  # no task fails by itself here
                assert any(name in attempt["error"] for name in AWAY), told
        if not succeeded:
            assert "cost 3 workers" in row["last_error"], told

    @property
    def tasks(self) -> int:
        return len(self._outcomes)

    @property
    def again(self) -> Counter[str]:
        """How many runs were not the last one of their task, by what is told of them."""
        return Counter(each["state"] for found in self._attempts.values() for each in found)

    @property
    def failed(self) -> int:
        """How many tasks have failed for good: they have cost three workers."""
        return sum(outcome["state"] != "succeeded" for outcome in self._outcomes)
