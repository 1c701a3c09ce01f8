"""The thread that publishes: an engine that hangs, raises, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.engines.sender import Sender
from tests.harness.waiting import eventually

MESSAGE = Message(1, "token", None)


class Hanging(Engine):
    """Takes messages only while it may."""

    name = "hanging"

    def __init__(self) -> None:
        super().__init__({})
        self.again_after = 0.05
        self.may = threading.Event()
        self.error: Exception | None = None
        self.taken: list[Message] = []

    def publish(self, messages: Sequence[Message]) -> None:
        self.may.wait()
        if self.error:
            raise self.error
        self.taken += messages


@pytest.fixture
def engine() -> Iterator[Hanging]:
    engine = Hanging()
    yield engine
    engine.may.set()


def test_one_that_takes_nothing_is_given_up(engine: Hanging) -> None:
    sender = Sender(engine)
    with pytest.raises(Unreachable, match="takes nothing"):
        sender.publish([MESSAGE])
    engine.again_after = 3600.0
    with pytest.raises(Unreachable, match="takes nothing"):  # at once: the first one is not taken
        sender.publish([MESSAGE])
    engine.may.set()
    eventually(lambda: engine.taken == [MESSAGE], "it takes the first one")
    sender.publish([MESSAGE])
    assert engine.taken == [MESSAGE] * 2


@pytest.mark.parametrize(
    "error", [Unreachable("away"), TimeoutError("an engine's own"), KeyError()]
)
def test_what_the_engine_raises_is_raised(engine: Hanging, error: Exception) -> None:
    engine.may.set()
    engine.again_after, engine.error = 3600.0, error
    with pytest.raises(type(error)):
        Sender(engine).publish([MESSAGE])
