"""Programs that coroutines start with asyncio: those of a run that is cancelled end with it.

A thread cannot be cancelled. Its process is ended instead, and with that all that it has started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakSet

from bgtasks.exceptions import TaskTimeout

_started: ContextVar[WeakSet[asyncio.SubprocessTransport] | None] = ContextVar(
    "_started", default=None
)
_watched: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


@contextmanager
def killed_if_cancelled() -> Iterator[None]:
    """Kill the programs that were started within this context, if it is left by a cancellation."""
    _watch(asyncio.get_running_loop())
    started: WeakSet[asyncio.SubprocessTransport] = WeakSet()  # asyncio keeps those that run
    _started.set(started)
    try:
        yield
    except (asyncio.CancelledError, TaskTimeout):
        for program in list(started):
            program.close()  # which kills it, if it has not ended
        raise


def _watch(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop remember what each coroutine starts in it."""
    if loop in _watched:
        return
    _watched.add(loop)
    for name in ("subprocess_exec", "subprocess_shell"):
        with suppress(AttributeError):  # a loop that is written in C has no attributes to set
            setattr(loop, name, partial(_remembering, getattr(loop, name)))


async def _remembering(start: Callable[..., Any], *args: Any, **options: Any) -> Any:
    transport, protocol = await start(*args, **options)
    started = _started.get()
    # One with a session of its own is to live on, as with a task in a thread.
    if started is not None and not options.get("start_new_session"):
        started.add(transport)
    return transport, protocol
