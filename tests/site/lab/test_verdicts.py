"""What figures say: tried with some that were measured, and with the same ones swapped."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.lab_report import Report, Run, findings, load
from lab.catalogue import PATTERNS, Claim, Pattern, find
from lab.figures import Metric, percentile
from lab.page import Findings
from lab.verdicts import ENOUGH_RUNS, Order, compare, doubt

pytestmark = pytest.mark.any_database

# Written by `make lab` (bench/lab.py --record): all figures of all runs.
RECORDED = load((Path(__file__).parent / "recorded.json").read_text())


def recorded(pattern: Pattern, swapped: dict[str, str] | None = None) -> Findings:
    """What was measured of a pattern; ``swapped`` gives the runs of one way to another."""
    return findings(pattern, exchanged(pattern.key, swapped or {}))


def exchanged(pattern: str, ways: dict[str, str]) -> list[Run]:
    """All runs, but those of a pattern with their ways renamed."""
    return [
        run._replace(way=ways.get(run.way, run.way)) if run.pattern == pattern else run
        for run in RECORDED
    ]


CLAIMS = [(pattern, claim) for pattern in PATTERNS for claim in pattern.claims]


@pytest.mark.parametrize(
    ("pattern", "metric"),
    [
        ("picture", Metric.TTFB),
        ("picture", Metric.LCP),
        ("mail", Metric.TTFB),
        ("report", Metric.TTFB),
    ],
)
def test_an_answer_before_the_work_comes_sooner(pattern: str, metric: Metric) -> None:
    found = recorded(find(pattern))
    view, background = found.pattern.ways
    assert found.compared(metric, background, view).order is Order.LESS


@pytest.mark.parametrize("pattern", ["picture", "mail", "report"])
def test_swapped_figures_turn_the_verdict_round(pattern: str) -> None:
    found = recorded(find(pattern), {"view": "background", "background": "view"})
    [verdict] = found.verdicts()
    [ttfb] = [each for each in verdict.differences if Metric.TTFB.label in each]
    assert ttfb.endswith("times as long")
    assert "which is" not in ttfb
    assert not any(checked.holds for checked in found.claims())


def test_inp_does_not_see_the_server_but_sees_a_script() -> None:
    found = recorded(find("click"))
    idle, server, script = found.pattern.ways
    assert found.compared(Metric.TTFB, server, idle).order is Order.MORE
    assert found.compared(Metric.INP, server, idle).order is Order.SAME
    assert found.compared(Metric.INP, script, idle).order is Order.MORE
    [checked] = found.claims()
    assert not checked.holds
    assert checked.claim.why
    [of_picture] = [
        each for each in recorded(find("picture")).claims() if each.claim.metric is Metric.INP
    ]
    assert of_picture.result.order is Order.SAME
    assert "no difference seen" in of_picture.result.words


def test_an_async_view_helps_the_others_and_not_the_one_who_waits() -> None:
    found = recorded(find("api"))
    others, lcp, companions = found.claims()
    assert others.holds
    assert companions.holds
    assert lcp.result.order is Order.SAME


def test_cpu_work_in_an_async_view_is_said_to_cost_the_others() -> None:
    told = {way.key: words for way, words in recorded(find("compute")).everybody()}
    assert "times as long as before" in told["async"]
    assert "about as long as before" in told["background"]
    swapped = recorded(find("compute"), {"async": "background", "background": "async"})
    told = {way.key: words for way, words in swapped.everybody()}
    assert "about as long as before" in told["async"]


@pytest.mark.parametrize("swapped", [False, True], ids=["as measured", "swapped"])
def test_small_chunks_keep_the_loop_alive(swapped: bool) -> None:
    exchange = {"chunks": "at-once", "at-once": "chunks"} if swapped else None
    [checked] = recorded(find("files"), exchange).claims()
    assert checked.holds is not swapped


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.key)
def test_the_way_that_is_compared_with_itself_does_not_differ(pattern: Pattern) -> None:
    found = recorded(pattern)
    for way in pattern.ways:
        for metric in Metric:
            assert found.compared(metric, way, way).order in (Order.SAME, Order.UNKNOWN)


def test_the_recorded_figures_lie_in_the_order_that_physics_demands() -> None:
    assert Report("this machine", RECORDED).problems() == []


@pytest.mark.parametrize(
    ("pattern", "one", "other"),
    [
        ("picture", "view", "background"),
        ("mail", "view", "background"),
        ("report", "view", "background"),
        ("compute", "async", "background"),
        ("files", "chunks", "at-once"),
    ],
)
def test_swapped_figures_contradict_physics(pattern: str, one: str, other: str) -> None:
    swapped = Report("this machine", exchanged(pattern, {one: other, other: one}))
    assert any(problem.startswith(pattern) for problem in swapped.problems())


def test_others_who_wait_during_async_io_contradict_physics() -> None:
    slow = [
        run._replace(figures=run.figures | {"OTHERS_P50": 900.0}) if run.way == "async" else run
        for run in RECORDED
    ]
    [problem] = Report("this machine", slow).problems()
    assert problem.startswith("api")


@pytest.mark.parametrize(
    ("mine", "others", "order"),
    [
        ([100], [1000], Order.LESS),
        ([1000], [100], Order.MORE),
        ([100, 1001], [1000, 1002], Order.SAME),  # they overlap
        ([100, 101], [109, 110], Order.SAME),  # apart, but by less than can be told
        ([1000, 1001], [1100, 1101], Order.SAME),  # apart, but by less than a fifth
        # One of ten may have met something else, but not two.
        ([*range(101, 110), 5000], [1000] * 10, Order.LESS),
        ([*range(101, 109), 5000, 5001], [1000] * 10, Order.SAME),
        ([], [1000], Order.UNKNOWN),
        ([1000], [], Order.UNKNOWN),
        ([0, 0], [500, 600], Order.LESS),
    ],
)
def test_a_difference_is_one_only_if_all_runs_show_it(
    mine: list[float], others: list[float], order: Order
) -> None:
    assert compare(Metric.TTFB, mine, others).order is order


def test_few_runs_are_said_to_be_few() -> None:
    few, enough = ([10.0] * count for count in (1, ENOUGH_RUNS))
    assert "fewer than 4 runs" in doubt([compare(Metric.TTFB, few, enough)])
    assert doubt([compare(Metric.TTFB, enough, enough)]) == ""


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert percentile([4, 1, 3, 2], 0.95) == 4
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile([7], 0.01) == 7


def test_every_claim_compares_ways_of_its_pattern() -> None:
    for pattern, claim in CLAIMS:
        assert isinstance(claim, Claim)
        assert pattern.way(claim.better) is not pattern.way(claim.worse)
