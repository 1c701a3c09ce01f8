"""What can be done to many tasks at once: each action, what it acts on, and what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from bgtasks.exceptions import InvalidOption
from bgtasks.operations import matching, task_list
from bgtasks.operations.states import ENDED, State
from bgtasks.queue import acting, retrying
from bgtasks.tasks.columns import as_priority, check_text

WAITS = frozenset({State.WAITING, State.SCHEDULED, State.RETRYING})
# Why a task in a state is not acted on.
REASONS = {
    State.WAITING: "it is due, and waits for a worker",
    State.SCHEDULED: "it is not due yet",
    State.RETRYING: "it waits for its next attempt",
    State.RUNNING: "a worker has it",
    State.SUCCEEDED: "it has succeeded",
    State.FAILED: "it has failed",
    State.CANCELLED: "it was cancelled",
}


@contextmanager
def _refused_in_words() -> Iterator[None]:
    """What the queue refuses is an error of the form."""
    try:
        yield
    except InvalidOption as error:
        raise ValidationError(str(error)) from None


class Options(forms.Form):
    """What an action asks for: nothing."""


class PriorityOptions(Options):
    priority = forms.IntegerField(label="The new priority")

    def clean_priority(self) -> int:
        with _refused_in_words():
            return as_priority("The new priority", self.cleaned_data["priority"])


class QueueOptions(Options):
    queue = forms.CharField(
        label="The new queue", required=False, help_text="Leave it empty for no queue."
    )

    def clean_queue(self) -> str:
        queue: str = self.cleaned_data["queue"]
        with _refused_in_words():
            check_text(queue or None, "a task", "queue")
        return queue


@dataclass
class Done:
    """What came of an action.

    Attributes:
        ids: of the tasks that it has changed.
        refused: the ids of the others, each with the reason.
    """

    ids: Sequence[int] = ()
    refused: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """An action on many tasks.

    Attributes:
        name: in requests.
        title: of the action, as an order: "Retry".
        past: what was done: "retried".
        states: those of the tasks on which it acts.
        run: does it. It takes the ids, ``by`` and what `options` asks for, and returns the ids of
            the tasks that it has changed.
        options: the form for what it asks for.
        about: what whoever confirms it should know.
        alone: the title where it is about a single task; empty: `title`.
        batch: how many tasks it is run with at a time; None: as many as `acting.batch` says.
    """

    name: str
    title: str
    past: str
    states: frozenset[State]
    run: Callable[..., Any]
    options: type[Options] = Options
    about: str = ""
    alone: str = ""
    batch: int | None = None

    def act(self, ids: Sequence[int], by: str, options: Mapping[str, Any]) -> Done:
        """Do it to those of the tasks that are in a state for it.

        Args:
            ids: of the tasks, which may be in another state by now.
            by: who does it, for the log of actions.
            options: the cleaned data of the form.
        """
        states = task_list.states_of(ids)
        possible = [pk for pk in ids if states.get(pk) in self.states]
        done = set(self.run(possible, by=by, **options))
        # Those that have changed their state just now are named by their new one.
        states |= task_list.states_of(pk for pk in possible if pk not in done)
        return Done(sorted(done), {pk: _reason(states.get(pk)) for pk in ids if pk not in done})


class Retry(Action):
    """An action that says itself why it leaves a task."""

    def act(self, ids: Sequence[int], by: str, options: Mapping[str, Any]) -> Done:
        retried = self.run(ids, by=by)
        return Done(sorted(retried.ids), retried.refused)


def _reason(state: State | None) -> str:
    return REASONS[state] if state else retrying.NO_TASK


_ALL = (
    Retry(
        "retry", "Retry", "retried", matching.RETRIABLE, retrying.retry,
        about="Each gets a new task with the same arguments, to run now, and keeps its outcome.",
    ),
    Action(
        "run_now", "Run now", "made due", frozenset({State.SCHEDULED, State.RETRYING}),
        acting.run_now,
        about="A repeating task keeps its time table.",
    ),
    Action(
        "cancel", "Cancel what waits", "cancelled", WAITS, acting.cancel,
        about="What a worker has by then is left to it.", alone="Cancel", batch=50,
    ),
    Action(
        "cancel_running", "Cancel, also what runs", "cancelled", matching.CANCELLABLE,
        partial(acting.cancel, terminate=True),
        about="A coroutine that runs is cancelled, and a plain function is ended with its process.",
        alone="Cancel", batch=50,
    ),
    Action(
        "priority", "Change the priority", "given another priority", WAITS, acting.set_priority,
        PriorityOptions,
    ),
    Action("move", "Move to another queue", "moved", WAITS, acting.move, QueueOptions),
    Action(
        "delete", "Delete what has ended", "deleted", frozenset(ENDED), acting.delete_ended,
        about="Nothing is kept of them: no outcome, no attempts, no log.", alone="Delete",
    ),
)  # fmt: skip
ACTIONS = {action.name: action for action in _ALL}


def for_one(state: State) -> list[tuple[str, str]]:
    """The names and the titles of what can be done to a single task that is in a state."""
    found: dict[str, str] = {}
    for action in _ALL:
        if state in action.states:
            found.setdefault(action.alone or action.title, action.name)
    return [(name, title) for title, name in found.items()]
