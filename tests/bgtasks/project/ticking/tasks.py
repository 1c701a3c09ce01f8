"""Tasks with crontab lines."""

from bgtasks import background
from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy
from tests.bgtasks.project.tasks import note


@background(queue="clock", schedule={"priority": 3})
def tick() -> None:
    note("tick")


@background
def new_year() -> None:
    note("new year")


policies.declare(tick.name, Policy(cron="* * * * *"))
policies.declare(new_year.name, Policy(cron="@yearly"))
