"""Compares the figures of two ways, and puts the result into words."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from statistics import median
from typing import NamedTuple

from lab.figures import Metric, percentile

# Two ways differ by less than a fifth: nobody would choose by that.
SMALLEST_RATIO = 1.2
# With four runs of each way, chance alone puts all of one on the same side of all of the other in 1
# of 35 cases (2 * 4! * 4! / 8!). With fewer, the reader is told.
ENOUGH_RUNS = 4


class Order(Enum):
    """On which side of the figures of another way those of one way lie."""

    LESS = "less"
    MORE = "more"
    SAME = "no difference seen"
    UNKNOWN = "not measured"


class Comparison(NamedTuple):
    """A figure of one way, compared with that of another.

    Attributes:
        metric: which figure.
        ours, theirs: its medians.
        runs: the fewer runs of the two ways.
    """

    metric: Metric
    order: Order
    ours: float
    theirs: float
    runs: int

    @property
    def ratio(self) -> float:
        """How many times the larger is the smaller."""
        small, large = sorted((self.ours, self.theirs))
        return large / max(small, 0.001)

    @property
    def words(self) -> str:
        """A clause: the figures of both ways, and whether they differ."""
        if self.order is Order.UNKNOWN:
            return f"{self.metric.label}: not measured"
        ours, theirs = self.metric.show(self.ours), self.metric.show(self.theirs)
        if self.order is Order.SAME:
            return f"{self.metric.label}: no difference seen ({ours} and {theirs})"
        times = f"{self.ratio:.1f}" if self.ratio < 10 else f"{self.ratio:,.0f}"
        which = "which is " if self.order is Order.LESS else ""
        return f"{self.metric.label}: {ours} instead of {theirs}, {which}{times} times as long"


def compare(metric: Metric, mine: Sequence[float], others: Sequence[float]) -> Comparison:
    """Compare a figure in the runs of two ways.

    There is a difference only if the runs of the one lie on the same side of the runs of the other,
    and the medians are apart by more than can be measured and by more than a fifth. With ten runs
    and more, the lowest and the highest tenth do not count: one run may have met something else.
    """
    if not mine or not others:
        return Comparison(metric, Order.UNKNOWN, 0, 0, 0)
    found = Comparison(
        metric, Order.SAME, median(mine), median(others), min(len(mine), len(others))
    )
    apart = abs(found.ours - found.theirs) > metric.value.step and found.ratio >= SMALLEST_RATIO
    if apart and percentile(mine, 0.9) < percentile(others, 0.1):
        return found._replace(order=Order.LESS)
    if apart and percentile(mine, 0.1) > percentile(others, 0.9):
        return found._replace(order=Order.MORE)
    return found


def doubt(found: Sequence[Comparison]) -> str:
    """A sentence if there are few runs, so that it may be chance; "" if there are enough."""
    if min((each.runs for each in found), default=0) >= ENOUGH_RUNS:
        return ""
    return (
        f"Some of these figures come from fewer than {ENOUGH_RUNS} runs, so a difference may be "
        "chance. Run both ways again."
    )
