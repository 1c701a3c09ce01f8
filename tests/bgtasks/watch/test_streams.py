"""Event streams of real web servers, of tasks that real workers run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bgtasks.watch.helpers import Watched, Web
from tests.harness import needs
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually


def test_a_stream_tells_each_change_and_then_the_end(project: Deployment) -> None:
    task = Watched(project, "progressing('a'")
    web = Web(project)
    with web.stream(task) as events:
        assert next(events)[1]["state"] == "waiting"
        project.worker()
        # An earlier step may be seen before it.
        reported = {"done": 10, "total": 20, "message": "step 10", "percent": 50}
        halfway = next(told for _, told in events if told["progress"] == reported)
        assert halfway["state"] == "running"
        (project.folder / "a").touch()
        rest = list(events)
    assert rest[-1] == ("end", rest[-2][1])
    assert (rest[-1][1]["state"], rest[-1][1]["succeeded"]) == ("succeeded", True)


def test_a_failure_is_told_without_its_traceback(project: Deployment) -> None:
    task = Watched(project, "fail_often('secret'")
    web = Web(project)
    with web.stream(task) as events:
        project.worker()
        told = list(events)
    assert told[-1][1]["state"] == "failed"
    assert "secret" not in str(told)
    assert "secret" not in web.get(task).text


def test_all_streams_of_all_processes_end(project: Deployment) -> None:
    task = Watched(project, "work('a'")
    one, two = Web(project), Web(project)
    with one.stream(task) as first, one.stream(task) as second, two.stream(task) as third:
        streams = (first, second, third)
        assert [next(events)[1]["state"] for events in streams] == ["waiting"] * 3
        project.drain()
        assert [list(events)[-1][0] for events in streams] == ["end"] * 3


def test_an_idle_stream_is_kept_alive(project: Deployment) -> None:
    task = Watched(project, "work('a'")
    with Web(project).stream(task) as events:
        next(events)
        assert events.comment()


def test_when_the_clients_are_gone_nothing_is_left(project: Deployment) -> None:
    if not Path("/proc/self/fd").exists():
        needs.missing("/proc, to see which files a process has open")
    task = Watched(project, "work('a'")
    web = Web(project)

    def come_and_go() -> int:
        """Five clients read a stream each; returns how many files are open when they are gone."""
        with ExitStack() as clients:
            streams = [clients.enter_context(web.stream(task)) for _ in range(5)]
            assert [next(events)[0] for events in streams] == ["change"] * 5
            during = web.descriptors()
        eventually(lambda: web.descriptors() <= during - 5, "the end of five connections")
        return web.descriptors()

    first = come_and_go()
    second = come_and_go()
    eventually(lambda: web.descriptors() <= first, f"no more than {first} open files, not {second}")
    assert "Traceback" not in web.process.output


def test_a_killed_worker_is_told_and_so_is_the_next_run(project: Deployment) -> None:
    task = Watched(project, f"until('a', {str(project.folder / 'free')!r}")
    with Web(project).stream(task) as events:
        worker = project.worker()
        assert not events.until("running")["delayed"]
        worker.stop(signal.SIGKILL)
        project.worker()
        again = next(told for _, told in events if told["attempt"] == 2)
        assert again["state"] == "running"
        (project.folder / "free").touch()
        assert list(events)[-1][1]["succeeded"]


def test_a_killed_worker_that_none_replaces_is_told_as_a_delay(
    deploy: Callable[..., Deployment],
) -> None:
    project = deploy(BGTASKS_LEASE=2)
    task = Watched(project, f"until('a', {str(project.folder / 'free')!r}")
    with Web(project).stream(task) as events:
        worker = project.worker()
        events.until("running")
        worker.stop(signal.SIGKILL)
        late = next(told for _, told in events if told["delayed"])
        assert late["state"] == "running"
        (project.folder / "free").touch()
        project.worker()
        assert list(events)[-1][1]["succeeded"]


def test_a_server_that_stops_ends_its_streams(project: Deployment) -> None:
    task = Watched(project, "work('a'")
    web = Web(project)
    with web.stream(task) as events:
        next(events)
        web.process.stop()
        assert [name for name, _ in events] == []  # it is no end: the browser comes again


def test_a_browser_that_comes_back_after_the_end_is_sent_away(project: Deployment) -> None:
    task = Watched(project, "work('a'")
    project.drain()
    web = Web(project)
    with web.stream(task) as events:
        assert [name for name, _ in events] == ["change", "end"]
    again = web.get(task, Accept="text/event-stream", **{"Last-Event-ID": "end"})
    assert (again.status_code, again.text) == (204, "")


@pytest.mark.parametrize("cookies", [{}, {"sessionid": "forged"}])
def test_a_stranger_gets_no_stream(project: Deployment, cookies: dict[str, str]) -> None:
    task = Watched(project, "work('a'")
    task.cookies = cookies
    assert Web(project).get(task, Accept="text/event-stream").status_code == 404
