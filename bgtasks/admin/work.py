"""An action under way: on a selection, or on all that matches, a step of about a second at a time.

Between two steps the browser has it, as a signed text: no process and no table keeps it, and it
goes on wherever the next request ends up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core import signing

from bgtasks.admin import filtering
from bgtasks.admin.actions import ACTIONS, Action, Done
from bgtasks.clock import elapsed
from bgtasks.operations import matching, task_list
from bgtasks.operations.matching import Count
from bgtasks.queue import acting

# Seconds of work in one request, and the seconds after which a step is not continued.
STEP, AGE = 1.0, 24 * 60 * 60
# How many of those that were left are named.
NAMED = 20


@dataclass
class Work:
    """An action and how far it has come.

    Attributes:
        action: its name.
        about: which tasks it is about, in words.
        query: the filter, as the parameters of the list's address; None: it is a selection.
        ids: those of the selection that are left to do.
        list_query: the parameters of the list where the selection was made.
        back: the id of the task on whose page it was begun; None: it was begun on the list.
        options: what the action asked for; None: nobody has confirmed it yet.
        before: all that matches is done down to this id; None: nothing yet.
        top: the highest id at the beginning.
        done, left: how many tasks were changed, and how many were left as they are.
        reasons: the first of those that were left: the id and the reason of each.
        finished: nothing is left to do.
    """

    action: str
    about: str = ""
    query: str | None = None
    ids: list[int] = field(default_factory=list)
    list_query: str = ""
    back: int | None = None
    options: Mapping[str, Any] | None = None
    before: int | None = None
    top: int = 0
    done: int = 0
    left: int = 0
    reasons: list[Sequence[Any]] = field(default_factory=list)
    finished: bool = False

    @property
    def kind(self) -> Action:
        return ACTIONS[self.action]

    def signed(self, user: Any) -> str:
        """This as a text that `read` takes from the same user."""
        return signing.dumps(asdict(self), salt=_salt(user), compress=True)

    def count(self) -> Count:
        """On how many tasks it would act now."""
        if self.query is None:
            states = task_list.states_of(self.ids).values()
            return Count(sum(state in self.kind.states for state in states), more=False)
        form = filtering.from_query(self.query)
        return (
            matching.count(form.wanted(), self.kind.states) if form.is_valid() else Count(0, False)
        )

    @property
    def share(self) -> float:
        """How far it has come, from 0 to 1."""
        if self.finished:
            return 1.0
        if self.query is None:
            return self.done_and_left / max(1, self.done_and_left + len(self.ids))
        lowest, _ = task_list.bounds()
        before = self.top if self.before is None else self.before
        return min(1.0, max(0.0, (self.top - before) / max(1, self.top - lowest)))

    @property
    def done_and_left(self) -> int:
        return self.done + self.left

    def step(self, by: str) -> None:
        """Go on for about `STEP` seconds.

        Args:
            by: the name of who does it.
        """
        began = elapsed()
        self.top = self.top or task_list.bounds()[1] + 1
        while True:
            if batch := self._next():
                self._add(self.kind.act(batch, by, self.options or {}))
                acting.leave_room()
            if self.finished or elapsed() - began > STEP:
                return

    def _add(self, result: Done) -> None:
        self.done += len(result.ids)
        self.left += len(result.refused)
        room = max(0, NAMED - len(self.reasons))
        self.reasons += list(result.refused.items())[:room]

    def _next(self) -> list[int]:
        if self.query is None:
            size = self.kind.batch or acting.batch()
            batch, self.ids = self.ids[:size], self.ids[size:]
            self.finished = not self.ids
            return batch
        form = filtering.from_query(self.query)
        chosen = matching.narrowed(form.wanted(), self.kind.states) if form.is_valid() else None
        if chosen is None:
            self.finished = True
            return []
        before = self.top if self.before is None else self.before
        batch, self.before = task_list.ids(chosen, before, self.kind.batch or acting.batch())
        self.finished = self.before is None
        return batch


def read(text: str, user: Any) -> Work:
    """The work that `Work.signed` has written for this user.

    Raises:
        django.core.signing.BadSignature: it was not written here for this user, or long ago.
    """
    found = signing.loads(text, salt=_salt(user), max_age=AGE)
    if found.keys() != Work.__dataclass_fields__.keys() or found["action"] not in ACTIONS:
        raise signing.BadSignature("It is of another version of bgtasks.")
    return Work(**found)


def _salt(user: Any) -> str:
    return f"bgtasks.admin.work.{user.pk}"
