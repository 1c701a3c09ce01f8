"""Tasks whose spans are looked at."""

from opentelemetry import baggage, trace

from bgtasks import background, current_task
from tests.bgtasks.project.policied import add
from tests.bgtasks.project.tasks import note


@background(max_attempts=3, backoff=0, queue="mails")
def parent(key: str) -> None:
    with trace.get_tracer("project").start_as_current_span("inside"):
        if current_task().attempt == 1:
            raise ValueError(f"not yet: {key}")
        add(1, 2)


@background
async def in_coroutine() -> None:
    note("baggage", baggage.get_baggage("customer"))
    with trace.get_tracer("project").start_as_current_span("inside"):
        await add.adelay(3, 4)
