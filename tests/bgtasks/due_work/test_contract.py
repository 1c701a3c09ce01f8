"""The contract of `due-work-harness`, bound to the queue and to the backend of Django's tasks.

`CONTRACT` says which of its profiles are claimed, and for each of the others why it is not. What is
known to be left by a kill stands in `findings`: a case fails if a finding appears, changes or is
gone. See docs/internals/due-work.md.
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
from tests.bgtasks.due_work.processes import child_killed, killed
from tests.bgtasks.project.duework import faults

NAME = "bgtasks"

# The moments at which the effect has happened and nothing has recorded it.
EFFECT_ONLY = (faults.AFTER, faults.FINISHES, faults.RECORDS)
UNDISTURBED = Seen("succeeded", effects=1)

ENQUEUE = bindings.enqueueing(
    "enqueue without a transaction", bindings.place, Findings(UNDISTURBED, {})
)
IN_TRANSACTION = bindings.enqueueing(
    "enqueue in a transaction",
    bindings.place_in_transaction,
    Findings(UNDISTURBED, {"signal receiver 1 failed": Seen("", effects=0)}),
)
RUN = processes.history(
    "a worker runs a task",
    "effect",
    faults.MOMENTS,
    survived=True,
    findings=Findings(
        UNDISTURBED,
        dict.fromkeys(
            [*killed(*EFFECT_ONLY), *child_killed(*EFFECT_ONLY)], Seen("succeeded", effects=2)
        ),
    ),
)
REPEATABLE = processes.history(
    "a worker runs a task that may be repeated",
    "effect_that_may_be_repeated",
    (faults.BEFORE, faults.AFTER, faults.RECORDED),
    survived=False,
    findings=Findings(UNDISTURBED, {}),
)
AT_MOST_ONCE = processes.history(
    "a worker runs a task that must not be repeated",
    "effect_at_most_once",
    faults.MOMENTS,
    survived=False,
    findings=Findings(
        UNDISTURBED,
        dict.fromkeys(killed(faults.STARTS, faults.BEFORE), Seen("failed", effects=0))
        | dict.fromkeys(killed(*EFFECT_ONLY), Seen("failed", effects=1)),
    ),
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
    process_handoffs=(RUN, REPEATABLE, AT_MOST_ONCE),
    handoff_gaps={
        IN_TRANSACTION.name: "what a receiver of task_enqueued raises is raised in the caller, as "
        "with Django's own backends, and rolls the caller's transaction back",
        RUN.name: "a run that was lost after its effect is repeated, and so is the effect",
        AT_MOST_ONCE.name: 'with on_worker_lost="fail", a run that was lost is failed: the effect '
        "has happened once or never, and the outcome does not say which",
    },
)


@due_work_contract_suite(CONTRACT)
class TestContract:
    """Its cases are generated; ``pytest --due-work-summary`` lists them."""
