"""The thread that publishes: an engine that hangs, raises, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from django.db import DatabaseError, connection, connections

from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.engines.sender import Sender
from tests.harness.waiting import eventually

MESSAGE = Message(1, "token", None)
# A statement after which its connection is broken, or at least has failed.
BREAK = "SELECT pg_terminate_backend(pg_backend_pid())"


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


def test_one_that_never_comes_back_is_tried_by_another_thread(engine: Hanging) -> None:
    sender, hangs = Sender(engine), engine.may
    with pytest.raises(Unreachable):
        sender.publish([MESSAGE])
    engine.may = threading.Event()  # what is sent from now on is taken
    engine.may.set()

    def taken() -> bool:
        try:
            sender.publish([MESSAGE])
        except Unreachable:
            return False
        return True

    eventually(taken, "it takes messages again")
    assert engine.taken == [MESSAGE]
    hangs.set()


@pytest.mark.django_db(transaction=True)
def test_a_broker_in_the_database_is_reached_again_after_its_connection_broke(
    engine: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = ["SELECT 1", BREAK, "SELECT 1"]

    def publish(messages: Sequence[Message]) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements.pop(0))

    monkeypatch.setattr(engine, "publish", publish)
    engine.again_after = 3600.0
    sender = Sender(engine)
    sender.publish([MESSAGE])
    with pytest.raises(DatabaseError):
        sender.publish([MESSAGE])
    sender.publish([MESSAGE])

    def close(messages: Sequence[Message]) -> None:
        connections.close_all()

    monkeypatch.setattr(engine, "publish", close)  # the thread lives on, and keeps the database
    sender.publish([MESSAGE])


@pytest.mark.parametrize(
    "error", [Unreachable("away"), TimeoutError("an engine's own"), KeyError()]
)
def test_what_the_engine_raises_is_raised(engine: Hanging, error: Exception) -> None:
    engine.may.set()
    engine.again_after, engine.error = 3600.0, error
    with pytest.raises(type(error)):
        Sender(engine).publish([MESSAGE])
