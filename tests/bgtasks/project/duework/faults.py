"""What goes wrong in a worker, and at which moment: the harness names both in the environment.

A fault is a kind and a moment, such as "the worker is killed after the effect". It happens once.
"""

from __future__ import annotations

import os
import signal

from due_work_harness.process_histories import FAULT_VARIABLE, fault_fires

STARTS, FINISHES = "as the task starts", "as the task finishes"
BEFORE, AFTER = "before the effect", "after the effect"
RECORDS, RECORDED = "as the outcome is recorded", "after the outcome is recorded"
MOMENTS = (STARTS, BEFORE, AFTER, FINISHES, RECORDS, RECORDED)

WORKER, CHILD, RAISE = "the worker is killed", "the child is killed", "a receiver raises"
# The process that has set Django up. A worker's children are forked from it later.
SUPERVISOR = os.getpid()


def name(kind: str, moment: str) -> str:
    return f"{kind} {moment}"


def asked_for(moment: str) -> bool:
    return os.environ.get(FAULT_VARIABLE, "").endswith(f" {moment}")


def point(moment: str) -> None:
    """The moment has come: let go wrong what is to go wrong now."""
    if fault_fires(name(WORKER, moment)):
        os.kill(SUPERVISOR, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if fault_fires(name(CHILD, moment)):
        assert os.getpid() != SUPERVISOR, "this worker has no children"
        os.kill(os.getpid(), signal.SIGKILL)
    if fault_fires(name(RAISE, moment)):
        raise RuntimeError(f"a receiver that raises {moment}")
