"""Watches for runs, lets the others ask meanwhile, and writes down what they saw."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import Max, QuerySet
from django.utils import timezone

from bgtasks.models import Outcome
from lab import catalogue
from lab.access import Ticket
from lab.models import STAGE_IS_LOST, Run, Stage
from lab.running import give_up_overdue
from lab.stage import record
from lab.stage.others import EVERY, Others
from lab.stage.processes import Processes

LOOK_EVERY, IDLE_EVERY, BEAT_EVERY = 0.05, 0.25, 1.0  # seconds
# Seconds after which the servers of the lab end, if nobody looks at it any more.
REST = 600.0
NOBODY_ANSWERED = (
    "None of the others got an answer: this machine is too busy for a measurement. End what else "
    "it does, and press the button again."
)
# What a stage says of where its servers are.
ADDRESSES = ("wsgi_url", "api_url", "smtp_port", "folder")

T = TypeVar("T")


class Replaced(Exception):
    """Another lab has taken this one's place."""


class Stopped(Exception):
    """The lab was asked to end."""


class Looked(NamedTuple):
    """What the database says now: whether somebody watches, and which run goes on."""

    watched: bool
    run: Run | None


class Keeper:
    """Keeps the row of a stage, and ends its runs.

    It asks whether to end, and is not cancelled: a coroutine that waits for the database may never
    hear of it, for asgiref drops a cancellation while its thread is at work.

    Args:
        stage: its row. It must have the addresses of the servers when runs come.
        stopping: returns whether to end.
    """

    def __init__(self, stage: Stage, stopping: Callable[[], bool] = lambda: False) -> None:
        self.stage = stage
        self._stopping = stopping
        self._beat_at = 0.0
        self._looked = Looked(watched=False, run=None)
        self._current: Run | None = None
        self._companions: asyncio.Task[list[float]] | None = None

    async def wait_for_somebody(self) -> None:
        """Return when somebody looks at the page.

        Raises:
            Stopped: the lab is to end.
            Replaced: another lab has started.
        """
        while not (await self._look()).watched:
            await self._beat()
            await asyncio.sleep(IDLE_EVERY)

    async def beat_until(self, work: Awaitable[T]) -> T:
        """Await something that may take a while, as the lab that lives meanwhile.

        Raises:
            Stopped: the lab is to end.
            Replaced: another lab has started.
        """
        task = asyncio.ensure_future(work)
        while not task.done():
            await self._beat()
            await asyncio.wait({task}, timeout=IDLE_EVERY)
        return task.result()

    async def keep(self, others: Others, processes: Processes) -> None:
        """Go on until nobody looks any more.

        Raises:
            Stopped: the lab is to end.
            Replaced: another lab has started.
            Ended: a process of the lab has ended.
        """
        clock = asyncio.create_task(self._ask_by_the_clock(others))
        try:
            await self._keep(others, processes)
        finally:
            clock.cancel()

    async def _keep(self, others: Others, processes: Processes) -> None:
        watched_at = time.time()
        while time.time() < watched_at + REST:
            processes.check()
            await self._beat(others)
            looked = await self._look()
            if looked.watched or looked.run:
                watched_at = time.time()
            if looked.run:
                await self._follow(looked.run, others)
            await asyncio.sleep(LOOK_EVERY if looked.watched else IDLE_EVERY)

    async def _ask_by_the_clock(self, others: Others) -> None:
        """Let the others ask at fixed moments, whatever the database or the servers do."""
        turns = itertools.cycle(others.servers)
        due = time.monotonic()
        while True:
            due += EVERY
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if run := self._looked.run:
                others.ask(run.server)
            elif self._looked.watched:
                self._ask_before_a_run(others, turns)

    @staticmethod
    def _ask_before_a_run(others: Others, turns: Iterator[str]) -> None:
        """Let the others ask each server in turn: nobody knows on which one the run will be.

        If the machine is too slow to have answered them although it has nothing else to do, they
        wait, for it would never have time for a run.
        """
        if others.all_answered():
            others.ask(next(turns))

    async def _beat(self, others: Others | None = None) -> None:
        """Say that the lab lives, and what the others have just seen."""
        if self._stopping():
            raise Stopped
        now = time.time()
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_EVERY
        recent = record.bursts(others.seen, now, record.RECENT) if others else []
        await self._write(recent=recent)
        await sync_to_async(give_up_overdue)()

    async def publish(self) -> None:
        """Tell the web servers where the servers of the lab are, or that they have ended.

        Raises:
            Replaced: another lab has started.
        """
        await self._write(**{name: getattr(self.stage, name) for name in ADDRESSES})

    async def _write(self, **values: Any) -> None:
        mine = Stage.objects.filter(pk=self.stage.pk, owner=self.stage.owner)
        if not await mine.aupdate(seen_at=timezone.now(), **values):
            raise Replaced(
                "Another lab has started on this database: this one had not been heard of for "
                f"{STAGE_IS_LOST:.0f} s."
            )

    async def _look(self) -> Looked:
        watched = Stage.objects.filter(pk=self.stage.pk, watched_until__gt=timezone.now())
        run = await Run.objects.filter(active=True).afirst()
        self._looked = Looked(await watched.aexists(), run)
        return self._looked

    async def _follow(self, run: Run, others: Others) -> None:
        if self._current is None or self._current.pk != run.pk:
            self._current = run
            self._companions = self._start_companions(run, others)
        done = run.done_at or await sync_to_async(_ended_at)(run)
        if done and run.answered_at and self._all_answered(run, done, others):
            await self._end(run, done, others)

    def _start_companions(self, run: Run, others: Others) -> asyncio.Task[list[float]] | None:
        many = catalogue.find(run.pattern).companions
        if not many:
            return None
        path = catalogue.address(run.pattern, run.way)
        ticket = Ticket("", self.stage.site_url).signed()
        return asyncio.create_task(others.post(run.server, path, ticket, many))

    def _all_answered(self, run: Run, done: datetime, others: Others) -> bool:
        """Whether everybody has an answer who asked during the run."""
        if self._companions and not self._companions.done():
            return False
        end = record.end_of(run.started_at.timestamp(), done.timestamp())
        return time.time() > end + EVERY and others.answered_until(end, run.server)

    async def _end(self, run: Run, done: datetime, others: Others) -> None:
        samples = record.of_run(
            others.seen,
            others.failed,
            run.server,
            run.started_at.timestamp(),
            done.timestamp(),
        )
        problems = []
        if not samples["during"]:
            problems.append(NOBODY_ANSWERED)
        if samples["failed"]:
            problems.append(f"{samples['failed']} of the others got no answer, or an error.")
        if failed := await _outcomes(run).exclude(state=Outcome.State.SUCCEEDED).acount():
            problems.append(f"{failed} of {len(run.tasks)} tasks did not succeed.")
        if self._companions:
            if error := self._companions.exception():
                problems.append(f"The companions got no answer: {error}")
            else:
                samples["companions"] = sorted(self._companions.result())
        await Run.objects.filter(pk=run.pk, active=True).aupdate(
            active=None,
            done_at=done,
            samples=samples,
            others=record.summary(samples),
            problem=" ".join(problems),
        )


def _outcomes(run: Run) -> QuerySet[Outcome]:
    return Outcome.objects.filter(task_id__in=run.tasks)


def _ended_at(run: Run) -> datetime | None:
    """When the last of the run's tasks ended; None if some have not."""
    if not run.tasks:
        return None
    ended = _outcomes(run)
    if ended.count() < len(run.tasks):
        return None
    latest: datetime | None = ended.aggregate(latest=Max("finished_at"))["latest"]
    return latest
