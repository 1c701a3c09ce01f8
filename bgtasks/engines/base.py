"""What an engine is: it carries messages to a fleet, whose processes run the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bgtasks.exceptions import BgtasksError, InvalidEngine

# Seconds after which a row that nobody has taken over is published again, unless the setting says
# otherwise.
AGAIN_AFTER = 10.0
# So many messages may wait in the fleet, unless the setting says otherwise. What is more urgent and
# comes later waits behind them.
AHEAD = 200


class Message(NamedTuple):
    """What is sent for a row.

    The fleet gets the first two and nothing else. The third says where to send them.

    Attributes:
        row_id: the row's id.
        token: the claim by which the relay holds the row. Whoever takes the row over shows it.
        queue: the row's queue; None for none.
    """

    row_id: int
    token: str
    queue: str | None


class Unreachable(BgtasksError):
    """The fleet's broker takes no messages now."""


class Engine(ABC):
    """Carries messages to a fleet.

    Args:
        options: what the setting `BGTASKS_ENGINE` says.

    Raises:
        InvalidEngine: an option is unknown, or makes no sense.

    Attributes:
        name: for logs and operators.
        start: the command that starts the fleet, for operators.
        options: the names of the options that the setting may have.
        ahead: so many messages may wait in the fleet.
        again_after: seconds after which a row that nobody has taken over is published again.
    """

    name = ""
    start = ""
    options: frozenset[str] = frozenset({"ENGINE", "QUEUES", "AHEAD", "AGAIN_AFTER"})

    def __init__(self, options: Mapping[str, Any]) -> None:
        if unknown := set(options) - self.options:
            raise InvalidEngine(
                f"BGTASKS_ENGINE has the option {sorted(unknown)[0]!r}, which the engine "
                f"{self.name} does not know. It knows {', '.join(sorted(self.options))}."
            )
        self.ahead = int(_number(options, "AHEAD", AHEAD))
        self.again_after = float(_number(options, "AGAIN_AFTER", AGAIN_AFTER))
        self._queues = options.get("QUEUES", {})
        if not isinstance(self._queues, Mapping):
            raise InvalidEngine(
                f"BGTASKS_ENGINE['QUEUES'] is {self._queues!r}. It must be a dict from our queues "
                "to the fleet's, such as {'urgent': 'fast'}."
            )

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Send messages to the fleet. One of them may be sent twice, which changes nothing.

        Raises:
            Unreachable: some of them may not have been sent.
        """

    def queue_for(self, message: Message) -> str | None:
        """The fleet's queue for a message; None for its default one."""
        queue: str | None = self._queues.get(message.queue)
        return queue


def _number(options: Mapping[str, Any], name: str, default: float) -> float:
    value = options.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 1:
        raise InvalidEngine(
            f"BGTASKS_ENGINE[{name!r}] is {value!r}. It must be a number, 1 or more."
        )
    return value
