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

_started: ContextVar[list[asyncio.SubprocessTransport] | None] = ContextVar(
    "_started", default=None
)
_watched: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


@contextmanager
def killed_if_cancelled() -> Iterator[None]:
    """Kill the programs that were started within this context, if it is left by a cancellation."""
    _watch(asyncio.get_running_loop())
    started: list[asyncio.SubprocessTransport] = []
    _started.set(started)
    try:
        yield
    except (asyncio.CancelledError, TaskTimeout):
        for program in started:
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
    if (started := _started.get()) is not None:
        started.append(transport)
    return transport, protocol
