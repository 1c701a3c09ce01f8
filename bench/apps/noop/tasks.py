"""A task for whichever of the two engines is installed."""

from django.apps import apps

from bench.ledger import note

if apps.is_installed("bgtasks"):
    from bgtasks import background
else:
    from background_task import background


@background
def noop(number: int) -> None:
    note(number)
