"""Spans of OpenTelemetry, as real workers export them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bgtasks import checks
from bgtasks.exceptions import TracesMissing
from tests.bgtasks.project import tasks
from tests.harness.deployment import Deployment

TRACED = {"BGTASKS_TRACES": True}
APP = {"MORE_APPS": "tests.bgtasks.project.traced"}
IN_REQUEST = """
from opentelemetry import baggage, context, trace
from tests.bgtasks.project.traced import tasks as traced
context.attach(baggage.set_baggage("customer", "c7"))
with trace.get_tracer("project").start_as_current_span("request"):
    {code}
trace.get_tracer_provider().shutdown()
"""
Span = dict[str, Any]


@pytest.fixture
def traced(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(**TRACED)


def request(project: Deployment, code: str) -> None:
    project.run(IN_REQUEST.format(code=code), **APP)


def spans_of(project: Deployment, drains: int = 1) -> list[Span]:
    """Drain the queue, so many times, and read the spans in the order in which they began."""
    for _ in range(drains):
        project.drain("--processes", "2", **APP)
    lines = Path(f"{project.ledger_path}.spans").read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda span: span["start_time"])


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span["name"] == name]


def id_of(span: Span) -> str:
    return str(span["context"]["span_id"])


RUN = "run tests.bgtasks.project.traced.tasks.parent"
ENQUEUE = "enqueue tests.bgtasks.project.traced.tasks.parent"
ADD = "tests.bgtasks.project.policied.add"


def test_a_request_what_it_enqueues_and_each_attempt_are_one_trace(traced: Deployment) -> None:
    request(traced, "traced.parent('k')")
    spans = spans_of(traced)
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    (asked,), (enqueued,) = named(spans, "request"), named(spans, ENQUEUE)
    first, second = named(spans, RUN)
    nested = named(spans, "inside")
    (added,), (run,) = named(spans, f"enqueue {ADD}"), named(spans, f"run {ADD}")
    assert enqueued["parent_id"] == id_of(asked)
    assert first["parent_id"] == second["parent_id"] == id_of(enqueued)
    assert [span["parent_id"] for span in nested] == [id_of(first), id_of(second)]
    assert added["parent_id"] == id_of(nested[1])
    assert run["parent_id"] == id_of(added)
    assert len(spans) == 8


def test_spans_have_the_names_of_the_conventions_for_messaging(traced: Deployment) -> None:
    request(traced, "traced.parent('k')")
    spans = spans_of(traced)
    task_id = str(traced.completed()[0]["id"])
    (enqueued,), (first, second) = named(spans, ENQUEUE), named(spans, RUN)
    common = {
        "messaging.system": "bgtasks",
        "messaging.destination.name": "mails",
        "messaging.bgtasks.task": "tests.bgtasks.project.traced.tasks.parent",
        "messaging.message.id": task_id,
    }
    assert enqueued["kind"] == "SpanKind.PRODUCER"
    assert enqueued["attributes"] == {
        **common,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    run = {**common, "messaging.operation.name": "run", "messaging.operation.type": "process"}
    assert first["kind"] == second["kind"] == "SpanKind.CONSUMER"
    assert first["attributes"] == {
        **run,
        "messaging.bgtasks.attempt": 1,
        "messaging.bgtasks.outcome": "retrying",
        "error.type": "builtins.ValueError",
    }
    assert second["attributes"] == {
        **run,
        "messaging.bgtasks.attempt": 2,
        "messaging.bgtasks.outcome": "succeeded",
    }
    assert [link["context"]["span_id"] for link in second["links"]] == [id_of(enqueued)]


def test_a_failed_attempt_says_what_it_raised(traced: Deployment) -> None:
    request(traced, "traced.parent('k')")
    first, second = named(spans_of(traced), RUN)
    assert first["status"] == {"status_code": "ERROR", "description": "not yet: k"}
    (event,) = first["events"]
    assert event["name"] == "exception"
    assert event["attributes"]["exception.type"] == "builtins.ValueError"
    assert event["attributes"]["exception.message"] == "not yet: k"
    assert event["attributes"]["exception.stacktrace"].startswith("Traceback")
    assert second["status"]["status_code"] == "UNSET"
    assert second["events"] == []


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        ("tasks.cancel('enough')", "cancelled"),
        ("tasks.snooze_once('a')", "snoozed"),
        ("tasks.refuse(3)", "failed"),
        ("tasks.add.apply_async([1, 2], expires=0.001)", "cancelled"),
    ],
)
def test_a_span_says_how_its_run_ended(traced: Deployment, call: str, outcome: str) -> None:
    request(traced, call)
    run = next(span for span in spans_of(traced) if span["name"].startswith("run "))
    assert run["attributes"]["messaging.bgtasks.outcome"] == outcome
    assert (run["status"]["status_code"] == "ERROR") == (outcome == "failed")


def test_coroutines_too_and_the_baggage_comes_along(traced: Deployment) -> None:
    request(traced, "traced.in_coroutine()")
    spans = spans_of(traced)
    assert traced.ledger("baggage", "c7")
    (run,) = named(spans, "run tests.bgtasks.project.traced.tasks.in_coroutine")
    (inside,), (added,) = named(spans, "inside"), named(spans, f"run {ADD}")
    assert inside["parent_id"] == id_of(run)
    assert added["context"]["trace_id"] == run["context"]["trace_id"]


# A receiver has the rows saved one by one.
RECEIVER = "post_save.connect(lambda **_: None, sender=tasks.Task, weak=False)"


@pytest.mark.parametrize("before", ["", f"from django.db.models.signals import *; {RECEIVER}; "])
def test_all_calls_of_a_map_are_in_the_trace(traced: Deployment, before: str) -> None:
    request(traced, f"{before}tasks.add.map(range(7), range(7))")
    spans = spans_of(traced)
    (enqueued,), runs = named(spans, f"enqueue {ADD}"), named(spans, f"run {ADD}")
    assert enqueued["attributes"]["messaging.batch.message_count"] == 7
    assert [run["parent_id"] for run in runs] == [id_of(enqueued)] * 7


def test_what_follows_a_task_is_in_its_trace(traced: Deployment) -> None:
    call = f"submit(tasks.add, [1, 2], options={{'then': '{ADD[:-3]}tell_about_myself'}})"
    request(traced, f"from bgtasks.calls import submit; {call}")
    spans = spans_of(traced)
    (follower,) = named(spans, f"run {ADD[:-3]}tell_about_myself")
    assert follower["parent_id"] == id_of(named(spans, f"enqueue {ADD}")[0])


def test_a_repetition_is_a_trace_of_its_own(traced: Deployment) -> None:
    request(traced, "tasks.add(1, 2, repeat=3600)")
    spans_of(traced)
    traced.database.query("UPDATE background_task SET run_at = '2000-01-01 00:00:00'")
    first, second = named(spans_of(traced), f"run {ADD}")
    assert first["context"]["trace_id"] != second["context"]["trace_id"]
    assert second["parent_id"] is None


def test_a_task_that_an_operator_retries_stays_in_its_trace(traced: Deployment) -> None:
    request(traced, "tasks.refuse(3)")
    spans_of(traced)
    traced.manage("tasks", "retry", str(traced.completed()[0]["id"]))
    runs = named(spans_of(traced), f"run {ADD[:-3]}refuse")
    assert len(runs) == 2
    assert len({run["context"]["trace_id"] for run in runs}) == 1


def test_without_the_setting_nothing_is_stored_and_nothing_imported(project: Deployment) -> None:
    code = "import sys; tasks.add(1, 2); tasks.add.map([1], [2]); print('opentelemetry' in "
    assert project.run(f"{code}sys.modules)").split() == ["False"]
    assert project.rows("bgtasks_calloptions") == []


def test_without_an_sdk_the_tasks_run(traced: Deployment) -> None:
    traced.run("tasks.add(1, 2); tasks.add_later(3, 4)")
    traced.drain()
    assert len(traced.completed("failed_at IS NULL")) == 2


BROKEN = """
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

class Broken(SpanProcessor):
    def on_{moment}(self, *args, **kwargs):
        raise RuntimeError("the processor is broken")
    def force_flush(self, *args, **kwargs):
        raise RuntimeError("the processor is broken")

provider = TracerProvider()
provider.add_span_processor(Broken())
trace.set_tracer_provider(provider)
from django.core.management import call_command
call_command("process_tasks", "--drain")
"""


@pytest.mark.parametrize("moment", ["start", "end"])
def test_a_processor_that_fails_harms_no_task(
    deploy: Callable[..., Deployment], moment: str
) -> None:
    project = deploy(**TRACED)
    project.run("tasks.add(1, 2); tasks.add_later(3, 4)")
    project.run(BROKEN.format(moment=moment))
    assert len(project.completed("failed_at IS NULL")) == 2


@pytest.mark.django_db
def test_without_the_package_a_call_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BGTASKS_TRACES = True
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)
    with pytest.raises(TracesMissing, match=r"pip install 'django-bgtasks\[traces\]'"):
        tasks.work(1)


def test_without_the_package_the_check_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BGTASKS_TRACES = True
    assert checks.traces_can_be_made() == []
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert [message.id for message in checks.traces_can_be_made()] == ["bgtasks.E006"]
    settings.BGTASKS_TRACES = False
    assert checks.traces_can_be_made() == []
