"""What of django-background-tasks bgtasks replaces: one table, and the reasons.

Upstream's classes stay, for projects import and subclass them; the methods named below are
replaced on them. Only its pages in the admin are replaced elsewhere, by the table of
`bgtasks.admin.stock`: they can be imported only in a project that has installed the admin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from background_task import models, settings, signals
from background_task import tasks as upstream
from django.conf import settings as project

from bgtasks import calls, conf
from bgtasks.patches import models as ours
from bgtasks.patches import runner
from bgtasks.patches.creators import Creator, CreatorContentType
from bgtasks.queue import creators, saving
from bgtasks.tasks import columns, decorator, registry


@dataclass(frozen=True)
class Patch:
    """One name that bgtasks replaces.

    Attributes:
        owner: the class, module or instance of upstream that has the name.
        name: the name of the attribute.
        value: what replaces it.
        why: what upstream's own does wrong, or cannot do.
    """

    owner: Any
    name: str
    value: Any
    why: str

    def install(self) -> None:
        setattr(self.owner, self.name, self.value)


def _max_attempts(self: Any) -> int:
    return conf.max_attempts()


def _max_run_time(self: Any) -> float:
    return float(getattr(project, "BACKGROUND_TASK_MAX_RUN_TIME", self.MAX_RUN_TIME))


def _call(proxy: Any, *args: Any, **kwargs: Any) -> Any:
    return calls.call(proxy, args, kwargs)


def _create(cls: type, schedule: Any) -> Any:
    return columns.as_schedule(schedule)


AppSettings, TaskManager = settings.AppSettings, models.TaskManager
Task, CompletedTask = models.Task, models.CompletedTask
Runner, Proxy = upstream.DBTaskRunner, upstream.TaskProxy

TABLE = [
    Patch(AppSettings, "BACKGROUND_TASK_MAX_ATTEMPTS", property(_max_attempts),
          "the setting is read under its prefixed name too"),
    Patch(AppSettings, "BACKGROUND_TASK_MAX_RUN_TIME", property(_max_run_time),
          "the setting is read under its prefixed name too"),
    Patch(TaskManager, "unlocked", ours.unlocked,
          "a lock lasts as long as MAX_RUN_TIME says now, not when the process started"),
    Patch(TaskManager, "locked", ours.locked,
          "a lock lasts as long as MAX_RUN_TIME says now, not when the process started"),
    Patch(TaskManager, "find_available", ours.find_available,
          "it made a list of every row to take a few; SQL leaves out failed rows, other queues"),
    Patch(TaskManager, "new_task", ours.new_task,
          "arguments are checked for JSON, and rows to be replaced are looked for in one queue"),
    Patch(TaskManager, "get_task", ours.get_task,
          "the hash of a call is that of the arguments as our rows keep them"),
    Patch(Task, "lock", ours.lock,
          "a stale instance locked a row that another worker held"),
    Patch(Task, "from_db", classmethod(ours.from_db),
          "an instance remembers what the database had, for save"),
    Patch(Task, "save", saving.save,
          "a stale instance overwrote the lock of a running row, or brought a finished one back"),
    Patch(Task, "params", ours.params,
          "dates, Decimals and UUIDs come back as what they were"),
    Patch(Task, "has_reached_max_attempts", ours.has_reached_max_attempts,
          "a task may have a max_attempts of its own"),
    Patch(Task, "increment_attempts", ours.increment_attempts,
          "two processes that counted at once lost one attempt"),
    Patch(Task, "reschedule", ours.reschedule,
          "a failure is recorded in one transaction, fenced by the claim"),
    Patch(Task, "create_repetition", ours.create_repetition,
          "the next run keeps its phase, its creator and its unique key"),
    *(
        Patch(model, "creator_content_type",
              CreatorContentType(model._meta.get_field("creator_content_type")),
              "it looks for the content type in the row's own database")
        for model in (Task, CompletedTask)
    ),
    Patch(Task, "creator", Creator(Task.creator),
          "a creator may have a primary key that is no integer"),
    Patch(Task, "locked_by_pid_running", ours.holder_is_running,
          "a pid says nothing about another host"),
    Patch(CompletedTask, "creator", Creator(CompletedTask.creator),
          "a creator may have a primary key that is no integer"),
    Patch(CompletedTask, "locked_by_pid_running", ours.holder_is_running,
          "a pid says nothing about another host"),
    Patch(models.TaskQuerySet, "created_by", creators.created_by,
          "a creator may have a primary key that is no integer"),
    Patch(models.CompletedTaskQuerySet, "created_by", creators.created_by,
          "a creator may have a primary key that is no integer"),
    Patch(Runner, "__init__", runner.init_runner,
          "the worker's name is made when it is asked for, so that a fork gets its own"),
    Patch(Runner, "worker_name", property(runner.worker_name, runner.set_worker_name),
          "a pid is not unique among hosts"),
    Patch(Runner, "schedule", calls.schedule_row,
          "checking for a row that waits, and inserting one, were not one transaction"),
    Patch(Runner, "get_task_to_run", runner.get_task_to_run,
          "it read the whole queue, and two workers took the same row"),
    Patch(Proxy, "__call__", _call, "policies, unique keys, and checks of the arguments"),
    Patch(Proxy, "delay", calls.delay, "an addition: enqueues and returns the result"),
    Patch(Proxy, "apply_async", calls.apply_async, "an addition: enqueues with options"),
    Patch(Proxy, "adelay", calls.adelay, "an addition: `delay` in a coroutine"),
    Patch(Proxy, "aapply_async", calls.aapply_async, "an addition: the same with options"),
    Patch(Proxy, "map", calls.call_each, "an addition: many calls in a few statements"),
    Patch(upstream.TaskSchedule, "create", classmethod(_create),
          "a delay of 0 counted as none, and fractions were refused"),
    Patch(upstream.Tasks, "background", decorator.declare_as_ever,
          "tasks declared by upstream's decorator have policies too"),
    Patch(upstream.Tasks, "run_task", runner.run_task,
          "it looked the row of a call up by a hash without its queue"),
    Patch(upstream, "autodiscover", registry.autodiscover,
          "it hid every ImportError of a tasks.py"),
    Patch(upstream, "bg_runner", runner.run_in_process,
          "it recorded a run in steps, unfenced; a kill between them ran the task again"),
    Patch(upstream.tasks, "_bg_runner", runner.run_in_process,
          "upstream's registry keeps its own reference to bg_runner"),
]  # fmt: skip

_installed = False


def install() -> None:
    """Replace all that the table lists, when the first task is declared or our models are loaded.

    This also disconnects two receivers of upstream. A second call does nothing.
    """
    global _installed
    if _installed:
        return
    _installed = True
    for patch in TABLE:
        patch.install()
    # With BACKGROUND_TASK_RUN_ASYNC these receivers clear the connections' logs of queries before
    # each task, and close connections before and after it, by a CONN_MAX_AGE that is meant for
    # requests. `bgtasks.running.isolation` does what is needed.
    for signal in (signals.task_started, signals.task_finished):
        for receiver in (signals.reset_queries, signals.close_old_connections):
            signal.disconnect(receiver)
    # Upstream's registry may have been used before this ran.
    for proxy in upstream.tasks._tasks.values():
        decorator.adopt(proxy)
