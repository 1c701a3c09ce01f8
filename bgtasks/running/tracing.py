"""Spans of OpenTelemetry: one for each enqueueing and one for each attempt, all in one trace.

The context of the trace travels with the row, as an option of its call. The names and attributes
are those of OpenTelemetry's semantic conventions for messaging.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from background_task.models import Task

from bgtasks import conf
from bgtasks.exceptions import TracesMissing
from bgtasks.logs import get_logger
from bgtasks.models import Attempt
from bgtasks.queue.call_options import TRACE
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.serialize.tracebacks import whole

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

logger = get_logger(__name__)

# Milliseconds for which a worker that ends waits until its last spans are exported.
FLUSH = 3000
SYSTEM = "bgtasks"


class Enqueueing:
    """The enqueueing of one call, or of many, as a span.

    Args:
        span: None if traces are off. Then this does nothing.
        carried: the context of the trace: headers of W3C Trace Context, by name.
    """

    def __init__(self, span: Span | None, carried: Mapping[str, str]) -> None:
        self._span = span
        self._carried = carried

    def with_trace(self, options: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The options of a call, and with them the context of the trace."""
        return {**(options or {}), TRACE: self._carried} if self._carried else options

    def enqueued(self, rows: Sequence[Task]) -> None:
        """Say which rows came of it."""
        if self._span is None:
            return
        if len(rows) == 1:
            self._span.set_attribute("messaging.message.id", str(rows[0].pk))
        else:
            self._span.set_attribute("messaging.batch.message_count", len(rows))


_OFF = Enqueueing(None, {})


@contextmanager
def enqueueing(name: str, queue: str | None) -> Iterator[Enqueueing]:
    """A span for the calls of a task that the block enqueues; an exception is recorded in it.

    Args:
        name: the task's name.
        queue: the queue of its rows; None or empty: the default one.

    Raises:
        TracesMissing: traces are on, and the package is not installed.
    """
    if not conf.traces():
        yield _OFF
        return
    tracer = _tracer()
    from opentelemetry import propagate, trace

    with tracer.start_as_current_span(
        f"enqueue {name}",
        kind=trace.SpanKind.PRODUCER,
        attributes=_attributes(name, queue, "enqueue", "send"),
    ) as span:
        carried: dict[str, str] = {}
        propagate.inject(carried)
        yield Enqueueing(span, carried)


def begin(claimed: ClaimedRow) -> Span | None:
    """Start the span of an attempt, and make it the current one of this context. It never raises.

    Its parent is the span of the enqueueing, so that a request, what it has enqueued, and each
    attempt at that are one trace.

    Call it only if traces are on.

    Returns:
        The span, for `end`; None if it cannot be started, which is logged.
    """
    try:
        return _begun(claimed)
    except Exception:  # of the project's own propagator, sampler or processor, for example
        logger.exception("The span of task %s cannot be started.", claimed.row.task_name)
        return None


def _begun(claimed: ClaimedRow) -> Span:
    tracer = _tracer()
    from opentelemetry import context, propagate, trace

    row, carried = claimed.row, claimed.options.get(TRACE)
    # Without a context to begin with, the current one would be taken, which a caller may have.
    parent = propagate.extract(
        carried if isinstance(carried, dict) else {}, context=context.Context()
    )
    created = trace.get_current_span(parent).get_span_context()
    span = tracer.start_span(
        f"run {row.task_name}",
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(created)] if created.is_valid else [],
        attributes={
            **_attributes(row.task_name, row.queue, "run", "process"),
            "messaging.message.id": str(row.pk),
            "messaging.bgtasks.attempt": max(1, row.attempts),
        },
    )
    context.attach(trace.set_span_in_context(span, parent))
    return span


def end(span: Span, ending: Ending) -> None:
    """End the span of an attempt. It never raises."""
    try:
        _end(span, ending)
    except Exception:
        logger.exception("The span of task %s cannot be ended.", ending.row.task_name)


def _end(span: Span, ending: Ending) -> None:
    from opentelemetry import trace

    span.set_attribute("messaging.bgtasks.outcome", _outcome(ending))
    if ending.state is not None:
        described = json.loads(ending.exception or "{}")
        type_ = described.get("type") or Attempt.State(ending.state).value
        message = whole(ending.error).partition(": ")[2]
        span.set_attribute("error.type", type_)
        span.set_status(trace.StatusCode.ERROR, message)
        exception = {"type": type_, "message": message, "stacktrace": ending.error}
        span.add_event("exception", {f"exception.{key}": exception[key] for key in exception})
    span.end()


def flush() -> None:
    """Wait until the spans of this process are exported, for `FLUSH` ms at most."""
    if not conf.traces():
        return
    from opentelemetry import trace

    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is None:  # the API alone, without an SDK, has no spans to export
        return
    try:
        force_flush(FLUSH)
    except Exception:
        logger.exception("The last spans of this worker cannot be exported.")


def _tracer() -> Tracer:
    try:
        from opentelemetry import trace
    except ImportError:
        raise TracesMissing(
            "BGTASKS_TRACES is on, and the package opentelemetry-api is not installed. Run `pip "
            "install 'django-bgtasks[traces]'`, or set BGTASKS_TRACES = False."
        ) from None
    return trace.get_tracer("bgtasks")


def _attributes(name: str, queue: str | None, operation: str, kind: str) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": queue or "default",
        "messaging.bgtasks.task": name,
    }


def _outcome(ending: Ending) -> str:
    if ending.snoozed:
        return "snoozed"
    if ending.cancelled:
        return "cancelled"
    if ending.again:
        return "retrying"
    return "succeeded" if ending.succeeded else "failed"
