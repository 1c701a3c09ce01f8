"""A bar chart as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LABELS, NUMBERS, ROW, TOP = 900, 270, 130, 30, 56  # pixels
OURS, OTHER, RANGE = "#0b6e4f", "#9aa5b1", "#333333"


class Bar(NamedTuple):
    """A median with its range, in tasks a second."""

    name: str
    median: float
    low: float
    high: float
    ours: bool


def draw(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars on one linear scale that begins at 0."""
    longest = max((bar.high for bar in bars), default=1.0)
    scale = (WIDTH - LABELS - NUMBERS) / longest
    rows = [_bar(bar, TOP + place * ROW, scale) for place, bar in enumerate(bars)]
    height = TOP + len(bars) * ROW + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" '
            'font-family="sans-serif" font-size="13">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text x="12" y="22" font-size="16" font-weight="bold">{escape(title)}</text>',
            f'<text x="12" y="41" fill="#555555" font-size="12">{escape(note)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _bar(bar: Bar, top: float, scale: float) -> str:
    middle, length = top + ROW / 2, bar.median * scale
    low, high = (LABELS + value * scale for value in (bar.low, bar.high))
    colour = OURS if bar.ours else OTHER
    return (
        f'<text x="{LABELS - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect x="{LABELS}" y="{top + 5:.1f}" width="{length:.1f}" height="{ROW - 10}" '
        f'fill="{colour}"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} '
        f'{middle - 4}v8" stroke="{RANGE}" fill="none"/>'
        f'<text x="{max(high, LABELS + length) + 6:.1f}" y="{middle + 4:.1f}">'
        f"{bar.median:,.0f}/s</text>"
    )
