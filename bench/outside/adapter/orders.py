"""What the harness asks for: its environment variables, with the defaults of its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODES = ("fixed", "depth-target")


@dataclass(frozen=True)
class Orders:
    """What this replica is to do.

    Attributes:
        instance: the number of this replica. Only replica 0 tells what is the same for all.
        mode: "fixed" for a rate, "depth-target" for a queue of a certain length.
        paced_by_harness: whether the harness says on stdin how many jobs to insert, and when.
        rate: jobs a second.
        batch: how many jobs are inserted at once, at most.
        period: seconds between two insertions.
        depth: how many jobs are to wait, with "depth-target".
        concurrency: how many jobs are to run at the same time.
        queues: over how many queues the jobs are spread.
        payload: about how many bytes the arguments of a job have.
        noise: whether these bytes are to be such that nothing can compress them.
        work: seconds that a job takes.
        every: seconds between two samples.
        rate_file: a file with the rate that counts at this moment.
        gate_file: a file that says when the worker may start.
        failures_file: a file with the plan of which jobs fail.
        herd_file: a file with the order for jobs that are all due at one time.
        max_attempts: how often a job is tried, as often as by default if nothing else is asked for.
    """

    instance: int = 0
    mode: str = "fixed"
    paced_by_harness: bool = False
    rate: float = 800.0
    batch: int = 128
    period: float = 0.025
    depth: int = 1000
    concurrency: int = 32
    queues: int = 1
    payload: int = 256
    noise: bool = False
    work: float = 0.001
    every: int = 5
    rate_file: Path | None = None
    gate_file: Path | None = None
    failures_file: Path | None = None
    herd_file: Path | None = None
    max_attempts: int = 25

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Orders:
        """The orders in an environment. A variable that is empty counts as unset.

        Raises:
            ValueError: a variable makes no sense.
        """
        said = _Said(environment)
        mode = said.text("PRODUCER_MODE", cls.mode)
        if mode not in MODES:
            raise ValueError(f"PRODUCER_MODE is {mode!r}; it must be one of {', '.join(MODES)}.")
        return cls(
            instance=int(said.number("BENCH_INSTANCE_ID", cls.instance)),
            mode=mode,
            paced_by_harness=said.text("PRODUCER_PACING", "adapter") == "harness",
            rate=said.number("PRODUCER_RATE", cls.rate),
            batch=said.count("PRODUCER_BATCH_MAX", cls.batch),
            period=said.number("PRODUCER_BATCH_MS", cls.period * 1000) / 1000,
            depth=int(said.number("TARGET_DEPTH", cls.depth)),
            concurrency=said.count("WORKER_COUNT", cls.concurrency),
            queues=said.count("BENCH_QUEUE_COUNT", cls.queues),
            payload=int(said.number("JOB_PAYLOAD_BYTES", cls.payload)),
            noise=said.text("JOB_PAYLOAD_KIND", "") == "random",
            work=said.number("JOB_WORK_MS", cls.work * 1000) / 1000,
            every=said.count("SAMPLE_EVERY_S", cls.every),
            rate_file=said.path("PRODUCER_RATE_CONTROL_FILE"),
            gate_file=said.path("CONSUMER_GATE_FILE"),
            failures_file=said.path("JOB_FAILURE_CONTROL_FILE"),
            herd_file=said.path("SCHEDULE_CONTROL_FILE"),
            max_attempts=said.count("JOB_MAX_ATTEMPTS", cls.max_attempts),
        )

    def queue_names(self) -> list[str | None]:
        """The queues of the jobs: the default one if there is but one."""
        if self.queues == 1:
            return [None]
        return [f"queue{number}" for number in range(self.queues)]


class _Said:
    """An environment, typed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str) -> str:
        return self._environment.get(name) or default

    def number(self, name: str, default: float) -> float:
        return float(self.text(name, str(default)))

    def count(self, name: str, default: int) -> int:
        """A whole number, 1 or more."""
        return max(1, int(self.number(name, default)))

    def path(self, name: str) -> Path | None:
        text = self.text(name, "")
        return Path(text) if text else None
