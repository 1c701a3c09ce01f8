"""What calls come to, told to whoever asks: real workers, and processes that wait for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bgtasks import AsyncResult
from bgtasks.exceptions import UnknownResult
from tests.harness.deployment import Deployment
from tests.harness.process import Process
from tests.harness.waiting import eventually

Deploy = Callable[..., Deployment]


def asked(project: Deployment, code: str) -> Any:
    """What a process of the project prints, as JSON."""
    return json.loads(project.run(f"import json\n{code}").splitlines()[-1])


@pytest.mark.parametrize("task", ["add", "add_later"])
def test_a_result_comes_back_to_who_waits_for_it(project: Deployment, task: str) -> None:
    project.worker()
    assert asked(project, f"print(json.dumps(tasks.{task}.delay(4, 5).get(timeout=30)))") == 9


def test_a_row_is_the_key_to_its_result(project: Deployment) -> None:
    project.run("tasks.add(4, 5)")
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    told = asked(
        project,
        "from bgtasks import AsyncResult\n"
        f"result = AsyncResult({outcome['task_id']})\n"
        "print(json.dumps([result.get(), result.result, result.status, result.ready(),"
        " result.successful(), result.failed(), result.traceback, result.attempts]))",
    )
    assert told == [9, 9, "SUCCESS", True, True, False, None, 1]
    assert outcome["started_at"] is not None


def test_a_result_is_equal_to_its_id_and_has_it_as_its_text() -> None:
    result = AsyncResult(5)
    assert str(result) == f"{result}" == "5"
    assert AsyncResult(str(result)) == result == 5
    assert result != 6
    assert result != "5"  # its hash could not be that of the number too
    assert {result: "kept"}[5] == "kept"
    assert repr(result) == "<AsyncResult: 5>"


def test_before_the_end_a_result_tells_where_it_stands(project: Deployment) -> None:
    task_id = asked(project, "print(tasks.long.delay('a').id)")
    look = (
        "from bgtasks import AsyncResult\n"
        f"result = AsyncResult({task_id})\n"
        "print(json.dumps([result.status, result.ready(), result.result, result.attempts]))"
    )
    assert asked(project, look) == ["PENDING", False, None, 0]
    project.worker()
    project.wait_for("begin")
    assert asked(project, look) == ["STARTED", False, None, 1]


VALUES = [
    "None, 'text', 1, 1.5, True, [1, [2]], {'a': {'b': None}}, 'nul \\x00', '\\ud800'",
    "datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), date.min",
    "datetime(1, 1, 1), time(23, 59, 59, 999999), timedelta(-1, 1, 1)",
    "Decimal('0.10'), UUID(int=7)",
]


@pytest.mark.parametrize("values", VALUES)
def test_arguments_and_results_come_back_as_what_they_were(
    project: Deployment, values: str
) -> None:
    prelude = (
        "from datetime import *\nfrom decimal import Decimal\nfrom uuid import UUID\n"
        "from bgtasks import AsyncResult\n"
    )
    ids = asked(project, f"{prelude}print([tasks.echo.delay([v]).id for v in ({values})])")
    project.drain()
    same = asked(
        project,
        f"{prelude}values = [[v] for v in ({values})]\n"
        f"found = [AsyncResult(i).get() for i in {ids}]\n"
        "print(json.dumps([repr(values), repr(found)]))",
    )
    assert same[0] == same[1]


def test_a_failure_is_raised_as_its_own_class_with_the_workers_traceback(
    project: Deployment,
) -> None:
    project.worker()
    told = asked(
        project,
        "result = tasks.refuse.delay(7)\n"
        "try:\n    result.get(timeout=30)\nexcept tasks.Refused as error:\n"
        "    told = [error.args, str(error.__cause__), result.status, result.failed(),"
        " result.traceback, repr(result.get(propagate=False))]\n"
        "print(json.dumps(told))",
    )
    args, cause, status, failed, traceback, error = told
    assert (args, status, failed) == ([7, "no"], "FAILURE", True)
    assert "in refuse" in cause
    assert "in refuse" in traceback
    assert error == "Refused(7, 'no')"


def test_an_exit_in_a_task_does_not_end_who_asks_for_its_result(project: Deployment) -> None:
    project.run("tasks.leave()")
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    told = project.run(
        "from bgtasks import AsyncResult\nfrom bgtasks.exceptions import TaskFailed\n"
        f"try:\n    AsyncResult({outcome['task_id']}).get()\n"
        "except TaskFailed as error:\n    print('told', error)"
    )
    assert told.startswith("told SystemExit: 3")


def test_a_result_that_is_not_json_fails_the_task_at_once_and_names_its_type(
    project: Deployment,
) -> None:
    project.run("tasks.return_object()\ntasks.return_ignored()")
    project.drain()
    by_name = {row["task_name"].rpartition(".")[2]: row for row in project.completed()}
    assert by_name["return_object"]["failed_at"] is not None
    assert (
        "returned a value of type object, which cannot be kept"
        in by_name["return_object"]["last_error"]
    )
    assert by_name["return_object"]["attempts"] == 1
    assert by_name["return_ignored"]["failed_at"] is None


def test_of_a_task_declared_as_ever_a_result_that_is_not_json_is_dropped(
    project: Deployment,
) -> None:
    project.run("tasks.as_ever()")
    said = project.drain()
    assert [row["failed_at"] for row in project.completed()] == [None]
    assert "It is dropped" in said


def test_a_pruned_and_an_unknown_result_say_so(project: Deployment) -> None:
    task_id = asked(project, "print(tasks.add.delay(1, 2).id)")
    project.drain()
    told = project.run(
        "from bgtasks import AsyncResult\nfrom bgtasks.exceptions import UnknownResult\n"
        f"result = AsyncResult({task_id})\n"
        "print(result.get(), result.forget(), result.forget())\n"
        f"for id in ({task_id}, 10**12):\n"
        "    try:\n        AsyncResult(id).get(timeout=30)\n"
        "    except UnknownResult as error:\n        print(error)"
    )
    assert told.startswith("3 True False\n")
    assert told.count("There is no task") == 2
    assert project.completed() == []


def test_who_waits_for_a_row_that_is_deleted_is_told(project: Deployment) -> None:
    told = project.run(
        "import threading\nfrom background_task.models import Task\n"
        "from django.db import connections\n"
        "from bgtasks.exceptions import UnknownResult\n"
        "result = tasks.add.delay(1, 2)\nwaits = threading.Event()\n"
        "find = result._find\n"
        "def found():\n    state = find()\n    waits.set()\n    return state\n"
        "result._find = found\n"
        "def wait():\n"
        "    try:\n        result.get(timeout=60)\n"
        "    except UnknownResult:\n        print('gone')\n"
        "    finally:\n        connections.close_all()\n"
        "thread = threading.Thread(target=wait)\nthread.start()\nwaits.wait()\n"
        "Task.objects.all().delete()\nthread.join()"
    )
    assert told == "gone\n"


def test_a_wait_ends_in_time(project: Deployment) -> None:
    told = project.run(
        "from bgtasks.exceptions import ResultTimeout\n"
        "try:\n    tasks.add.delay(1, 2).get(timeout=0.05)\n"
        "except TimeoutError as error:\n    print(type(error).__name__, error)"
    )
    assert "ResultTimeout Task" in told
    assert "it is PENDING, and was not tried yet. No worker runs: start" in told


def test_a_wait_in_vain_tells_what_the_task_waits_for(project: Deployment) -> None:
    project.run("tasks.fail(); tasks.until(1, '/nowhere')")
    project.worker()
    project.wait_for("begin", "1")
    eventually(project.attempts, "failed")
    told = project.run(
        "for pk in (1, 2):\n"
        "    try:\n        AsyncResult(pk).get(timeout=0.05)\n"
        "    except TimeoutError as error:\n        print(error)\n"
        "tasks.work(3)\n"
        "try:\n    AsyncResult(3).get(timeout=0.05)\n"
        "except TimeoutError as error:\n    print(error)\n".replace(
            "AsyncResult", "__import__('bgtasks').AsyncResult"
        )
    )
    failed, running, waiting = told.splitlines()
    assert "attempt 1 did not succeed (ValueError" in failed
    assert "a worker has it" in running
    assert "The workers that run are busy" in waiting


def test_to_wait_where_no_worker_runs_is_warned_about(project: Deployment) -> None:
    code = (
        "import django; django.setup()\nfrom tests.bgtasks.project import tasks\n"
        "print(tasks.add.delay(1, 2).get(timeout=60))"
    )
    waiting = Process("-c", code, env=project.environment())
    waiting.wait_for("No worker runs: start `manage.py process_tasks`")
    project.drain()
    assert waiting.wait() == 0
    assert waiting.output.splitlines()[-1] == "3"


@pytest.mark.parametrize("id_", ["abc", None, object()])
def test_what_is_no_id_is_unknown_at_once(id_: Any) -> None:
    with pytest.raises(UnknownResult, match="ids are numbers"):
        AsyncResult(id_)


def test_to_wait_inside_a_transaction_is_refused_unless_it_has_ended(project: Deployment) -> None:
    told = project.run(
        "from django.db import transaction\nfrom bgtasks.exceptions import WouldBlock\n"
        "with transaction.atomic():\n"
        "    try:\n        tasks.add.delay(1, 2).get(timeout=30)\n"
        "    except WouldBlock as error:\n        print(error)"
    )
    assert "inside a transaction" in told
    task_id = asked(project, "print(tasks.add.delay(3, 4).id)")
    project.drain()
    told = project.run(
        "from django.db import transaction\nfrom bgtasks import AsyncResult\n"
        f"with transaction.atomic():\n    print(AsyncResult({task_id}).get())"
    )
    assert told == "7\n"


def test_a_task_that_waits_for_another_with_the_only_worker_is_refused(
    project: Deployment,
) -> None:
    project.run("tasks.add_and_ask(1, 2)")
    worker = project.worker()
    worker.wait_for("WouldBlock")
    worker.stop()
    (attempt,) = project.attempts()
    assert "its worker runs one task at a time, and there is no other" in attempt["error"]


@pytest.mark.parametrize("options", [("--threads", "2"), ("--processes", "2")])
def test_a_task_may_wait_for_another_where_there_is_room(
    project: Deployment, options: tuple[str, str]
) -> None:
    task_id = asked(project, "print(tasks.add_and_ask.delay(1, 2).id)")
    project.worker(*options)
    eventually(lambda: len(project.completed()) == 2, "both ended")
    told = f"from bgtasks import AsyncResult\nprint(AsyncResult({task_id}).get())"
    assert project.run(told) == "3\n"


def test_a_coroutine_may_await_what_a_thread_runs(project: Deployment) -> None:
    project.worker()
    assert asked(project, "print(tasks.add_and_await.delay(1, 2).get(timeout=30))") == 3


def test_many_wait_at_the_same_time(project: Deployment) -> None:
    project.worker()
    told = asked(
        project,
        "from concurrent.futures import ThreadPoolExecutor\nfrom django.db import connections\n"
        "def one(n):\n"
        "    try:\n        return tasks.add.delay(n, n).get(timeout=30)\n"
        "    finally:\n        connections.close_all()\n"
        "with ThreadPoolExecutor(8) as pool:\n    print(list(pool.map(one, range(40))))",
    )
    assert told == [2 * n for n in range(40)]


def test_a_coroutine_of_a_site_awaits_a_result(project: Deployment) -> None:
    project.worker()
    told = asked(
        project,
        "import asyncio\nfrom asgiref.sync import sync_to_async\n"
        "async def main():\n"
        "    results = [await sync_to_async(tasks.add.delay)(n, 1) for n in range(10)]\n"
        "    return await asyncio.gather(*(result.aget(timeout=30) for result in results))\n"
        "print(asyncio.run(main()))",
    )
    assert told == list(range(1, 11))


def test_more_coroutines_wait_for_each_other_than_there_are_threads(project: Deployment) -> None:
    project.worker()
    told = asked(
        project,
        "results = [tasks.nest.delay(2) for _ in range(20)]\n"
        "print([result.get(timeout=60) for result in results])",
    )
    assert told == [2] * 20


def test_who_stops_waiting_leaves_no_thread_that_waits_on(project: Deployment) -> None:
    """A thread of the loop's pool would keep the process from ending."""
    told = project.run(
        "import asyncio\nresult = tasks.add.delay(1, 2)\n"
        "async def main():\n"
        "    try:\n        await asyncio.wait_for(result.aget(), 0.1)\n"
        "    except TimeoutError:\n        print('given up')\n"
        "    try:\n        await result.aget(timeout=0.1)\n"
        "    except TimeoutError as error:\n        print(type(error).__name__)\n"
        "asyncio.run(main())"
    )
    assert told.split("\n") == ["given up", "ResultTimeout", ""]


def test_who_awaits_a_row_that_is_deleted_is_told(project: Deployment) -> None:
    told = project.run(
        "import asyncio\nfrom asgiref.sync import sync_to_async\n"
        "from bgtasks import exceptions, results\nfrom background_task.models import Task\n"
        "results.COROUTINE_POLL = 0.05\nresult = tasks.add.delay(1, 2)\n"
        "async def main():\n"
        "    waiting = asyncio.ensure_future(result.aget(timeout=60))\n"
        "    await sync_to_async(Task.objects.all().delete)()\n"
        "    try:\n        await waiting\n"
        "    except exceptions.UnknownResult:\n        print('told')\n"
        "asyncio.run(main())"
    )
    assert told == "told\n"


def test_a_stop_iteration_is_not_lost_on_its_way(project: Deployment) -> None:
    project.run("tasks.stop_iterating()")
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    told = project.run(
        "import asyncio\nfrom bgtasks import AsyncResult, exceptions\n"
        f"result = AsyncResult({outcome['task_id']})\n"
        "async def main():\n"
        "    try:\n        await result.aget()\n"
        "    except exceptions.TaskFailed as error:\n        print(error)\n"
        "asyncio.run(main())"
    )
    assert told == "StopIteration: 3\n"


def test_an_exception_that_cannot_be_shown_is_still_the_tasks_own(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1, BGTASKS_GRACE=0.1)
    project.run("tasks.raise_unprintable()\ntasks.raise_unprintable()\ntasks.patient_once('go')")
    worker = project.worker()
    project.wait_for("begin")
    eventually(lambda: len(project.completed()) == 2, "both have failed")
    # Were they still marked as running, they would soon be over their limit, and end the child:
    # the supervisor looks before each heartbeat, of which there are three in a second.
    beats: set[Any] = set()

    def four_beats() -> bool:
        beats.update(worker["heartbeat_at"] for worker in project.rows("bgtasks_worker"))
        return len(beats) >= 4

    eventually(four_beats, "the limit is over")
    (project.folder / "go").touch()
    eventually(lambda: len(project.completed()) == 3, "the third")
    assert "too long" not in worker.output
    assert [attempt["state"] for attempt in project.attempts()] == ["failed", "failed"]
    failed = project.rows("bgtasks_outcome", "exception IS NOT NULL")
    told = [json.loads(outcome["exception"]) for outcome in failed]
    assert [each["type"] for each in told] == ["builtins.ValueError"] * 2
    assert ["int object" in each["args"][0] for each in told] == [True, True]


# --- inside a task


def test_a_task_knows_itself(project: Deployment) -> None:
    told = asked(
        project,
        "from django.contrib.auth.models import User\n"
        "user = User.objects.create(username='a')\n"
        "row = tasks.tell_about_myself(creator=user, queue='q')\n"
        "print(json.dumps([row.pk, user.pk]))",
    )
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    assert json.loads(outcome["result"]) == {
        "id": told[0],
        "attempt": 1,
        "queue": "q",
        "name": "tests.bgtasks.project.policied.tell_about_myself",
        "deadline": None,
        "creator": told[1],
    }


def test_a_task_with_a_limit_knows_its_deadline(project: Deployment) -> None:
    project.run("tasks.tell_about_myself.apply_async(timeout=100)")
    project.drain()
    (outcome,) = project.rows("bgtasks_outcome")
    assert json.loads(outcome["result"])["deadline"]["__bgtasks__"] == "datetime"


def test_outside_of_a_task_there_is_none(project: Deployment) -> None:
    told = project.run(
        "from bgtasks import current_task, set_progress\n"
        "set_progress(1, 2)\nprint(current_task(), tasks.add.now(1, 2))"
    )
    assert told == "None 3\n"


def test_progress_is_seen_while_the_task_is_inside_a_transaction(project: Deployment) -> None:
    project.worker()
    task_id = asked(project, "print(tasks.progressing.delay('go').id)")
    (told,) = eventually(lambda: project.rows("bgtasks_progress"), "progress")
    assert (told["task_id"], told["total"]) == (task_id, 20)
    eventually(lambda: project.rows("bgtasks_progress", "message = 'step 10'"), "the latest")
    (project.folder / "go").touch()
    eventually(project.completed, "ended")
    told = asked(
        project,
        f"from bgtasks import AsyncResult\nprogress = AsyncResult({task_id}).progress\n"
        "print(json.dumps([*progress, progress.percent]))",
    )
    assert told == [20, 20, "done", 100], "the last word is kept"


def test_what_is_no_progress_is_refused_in_the_task_and_harms_nobody(project: Deployment) -> None:
    worker = project.worker("--threads", "2")
    task_id = asked(project, "print(tasks.tell_oddly.delay().id)")
    told = asked(
        project,
        f"from bgtasks import AsyncResult\nresult = AsyncResult({task_id})\n"
        "print(json.dumps([result.get(timeout=30), *result.progress]))",
    )
    assert told == [["InvalidProgress"] * 5, 1, 2, "5"]
    assert "ERROR" not in worker.output
    assert project.attempts() == []
