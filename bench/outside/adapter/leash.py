"""The worker dies with the adapter.

The harness kills an adapter with SIGKILL, and means all of it. In a container everything dies with
the first process anyway; outside of one, a worker would go on, and nothing would have crashed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

VARIABLE = "BGTASKS_BENCH_ADAPTER"
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def of_this_process() -> dict[str, str]:
    """The environment of a process that is to die with this one."""
    return {VARIABLE: str(os.getpid())}


def fasten(environment: Mapping[str, str]) -> None:
    """Have the system kill this process when the thread that has started it ends."""
    adapter = environment.get(VARIABLE)
    if adapter is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(adapter):  # it has died already, and nobody would tell
        os.kill(os.getpid(), signal.SIGKILL)
