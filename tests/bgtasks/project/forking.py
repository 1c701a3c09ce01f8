"""Tasks that fork their worker's process, or start programs."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings

from bgtasks import background


def note(*words: object) -> None:
    with Path(settings.LEDGER).open("ab", buffering=0) as ledger:
        ledger.write((" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


def wait_for_copy(pid: int) -> None:
    """A worker that ends kills the copies that its tasks have left, also in the middle of a log."""
    os.waitpid(pid, 0)


@background(max_attempts=1)
def fork_and_return(key: object) -> str:
    pid = os.fork()
    note("forked" if pid else "copy", key)
    if pid:
        wait_for_copy(pid)
    return "parent" if pid else "copy"


@background(max_attempts=1)
def fork_and_raise(key: object) -> str:
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the copy")
    wait_for_copy(pid)
    return "parent"


@background(max_attempts=1)
def fork_and_exit(key: object) -> str:
    pid = os.fork()
    if pid == 0:
        sys.exit(5)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@background
def fork_and_wait(key: object) -> None:
    """Fork a copy that leaves its worker's group of processes and lives on."""
    if os.fork() == 0:
        os.setsid()
        note("copy", key)
    time.sleep(3600)


@background(max_attempts=1)
async def fork_in_coroutine(key: object) -> str:
    pid = os.fork()
    note("forked" if pid else "copy", key)
    if pid == 0:
        await asyncio.sleep(0)
        note("went on", key)
    else:
        wait_for_copy(pid)
    return "parent"


@background(max_attempts=1)
async def fork_in_its_thread(key: object) -> str:
    await sync_to_async(os.fork)()
    return "parent"


@background(max_attempts=1)
async def steps(key: object, count: int) -> None:
    """Note each step: a copy of the event loop would note some of them again."""
    for number in range(count):
        note("step", key, number)
        await asyncio.sleep(0)


@background(max_attempts=1)
def pool_that_is_left_early(key: object) -> str:
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        answer = pool.apply_async(time.sleep, (3600,))
        try:
            answer.get(timeout=0.2)
        except multiprocessing.TimeoutError:
            note("left", key)
    return "left"


@background(max_attempts=1)
def terminate_a_process(key: object) -> int | None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=time.sleep, args=(3600,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


@background(max_attempts=1)
def interrupt_a_program(key: object) -> int:
    """Start a program with a ``preexec_fn``, which Python runs in a copy of the process."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(3600)"]
    with subprocess.Popen(command, preexec_fn=lambda: None, stdout=subprocess.PIPE) as program:
        assert program.stdout
        program.stdout.readline()
        program.terminate()
    return program.returncode


PROGRAM = [sys.executable, "-c", "import time; time.sleep(3600)"]


@background
def run_a_program(key: object, own_session: bool = False) -> None:
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(PROGRAM, start_new_session=own_session, **silent) as program:
        note("program", program.pid)


@background(timeout=0.5, max_attempts=1)
def run_a_program_too_long() -> None:
    run_a_program.task_function(0)


@background(max_attempts=1)
def run_a_program_and_crash() -> None:
    program = subprocess.Popen(PROGRAM)
    note("program", program.pid)
    os.kill(os.getpid(), signal.SIGKILL)


@background
async def await_a_program(key: object, own_session: bool = False) -> None:
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    program = await asyncio.create_subprocess_exec(
        *PROGRAM, start_new_session=own_session, **silent
    )
    note("program", program.pid)
    await program.wait()


@background(timeout=0.5, max_attempts=1)
async def await_a_program_too_long() -> None:
    await await_a_program.task_function(0)


@background(timeout=0.5, max_attempts=1)
def wrap_a_program_too_long() -> object:
    """A plain function that returns an awaitable, which a thread awaits."""
    return await_a_program.task_function(0)
