"""A broker that is away for an hour, by a clock that is turned."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from background_task.models import Task

from bgtasks.engines import published as module
from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.engines.published import LONGEST_RETRY, Published
from bgtasks.models import Attempt, Outcome
from bgtasks.queue import claims, deliveries
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.claims import Claimant
from signup.tasks import discard_files as task

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = 3600.0


class Away(Engine):
    """Refuses messages until it is back."""

    name, start = "a fleet", "the fleet"

    def __init__(self) -> None:
        super().__init__({})
        self.back = False
        self.tries = 0
        self.taken: list[Message] = []

    def publish(self, messages: Sequence[Message]) -> None:
        if not self.back:
            self.tries += 1
            raise Unreachable("nobody answers.")
        self.taken += messages


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_hour_without_a_broker_costs_no_attempt_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "elapsed", clock := Clock())
    rows = {task([str(number)]).pk for number in range(5)}
    relay = Claimant("bg~000000000000", deliveries.RELAY)
    bell: Any = None
    engine = Away()
    sent = Published(engine, relay, bell)

    def turn(number: int) -> None:
        """What a relay does within a second."""
        clock.now += 1.0
        if wanted := sent.wanted(None):
            claimed = claims.claim(relay.claim(number), [task.name], wanted)
            sent.add([ClaimedRow(row, clock.now) for row in claimed])
        sent.record_due()

    with caplog.at_level(logging.INFO):
        for number in range(int(HOUR)):
            turn(number)
        untouched = Task.objects.filter(locked_by=None, failed_at=None, attempts=0)
        assert set(untouched.values_list("pk", flat=True)) == rows
        assert not Attempt.objects.exists()
        assert not Outcome.objects.exists()
        assert engine.tries < 2 * HOUR / LONGEST_RETRY
        [trouble] = sent.troubles()
        assert trouble.seconds >= HOUR - 1
        assert "nobody answers" in trouble.reason
        engine.back = True
        for number in range(int(LONGEST_RETRY) + 1):
            turn(int(HOUR) + number)
    assert {each.row_id for each in engine.taken} == rows
    assert caplog.text.count("are not sent") == 1
    assert caplog.text.count("takes messages again") == 1
    assert not any("are not sent" in trouble.reason for trouble in sent.troubles())
