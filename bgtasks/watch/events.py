"""A task's changes as server-sent events, until it has ended.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections

from bgtasks.clock import elapsed
from bgtasks.operations.snapshots import Snapshot
from bgtasks.waiters.thread import watching

# Seconds between two comments on a stream on which nothing else is sent: proxies close what is
# silent for a minute, and a write shows that a client is gone whose end nobody has told.
KEEP_ALIVE = 15.0
# Seconds after which a stream ends. The browser opens another, and is asked anew who it is.
LONGEST = 3600.0
# Milliseconds after which a browser opens a stream again that broke off.
RETRY = 2000
# The id of the last event. A browser that comes back with it is told to stay away.
LAST = "end"


def as_json(snapshot: Snapshot | None) -> dict[str, Any]:
    """Where a task stands, for the visitor: neither its arguments nor its errors are in it.

    Args:
        snapshot: None: the task is not there any more.
    """
    if snapshot is None:
        return {"state": "gone", "ended": True, "succeeded": False, "progress": None}
    report = snapshot.progress
    return {
        "state": snapshot.state,
        "ended": snapshot.ended,
        "succeeded": snapshot.state == snapshot.state.SUCCEEDED,
        "attempt": snapshot.attempts,
        "delayed": snapshot.delayed,
        "progress": report and {**report._asdict(), "percent": report.percent},
    }


async def stream(task_id: int, snapshot: Snapshot | None) -> AsyncIterator[str]:
    """The text of an event stream: an event for each change, and a comment now and then.

    When the client is gone, Django closes this generator, and nothing of it is left.

    Args:
        snapshot: where the task stands now.
    """
    yield f"retry: {RETRY}\n\n{_event('change', snapshot)}"
    if snapshot is not None and not snapshot.ended:
        await _give_up_thread()
        until = elapsed() + LONGEST
        with watching(task_id, snapshot) as watcher:
            while _goes_on(snapshot):
                if await watcher.change(KEEP_ALIVE):
                    if watcher.stopping:
                        return
                    snapshot = watcher.latest
                    yield _event("change", snapshot)
                elif elapsed() > until:
                    return
                else:
                    yield ": nothing new\n\n"
    yield _event("end", snapshot)


def _goes_on(snapshot: Snapshot | None) -> bool:
    return snapshot is not None and not snapshot.ended


def _event(name: str, snapshot: Snapshot | None) -> str:
    id_ = f"id: {LAST}\n" if name == "end" else ""
    return f"event: {name}\n{id_}data: {json.dumps(as_json(snapshot))}\n\n"


async def _give_up_thread() -> None:
    """Close the database connection of this request, and end its thread.

    Django gives each request a thread and keeps both until its answer is complete: a thousand
    streams would hold a thousand connections.
    """
    await sync_to_async(_close_connections)()
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor is not None:  # Django makes another when it needs one again
        executor.shutdown(wait=False)


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # in a test it may be that of the test
            connection.close()
