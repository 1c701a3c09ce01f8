"""Workers on several hosts with one PostgreSQL: what is lost between them, and comes back."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.bgtasks.hosts.conftest import Site
from tests.harness.deployment import Deployment
from tests.harness.pgbouncer import pgbouncer
from tests.harness.process import Process
from tests.harness.waiting import eventually

pytestmark = pytest.mark.on_postgresql
MakeSite = Callable[..., Site]
# A silent database is given up after four seconds, the least that there is.
LEASE = 4


def run(site: Site, code: str) -> str:
    """Enqueue from outside of the hosts, past their network."""
    return site.project.run(code, DATABASE_URL=site.server.local_url)


def busy(make_site: MakeSite) -> tuple[Site, list[Process]]:
    """A site whose workers are in the middle of two hundred tasks, and these workers."""
    site = make_site(BGTASKS_LEASE=LEASE)
    workers = [host.worker(site.project, "--processes", "2") for host in site.hosts]
    for worker in workers:
        worker.wait_for("is ready")
    run(site, "[tasks.slow(n, 0.05) for n in range(200)]")
    site.project.wait_for("end", count=20)
    return site, workers


def holder(project: Deployment, key: str) -> str:
    """The host whose worker has the row of the task with this key."""
    [row] = project.rows(where=f"task_params LIKE '%\"{key}\"%' AND locked_by IS NOT NULL")
    name = row["locked_by"].partition(".")[0]
    [worker] = project.rows("bgtasks_worker", f"name = '{name}'")
    return str(worker["host"])


def test_queues_are_pinned_to_hosts(make_site: MakeSite) -> None:
    site = make_site()
    go = site.project.folder / "go"
    for host in site.hosts:
        host.worker(site.project, "--queue", host.name).wait_for("is ready")
    run(site, f"for queue in ('first', 'second'): tasks.until(queue, {str(go)!r}, queue=queue)")
    site.project.wait_for("begin", count=2)
    assert [holder(site.project, name) for name in ("first", "second")] == ["first", "second"]
    go.touch()
    eventually(lambda: len(site.project.completed()) == 2, "both are run")


def test_a_host_that_is_cut_off_loses_its_tasks_and_goes_on_when_it_is_back(
    make_site: MakeSite,
) -> None:
    site = make_site(BGTASKS_LEASE=LEASE)
    project, (first, second) = site.project, site.hosts
    go = project.folder / "go"
    worker = first.worker(project)
    worker.wait_for("is ready")
    run(site, f"tasks.until('cut', {str(go)!r})")
    project.wait_for("begin", "cut")
    first.cut()
    second.worker(project)
    project.wait_for("begin", "cut", count=2)
    go.touch()  # both runs end now, and the first one cannot tell anybody
    eventually(lambda: project.completed(), "the second run is recorded")
    first.join()
    worker.wait_for("starting anew")
    [attempt] = project.attempts()
    assert attempt["state"] == "lost"
    assert "on first" in attempt["error"]
    assert [row["attempts"] for row in project.completed()] == [2]
    # Both take part again.
    other = project.folder / "other"
    run(site, f"[tasks.until(f'k{{n}}', {str(other)!r}) for n in range(20)]")
    hosts = {"first", "second"}

    def both_have_some() -> bool:
        claims = {row["locked_by"].partition(".")[0] for row in project.rows() if row["locked_by"]}
        rows = project.rows("bgtasks_worker")
        return {row["host"] for row in rows if row["name"] in claims} == hosts

    eventually(both_have_some, "both hosts run tasks")
    other.touch()
    eventually(lambda: len(project.completed()) == 21, "all are run")
    assert len(project.attempts()) == 1


def test_a_host_that_is_cut_off_for_a_moment_loses_nothing(make_site: MakeSite) -> None:
    site = make_site(BGTASKS_LEASE=30)
    project, (first, second) = site.project, site.hosts
    go = project.folder / "go"
    worker = first.worker(project, "--processes", "2")
    worker.wait_for("is ready")
    second.worker(project, "--queue", "none").wait_for("is ready")
    run(site, f"tasks.until('held', {str(go)!r})")
    project.wait_for("begin", "held")
    first.cut()
    go.touch()
    run(site, "[tasks.work(n) for n in range(20)]")
    project.wait_for("end", "held")
    first.join()
    eventually(lambda: len(project.completed()) == 21, "all are run")
    assert project.attempts() == []
    assert len(project.ledger("work")) == 20
    assert "declared dead" not in worker.output


def test_a_database_that_answers_nothing_holds_nobody_up_for_ever(make_site: MakeSite) -> None:
    site, workers = busy(make_site)
    project = site.project
    site.server.freeze()
    for worker in workers:
        worker.wait_for("has not answered for")
    site.server.thaw()
    eventually(lambda: len(project.completed()) == 200, "all are run")
    _every_run_is_explained(project, 200)
    for worker in workers:
        assert worker.stop() == 0


def test_workers_can_be_stopped_while_the_database_answers_nothing(make_site: MakeSite) -> None:
    site = make_site(BGTASKS_LEASE=LEASE, BGTASKS_GRACE=1)
    worker = site.hosts[0].worker(site.project)
    worker.wait_for("is ready")
    site.server.freeze()
    worker.wait_for("No heartbeat: the database does not answer")
    worker.stop()


@pytest.mark.parametrize("how", ["SIGINT", "SIGQUIT"])
def test_a_restart_of_the_database_loses_nothing(make_site: MakeSite, how: str) -> None:
    site, _ = busy(make_site)
    project = site.project
    site.server.stop(signal.Signals[how])
    site.server.start()
    eventually(lambda: len(project.completed()) == 200, "all are run")
    _every_run_is_explained(project, 200)


def _every_run_is_explained(project: Deployment, tasks: int) -> None:
    begins = len(project.ledger("begin"))
    assert tasks <= begins <= tasks + len(project.attempts())
    assert len(project.rows("bgtasks_outcome", "state = 'succeeded'")) == tasks


def test_tasks_of_a_worker_whose_pooler_is_frozen_run_elsewhere(
    deploy: Callable[..., Deployment],
) -> None:
    project = deploy(BGTASKS_LEASE=LEASE)
    go = project.folder / "go"
    with pgbouncer(project.database.url) as bouncer:
        folder = project.folder / "elsewhere"
        folder.mkdir()
        pooled = {"DATABASE_URL": bouncer.through(project.database.url), "TMPDIR": str(folder)}
        worker = project.worker(**pooled)
        worker.wait_for("is ready")
        project.run(f"tasks.until('frozen', {str(go)!r})")
        project.wait_for("begin", "frozen")
        bouncer.freeze()
        project.worker()
        project.wait_for("begin", "frozen", count=2)
        worker.wait_for("has not answered for")
        go.touch()
        eventually(lambda: project.completed(), "the second run is recorded")
        bouncer.thaw()
        worker.wait_for("starting anew")
        assert [row["attempts"] for row in project.completed()] == [2]
        assert worker.stop() == 0
