"""Marks of logarithmic axes, and far outliers of a scatter."""

from __future__ import annotations

import polars as pl
import pytest

from reports.charts.plots.scatter import Scatter, scatter_figure, ticks


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.8, 12.0, ["1", "2", "5", "10"]),
        (5.0, 20_000.0, ["10", "100", "1,000", "10,000"]),
        (3e-7, 2e3, ["10⁻⁶", "10⁻⁴", "0.01", "1", "100"]),
        (1.2, 1.9, ["1.2", "1.4", "1.6", "1.8"]),
        (3e5, 6e6, ["5·10⁵", "10⁶", "2·10⁶", "5·10⁶"]),
    ],
)
def test_marks_are_few_round_and_inside(low: float, high: float, names: list[str]) -> None:
    marks = ticks(low, high)
    assert [name for _, name in marks] == names
    assert all(low <= at <= high for at, _ in marks)


def test_a_dot_far_below_stands_at_the_end_of_the_axis() -> None:
    dots = pl.DataFrame(
        {"x": [1.0, 2.0, 3.0], "y": [50.0, 80.0, 1e-6], "kind": ["a"] * 3, "name": ["n"] * 3, "text": ["t"] * 3}
    )
    drawn = Scatter(dots=dots, colors={"a": "#669977"}, x_label="x", y_label="y", least=0.01)
    figure = scatter_figure(drawn)
    assert figure.y_range.start == pytest.approx(0.01 / 1.6)
    heights = sorted(y for renderer in figure.renderers for y in renderer.data_source.data["y"])
    assert heights == [0.01, 50.0, 80.0]
