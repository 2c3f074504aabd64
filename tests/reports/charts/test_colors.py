"""Colours that stand in one chart are told apart by readers who see fewer of them, and text stands out on every ground."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest

from reports.charts import palette

TOLD_APART = 7.5
"""CIEDE2000; 2.3 is just noticeable side by side."""
MISSING = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Cones that are missing: linear RGB as seen (Machado, Oliveira and Fernandes 2009, severity 1)."""
XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE = (0.95047, 1.0, 1.08883)
TOGETHER = {
    "actions and waits of the timeline": {**palette.PHASES, **palette.WAITS},
    "parts of the bubble": palette.BUBBLE_PARTS,
    "owners": palette.OWNERS,
    "phases of the step": palette.STEP_PHASES,
    "collectives": palette.COLLECTIVE_PARTS,
    "kernels": palette.KERNELS,
    "work of hosts": {
        **palette.HOST_WORK, **palette.WAITS,
        **{name: palette.KERNELS[name] for name in ("transfer", "communication")},
    },
    "waterfall": {
        "compute": palette.OWNERS["compute"], "loss": palette.LOSS, "result": palette.RESULT,
        "schedule": palette.BUBBLE_PARTS["warm-up"], "reference": palette.REFERENCE,
    },
    "series": {str(at): color for at, color in enumerate(palette.SERIES)},
    "loads": {"below": palette.DIVERGING[0], "within": palette.GREY_CELL, "above": palette.DIVERGING[1]},
}  # fmt: skip
Lab = tuple[float, float, float]


def dot(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def seen(color: str, missing: str) -> Lab:
    """CIELAB of `#rrggbb` (D65) as seen without some cones."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    left = [min(1.0, max(0.0, c)) for c in dot(MISSING[missing], linear)]
    f = [
        t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29
        for t in (value / white for value, white in zip(dot(XYZ, left), WHITE, strict=True))
    ]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def difference(first: Lab, second: Lab) -> float:
    """CIEDE2000 (Sharma, Wu and Dalal 2005), in radians."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    chroma = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    grow = 1.5 - 0.5 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    c1, c2 = math.hypot(grow * a1, b1), math.hypot(grow * a2, b2)
    h1, h2 = (math.atan2(b, grow * a) % math.tau for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + math.pi) % math.tau - math.pi if c1 * c2 else 0.0
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = (h1 + turn / 2) % math.tau if c1 * c2 else h1 + h2
    t = (
        1 - 0.17 * math.cos(mean_h - math.radians(30)) + 0.24 * math.cos(2 * mean_h)
        + 0.32 * math.cos(3 * mean_h + math.radians(6)) - 0.20 * math.cos(4 * mean_h - math.radians(63))
    )  # fmt: skip
    rotation = math.radians(30) * math.exp(-(((math.degrees(mean_h) - 275) / 25) ** 2))
    lightness = (l2 - l1) / (1 + 0.015 * (mean_l - 50) ** 2 / math.sqrt(20 + (mean_l - 50) ** 2))
    saturation = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = 2 * math.sqrt(c1 * c2) * math.sin(turn / 2) / (1 + 0.015 * mean_c * t)
    cross = -math.sin(2 * rotation) * 2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7))
    return math.sqrt(lightness**2 + saturation**2 + hue**2 + cross * saturation * hue)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (61.0, -5.0, 29.0), 22.8977),
        ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ],
)
def test_the_difference_is_as_published(first: Lab, second: Lab, expected: float) -> None:
    assert difference(first, second) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("chart", TOGETHER)
@pytest.mark.parametrize("missing", MISSING)
def test_colors_of_one_chart_are_told_apart(chart: str, missing: str) -> None:
    near = {
        (one, two): round(difference(seen(a, missing), seen(b, missing)), 1)
        for (one, a), (two, b) in itertools.combinations(TOGETHER[chart].items(), 2)
    }
    assert {pair: far for pair, far in near.items() if far < TOLD_APART} == {}


def test_text_stands_out_on_its_ground_in_both_themes() -> None:
    css = (Path(palette.__file__).parents[1] / "assets" / "page.css").read_text()
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", part)) for part in css.split("}")[:2])
    for theme in (light, {**light, **dark}):
        for ink, ground in itertools.product(("ink", "soft", "good", "bad", "accent"), ("page", "panel", "warn-page")):
            assert palette.contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
