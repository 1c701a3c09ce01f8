"""A cluster of Django Q2 as the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django_q.brokers import get_broker
from django_q.conf import Conf
from django_q.tasks import async_task

from bgtasks.engines import fleet
from bgtasks.engines.base import Engine, Message, Unreachable
from bgtasks.exceptions import InvalidEngine

NAME = "Django Q"


def run(row_id: int, token: str) -> None:
    """Run a row. This is the function of a task of Django Q's."""
    fleet.run(NAME, row_id, token, may_kill=True)


class DjangoQEngine(Engine):
    """Sends the messages by Django Q's broker."""

    name = NAME
    start = "python manage.py qcluster"

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        if Conf.SYNC:
            raise InvalidEngine(
                "Q_CLUSTER['sync'] is set, so there is nobody to send rows to. Unset it, or remove "
                "BGTASKS_ENGINE and let process_tasks run the rows."
            )

    def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            cluster = self.queue_for(message)
            try:
                async_task(
                    f"{__name__}.run",
                    message.row_id,
                    message.token,
                    q_options={
                        "broker": get_broker(cluster) if cluster else get_broker(),
                        "cluster": cluster,
                        "save": False,  # the outcome is in our tables
                        "ack_failure": True,
                        "timeout": -1,  # time limits are ours
                    },
                )
            # What is raised if the broker is away, depends on the broker.
            except Exception as error:
                why = f"the broker does not take them ({type(error).__name__}: {error})."
                raise Unreachable(why) from error
