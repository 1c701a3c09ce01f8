"""Charts: what they show, and that they are whole."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from lab import charts

pytestmark = pytest.mark.any_database
SVG = "{http://www.w3.org/2000/svg}"


def dots_of(svg: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(f"{SVG}circle")


def test_every_run_is_a_dot() -> None:
    svg = charts.dots("A <b> & c", [("view", "TTFB", [1000, 1100]), ("background", "TTFB", [30])])
    found = dots_of(svg)
    assert len(found) == 3
    assert float(found[0].attrib["cx"]) > float(found[2].attrib["cx"])
    assert "A &lt;b&gt; &amp; c: every run" in svg


def test_a_figure_that_nobody_has_takes_no_room() -> None:
    assert "INP" not in charts.dots("t", [("view", "INP", []), ("view", "TTFB", [1])])


@pytest.mark.parametrize("value", [0, 0.001, 1e9])
def test_no_value_leaves_the_chart(value: float) -> None:
    [dot] = dots_of(charts.dots("t", [("view", "TTFB", [value])]))
    assert charts.LABELS <= float(dot.attrib["cx"]) <= charts.WIDTH


@pytest.mark.parametrize("points", [[], [[0.5, 3.0]], [[-1, 2], [2, 900]]])
def test_the_waits_of_a_run_are_drawn(points: list[list[float]]) -> None:
    assert len(dots_of(charts.waits("t", points, done=1.0))) == len(points)


def test_the_live_chart_tells_the_servers_apart() -> None:
    burst = {"age": 1.0, "median": 2.0, "longest": 3.0}
    kinds = [
        dot.attrib["class"]
        for dot in dots_of(
            charts.live([burst | {"server": "ASGI"}, burst | {"server": "WSGI"}], 15)
        )
    ]
    assert kinds == ["dot", "other"]


def test_a_file_has_its_colours_in_it() -> None:
    assert "<style>" in charts.as_file(charts.dots("t", []))
    ElementTree.fromstring(charts.as_file(charts.dots("t", [])))
