"""The contract of `due-work-harness`, bound to the queue and to the backend of Django's tasks.

`CONTRACT` says which of its profiles are claimed, and for each of the others why it is not. A kill
at any of the moments leaves what no kill leaves: there are no findings. See
docs/internals/due-work.md.
"""

from __future__ import annotations

from due_work_harness import (
    Adoption,
    Claim,
    Decline,
    DueWorkContract,
    Findings,
    NotApplicable,
    Profile,
    SafetyContract,
    SafetyProfile,
    due_work_contract_suite,
)

from tests.bgtasks.due_work import bindings, processes
from tests.bgtasks.due_work.places import Seen
from tests.bgtasks.project.duework import faults

NAME = "bgtasks"

NONE = Findings(Seen("succeeded", effects=1), {})

ENQUEUE = bindings.enqueueing("enqueue without a transaction", bindings.place, NONE)
IN_TRANSACTION = bindings.enqueueing(
    "enqueue in a transaction", bindings.place_in_transaction, NONE
)
ATOMIC = processes.history(
    "a worker runs an atomic task", "effect", faults.MOMENTS, survived=True, findings=NONE
)
REPEATABLE = processes.history(
    "a worker runs a task that may be repeated",
    "effect_that_may_be_repeated",
    (faults.BEFORE, faults.AFTER, faults.RECORDED),
    survived=False,
    findings=NONE,
)

CONTRACT = DueWorkContract(
    name=NAME,
    adoption=Adoption.LEGACY,
    transactional=True,
    fixtures=("due_work",),
    profiles={
        Profile.AUTOMATIC_RECOVERY: Decline(
            "there is no sweep beside the worker. One statement finds ready rows and takes them, "
            "so that nothing can be selected without being taken. That a row is found again is "
            "shown by the handoff and by the processes that are killed"
        ),
        Profile.BOUNDED_OWNERSHIP: Claim(),
        Profile.CRASH_AMBIGUITY: Decline(
            "no row says that its function has begun: that would cost a statement for each run. "
            "Whether a run that was lost with its worker is repeated, its task says: on_worker_lost"
        ),
        Profile.DURABLE_RETENTION: Claim(),
        Profile.EVENTUAL_CONVERGENCE: Claim(),
        Profile.FACT_DERIVED_OBLIGATIONS: NotApplicable(
            "the obligation is the row itself, not a fact derived from the project's tables"
        ),
    },
    safety=SafetyContract(
        name=NAME,
        transactional=True,
        fixtures=("due_work",),
        profiles={
            SafetyProfile.REPLAY_SAFE_EXECUTION: Decline(
                "a run that was lost is repeated, and whether its effect may be is a property of "
                "the project's function"
            ),
            SafetyProfile.BOUNDED_RETRY: Claim(),
        },
        retry=bindings.retry,
    ),
    ownership=bindings.ownership,
    retention=bindings.retention,
    snapshot=bindings.late_results,
    handoffs=(ENQUEUE, IN_TRANSACTION),
    handoff_delivery=bindings.delivery,
    process_handoffs=(ATOMIC, REPEATABLE),
)


@due_work_contract_suite(CONTRACT)
class TestContract:
    """Its cases are generated; ``pytest --due-work-summary`` lists them."""
