"""Which steps are typical, and why others are set apart."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.schema import STEPS, conform
from traceanalyzer.tables.steps.typical import FirstStep, typical_steps, with_typical


def windows(*lengths: float, num_ranks: int = 2, **flags: list[int]) -> pl.DataFrame:
    """Steps of these lengths on every rank; `flags` names steps with `open_start` or `open_end`."""
    at, rows = 0, []
    for step, length in enumerate(lengths):
        end = at + round(length * 1e6)
        marks = {name: step in steps for name, steps in flags.items()}
        rows += [
            {"rank": r, "step": step, "start_ns": at, "end_ns": end, "open_end": False, **marks}
            for r in range(num_ranks)
        ]
        at = end
    return conform(pl.DataFrame(rows), STEPS)


def apart(frame: pl.DataFrame, first: FirstStep | None = None, *, chosen: bool = False) -> dict[int, str]:
    marked = with_typical(frame, first, chosen=chosen)
    assert (marked["is_typical"] == marked["set_apart"].is_null()).all()
    return dict(marked.filter(pl.col("set_apart").is_not_null()).select("step", "set_apart").unique().iter_rows())


NINE = (80, 81, 80, 79, 80, 82, 80, 81, 80)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((145,), {}),
        ((386, 145, 147), {0: "first step"}),
        ((180, 145, 147), {}),  # 23% off
        ((145, 147, 386), {}),  # of few steps only the first may be a warm-up
        ((60, 145, 147), {}),  # shorter, though it does as much: no warm-up
        ((12, 12, 130, 128, 131), {}),  # nobody knows which are usual
        ((300, 290, 145, 147, 146), {}),
        ((300, 190, 145, 147, 146), {0: "first step"}),
        ((300, 145), {0: "first step"}),
        ((100, 145), {}),  # of two nobody knows which is usual
        ((*NINE, 120), {9: "outlier"}),
        ((200, *NINE), {0: "first step"}),
        ((40, *NINE), {0: "outlier"}),
        ((*NINE, 83.9), {}),  # within 5%, though far beyond the spread
        ((*NINE, 120, 121), {}),  # more than a tenth: they are the run
        ((50, 90, 70, 110, 60, 100, 80, 95, 105, 130), {}),  # the spread itself is wide
        ((*NINE, *NINE, 130, 40), {18: "outlier", 19: "outlier"}),
    ],
)
def test_steps_are_set_apart_by_length(lengths: tuple[float, ...], expected: dict[int, str]) -> None:
    assert apart(windows(*lengths)) == expected
    assert typical_steps(with_typical(windows(*lengths))) == [
        step for step in range(len(lengths)) if step not in expected
    ]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((60, 145, 147), {0: "first step"}),
        ((140, 145, 147), {}),
        ((60, 62, 145, 147, 146), {}),
        ((40, *NINE), {0: "first step"}),
    ],
)
def test_a_shorter_first_step_that_does_less_is_a_warm_up(lengths: tuple[float, ...], expected: dict[int, str]) -> None:
    assert apart(windows(*lengths), FirstStep(with_less_work=[0])) == expected


@pytest.mark.parametrize(
    ("lengths", "head", "expected"),
    [
        ((60, 145, 147), 80, {0: "cut at its start"}),
        ((60, 145, 147), 10, {}),
        ((60, 62, 145, 147, 146), 80, {}),
        ((130, 145, 147), 10, {}),
        ((40, *NINE), 40, {0: "cut at its start"}),
        ((40, *NINE), 10, {0: "outlier"}),
    ],
)
def test_a_shorter_first_step_that_lacks_the_time_before_its_first_kernel_was_cut(
    lengths: tuple[float, ...], head: float, expected: dict[int, str]
) -> None:
    assert apart(windows(*lengths), FirstStep(whole_ns={0: round((lengths[0] + head) * 1e6)})) == expected


def test_steps_that_lack_kernels_say_what_is_usual() -> None:
    """Of two whole steps nobody could say which is usual; the lossy one between them shows that the first was cut."""
    lossy = windows(3, 10, 10, num_missing_kernels=[1])
    assert apart(lossy, FirstStep(whole_ns={0: 10_000_000})) == {0: "cut at its start", 1: "kernels missing"}
    assert apart(windows(3, 10), FirstStep(whole_ns={0: 10_000_000})) == {}


def test_only_whole_steps_are_compared() -> None:
    cut = windows(30, 80, 81, 80, 5, open_start=[0], open_end=[4])
    assert apart(cut) == {0: "cut at its start", 4: "open end"}
    assert apart(windows(80, open_end=[0])) == {}  # the only step stays
    lacking = windows(80, 80, 80).filter(~((pl.col("rank") == 1) & (pl.col("step") == 0)))
    assert apart(lacking) == {0: "not on all ranks"}
    assert apart(windows(386, 145, 147), chosen=True) == {}
