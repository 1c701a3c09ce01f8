"""The rows that a relay has published, until the fleet has taken them over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bgtasks.clock import elapsed
from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.engines.sender import Sender
from bgtasks.logs import get_logger
from bgtasks.models import Task
from bgtasks.queue import claims, deliveries
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.claims import Claimant
from bgtasks.worker.bell import KeeperBell
from bgtasks.worker.trouble import Trouble

logger = get_logger(__name__)

# Seconds between two looks at which rows the fleet has taken over. They double, from the first
# number to the second, as long as it takes none.
LOOK_SOON, LOOK_LATE = 0.05, 1.0
# The seconds after which a row that nobody has taken over is published again double each time, so
# often at most: the fleet may just have much to do, and void messages pile up while it is off.
MOST_DOUBLINGS = 7
# Seconds until the broker is tried again: at first, and at most.
FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0
# Seconds between two searches for rows whose claim had no answer, and after the database was away:
# it may carry out a claim later.
STRAYS, STRAYS_SOON = 60.0, 5.0
# So many times that many seconds pass until operators are told that no rows are taken.
PATIENCE = 2


@dataclass(slots=True)
class Waiting:
    """A message that the fleet has not taken.

    Attributes:
        again_at: when to publish it again, by `elapsed`.
        times: how often it was published again.
    """

    message: Message
    again_at: float
    times: int = 0


class Published:
    """Publishes claimed rows, and follows them until the fleet has them.

    To the keeper of a relay it is all of the parts of `bgtasks.worker.parts`: rows are put in, and
    what is "recorded" is that the fleet has taken them out.

    Args:
        claimant: the relay in whose name the rows are claimed.
        drains: whether the relay ends when nothing waits or runs any more.

    Attributes:
        bell: see `bgtasks.worker.parts.Work`.
        ended: called when the fleet has run all of a drain, for the runs may have enqueued rows.
    """

    plain = coroutines = None  # they are all the same here
    waiting = False  # the fleet decides what starts

    def __init__(
        self, engine: Engine, claimant: Claimant, bell: KeeperBell, drains: bool = False
    ) -> None:
        self._engine = engine
        self._sender = Sender(engine)
        self._claimant = claimant
        self.bell = bell
        self._waiting: dict[int, Waiting] = {}
        self._closed = False
        self._drains = drains
        self._fleet_runs = False
        self.ended: Callable[[], object] = lambda: None
        self._patience = PATIENCE * engine.again_after
        self._look_at, self._look_every = 0.0, LOOK_SOON
        self._retry, self._retry_at = FIRST_RETRY, 0.0
        self._unreachable = ""
        # When the broker was last reached, and when the fleet last took a row: by `elapsed`.
        self._reached_at = self._taken_at = elapsed()
        self._strays_at = elapsed() + STRAYS
        self._is_idle = False  # the fleet runs nothing, although rows wait for it

    @property
    def suspects(self) -> Published:
        return self

    def surplus(self) -> list[ClaimedRow]:
        return []

    @property
    def idle(self) -> bool:
        """Whether the fleet has taken all rows; a relay that ends waits for none."""
        return self._closed or not (self._waiting or self._fleet_runs)

    def wanted(self, lane: Any) -> int:
        if self._closed or elapsed() < self._retry_at:
            return 0
        return max(0, self._engine.ahead - len(self._waiting))

    def close(self) -> None:
        self._closed = True

    def notify(self) -> None:
        """Nobody waits here."""

    def due_in(self) -> float | None:
        """Seconds until there is something to do; None if nothing was published."""
        due = [self._look_at - elapsed()] if self._waiting or self._fleet_runs else []
        if self._unreachable:
            due.append(self._retry_at - elapsed())
        return max(0.0, min(due)) if due else None

    def hand_back(self) -> None:
        """Hand back rows that it holds and does not know: the answer to their claim was lost."""
        now = elapsed()
        if now < self._strays_at:
            return
        self._strays_at = now + STRAYS
        if count := claims.release_unknown(self._claimant.prefix, self._waiting):
            logger.warning("Rows handed back whose claim had no answer: %d.", count)

    def release(self, rows: Sequence[ClaimedRow], delay: timedelta | None = None) -> None:
        claims.release([claimed.row for claimed in rows], delay)

    def database_was_away(self) -> None:
        """Look at once when it is back, and soon after for what a lost claim has taken."""
        self._look_at = 0.0
        self._strays_at = min(self._strays_at, elapsed() + STRAYS_SOON)

    def add(self, rows: Sequence[ClaimedRow]) -> None:
        """Publish rows that were claimed just now; hand them back if the broker takes none."""
        now = elapsed()
        messages = [_message(claimed) for claimed in rows]
        if not self._waiting:
            self._taken_at = now
        self._look_every = LOOK_SOON
        self._look_at = min(self._look_at, now + LOOK_SOON)
        self._waiting |= {
            each.row_id: Waiting(each, now + self._engine.again_after) for each in messages
        }
        if not self._publish(messages):
            self.release(rows)
            for claimed in rows:
                del self._waiting[claimed.pk]

    def record_due(self) -> None:
        """See which rows the fleet has taken over, and publish again what it takes no notice of."""
        now = elapsed()
        if not (self._waiting or self._fleet_runs) or now < self._look_at:
            return
        held, paused = deliveries.held(self._claimant.prefix)
        self._recall(paused)
        self._note_taken(len(self._waiting) - len(held & self._waiting.keys()), now)
        self._waiting = {key: each for key, each in self._waiting.items() if key in held}
        if self._drains:
            self._follow_runs()
        overdue = [each for each in self._waiting.values() if each.again_at <= now]
        if overdue and now >= self._retry_at and self._publish([each.message for each in overdue]):
            for each in overdue:
                each.times = min(each.times + 1, MOST_DOUBLINGS)
                each.again_at = now + self._engine.again_after * 2**each.times
            logger.warning("Sent again, since their rows have not started: %d.", len(overdue))

    def _recall(self, paused: list[Task]) -> None:
        """Hand back rows whose queue was paused after they were published: they would not start."""
        if paused:
            claims.release(paused)
            for row in paused:
                self._waiting.pop(row.pk, None)

    def _follow_runs(self) -> None:
        """With ``--drain``, see whether the fleet still runs rows."""
        ran, self._fleet_runs = self._fleet_runs, deliveries.any_runs()
        if ran and not self._fleet_runs:
            self.ended()

    def _note_taken(self, count: int, now: float) -> None:
        if count:
            self._taken_at, self._look_every = now, LOOK_SOON
        else:
            self._look_every = min(2 * self._look_every, LOOK_LATE)
        self._look_at = now + self._look_every
        quiet = now - self._taken_at > self._patience
        self._is_idle = quiet and not deliveries.any_runs()

    def troubles(self) -> list[Trouble]:
        """What operators must know. This may be called from another thread."""
        name, now = self._engine.name, elapsed()
        found = []
        if self._unreachable:
            found.append(
                Trouble(
                    now - self._reached_at,
                    f"Tasks are not sent to {name}: {self._unreachable}",
                    "They wait in the database. Start the broker, or correct its URL or queues.",
                )
            )
        if self._is_idle and self._waiting:
            found.append(
                Trouble(
                    now - self._taken_at,
                    f"Tasks were sent to {name}, and none of its processes starts them.",
                    f"Start `{self._engine.start}`. If it runs, see that it reads these queues.",
                )
            )
        return found

    def _publish(self, messages: Sequence[Message]) -> bool:
        if not messages:
            return True
        try:
            self._sender.publish(messages)
        except Unreachable as error:
            if not self._unreachable:
                logger.warning(
                    "Tasks are not sent to %s: %s They wait in the database.",
                    self._engine.name,
                    error,
                )
            self._unreachable = str(error)
            self._retry_at = elapsed() + self._retry
            self._retry = min(2 * self._retry, LONGEST_RETRY)
            return False
        if self._unreachable:
            logger.info("The broker of %s takes messages again.", self._engine.name)
        self._unreachable, self._retry, self._reached_at = "", FIRST_RETRY, elapsed()
        return True


def _message(claimed: ClaimedRow) -> Message:
    return Message(claimed.pk, str(claimed.row.locked_by), claimed.row.queue)
