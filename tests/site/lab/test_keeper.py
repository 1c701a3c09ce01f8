"""How a run ends: what the others saw, and what went wrong."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from bgtasks.models import Outcome
from lab.models import Run, Stage
from lab.stage import others as others_module
from lab.stage.keeper import Keeper, Stopped
from lab.stage.others import Others, Seen
from lab.stage.processes import Processes
from tests.site.lab.helpers import set_up

pytestmark = pytest.mark.django_db(transaction=True)


def started(seconds_ago: float = 5.0, **given: Any) -> Run:
    """A run that began a while ago, and has been answered soon after."""
    began = timezone.now() - timedelta(seconds=seconds_ago)
    defaults = {"pattern": "mail", "way": "view", "server": "WSGI", "visit": "v"}
    return Run.objects.create(
        **(defaults | given), started_at=began, answered_at=began + timedelta(seconds=0.1)
    )


def finished(number: int, state: str) -> None:
    Outcome.objects.create(
        task_id=number,
        completed_id=number,
        state=state,
        attempts=1,
        finished_at=timezone.now() - timedelta(seconds=3),
    )


def nobody() -> Others:
    """The others, who ask nobody."""
    return Others({"ASGI": "http://127.0.0.1:1", "WSGI": "http://127.0.0.1:1"}, "/lab/light/", {})


def served(run: Run) -> Others:
    """The others, of whom one was served during the run."""
    others = nobody()
    others.seen.append(Seen(run.started_at.timestamp() + 0.5, 7.0, run.server))
    return others


def follow(run: Run, others: Others | None = None) -> Run:
    async_to_sync(Keeper(set_up())._follow)(run, others or served(run))
    run.refresh_from_db()
    return run


def test_a_run_ends_when_its_answer_and_all_that_asked_are_there() -> None:
    others, run = nobody(), started()
    run.done_at = run.answered_at
    at = run.started_at.timestamp()
    others.seen.extend([Seen(at - 1, 3.0, "WSGI"), Seen(at + 0.5, 7.0, "WSGI")])
    follow(run, others)
    assert (run.active, run.problem) == (None, "")
    assert (run.others["IDLE_P50"], run.others["OTHERS_P50"]) == (3.0, 7.0)


def test_a_run_goes_on_until_its_tasks_have_ended() -> None:
    run = started(tasks=[1, 2])
    finished(1, "succeeded")
    assert follow(run).active


def test_tasks_that_succeeded_are_no_problem() -> None:
    run = started(tasks=[1, 2])
    finished(1, "succeeded")
    finished(2, "succeeded")
    assert (follow(run).active, run.problem) == (None, "")


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_task_that_failed_has_not_done_its_work(state: str) -> None:
    run = started(tasks=[1, 2])
    finished(1, "succeeded")
    finished(2, state)
    assert follow(run).problem == "1 of 2 tasks did not succeed."


def test_others_without_an_answer_are_a_problem() -> None:
    run = started()
    others = served(run)
    run.done_at = run.answered_at
    others.failed.append(Seen(run.started_at.timestamp() + 0.5, 1.0, "WSGI"))
    assert follow(run, others).problem == "1 of the others got no answer, or an error."


def test_a_run_of_which_the_others_saw_nothing_is_a_problem() -> None:
    run = started()
    run.done_at = run.answered_at
    assert follow(run, nobody()).problem.startswith("None of the others got an answer:")


def test_before_a_run_nobody_asks_again_who_has_no_answer_yet() -> None:
    async def in_a_loop() -> None:
        others = nobody()
        for _ in range(3):
            Keeper._ask_before_a_run(others, itertools.repeat("ASGI"))
        assert len(others._waiting) == others_module.AT_A_TIME
        others.close()

    async_to_sync(in_a_loop)()


def test_a_run_waits_for_those_who_have_no_answer_yet() -> None:
    others, run = nobody(), started()
    run.done_at = run.answered_at
    waiting: Any = object()
    others._waiting[waiting] = others_module.Asked(run.started_at.timestamp() + 0.5, "WSGI")
    assert follow(run, others).active


def test_companions_who_are_refused_are_a_problem() -> None:
    keeper = Keeper(set_up())

    async def in_a_loop(run: Run) -> None:
        others = served(run)
        await keeper._follow(run, others)
        assert keeper._companions
        await asyncio.wait({keeper._companions})
        await keeper._follow(run, others)

    run = started(pattern="api", way="sync")
    run.done_at = run.answered_at
    async_to_sync(in_a_loop)(run)
    run.refresh_from_db()
    assert run.problem.startswith("The companions got no answer:")


def test_who_cannot_ask_because_too_many_wait_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def in_a_loop() -> None:
        others = nobody()
        others.ask("ASGI")
        assert len(others.failed) == others_module.AT_A_TIME - 5
        others.close()

    monkeypatch.setattr(others_module, "MOST_WAITING", 5)
    async_to_sync(in_a_loop)()


def test_a_lab_that_sets_up_its_servers_is_alive_meanwhile() -> None:
    stage = set_up(seen_at=timezone.now() - timedelta(seconds=9))

    async def start() -> str:
        """Servers that need so long until the row says that the lab is alive."""
        while (await Stage.objects.aget(pk=stage.pk)).seen_at == stage.seen_at:
            await asyncio.sleep(0)
        return "started"

    async def in_a_loop() -> str:
        return await asyncio.wait_for(Keeper(stage).beat_until(start()), 30)

    assert async_to_sync(in_a_loop)() == "started"


@pytest.mark.parametrize("wait", ["for somebody", "for the servers", "for a run"])
def test_a_lab_that_is_to_end_waits_for_nothing(wait: str) -> None:
    keeper = Keeper(set_up(), stopping=lambda: True)

    async def in_a_loop() -> None:
        waits = {
            "for somebody": keeper.wait_for_somebody,
            "for the servers": lambda: keeper.beat_until(asyncio.Event().wait()),
            "for a run": lambda: keeper.keep(nobody(), Processes()),
        }
        with pytest.raises(Stopped):
            await asyncio.wait_for(waits[wait](), 30)

    async_to_sync(in_a_loop)()


def test_the_others_ask_by_the_clock_whatever_the_database_does() -> None:
    async def in_a_loop() -> None:
        enough = asyncio.Event()

        class Counted(Others):
            asked = 0

            def ask(self, server: str) -> None:
                self.asked += 1
                if self.asked == 3:
                    enough.set()

        keeper = Keeper(stage)
        await keeper._look()  # the only time that the database is asked
        others = Counted({"ASGI": "http://127.0.0.1:1"}, "/lab/light/", {})
        clock = asyncio.create_task(keeper._ask_by_the_clock(others))
        await asyncio.wait_for(enough.wait(), 30)
        clock.cancel()

    stage = set_up(watched_until=timezone.now() + timedelta(minutes=1))
    async_to_sync(in_a_loop)()
