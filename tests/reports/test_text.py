from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.charts import palette
from reports.page.text import (
    SPACE,
    WITHHELD,
    at,
    emphasised,
    number,
    quantity,
    safe_text,
    shown,
    texts,
    withheld_reason,
)

N = SPACE


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.2727, "share", f"27.3{N}%"),
        (1.0, "share", f"100{N}%"),
        (0.00414, "share", f"0.414{N}%"),
        (1669.2, "ms", f"1{N}669{N}ms"),
        (12_345.0, "ms", f"12.3{N}s"),
        (0.0425, "ms", f"42.5{N}µs"),
        (0.000_25, "ms", f"250{N}ns"),
        (0, "ms", f"0{N}ms"),
        (-50.25, "ms", f"−50.2{N}ms"),
        (38_693, "ns", f"38.7{N}µs"),
        (2.3984, "ratio", "2.40×"),
        (4, "count", "4"),
        (120_345, "count", f"120{N}345"),
        (4.2e11, "flops", f"420{N}GFLOP"),
        (9.89e14, "flops_per_second", f"989{N}TFLOP/s"),
        (3 * 2**20, "bytes", f"3.00{N}MiB"),
        (None, "ms", WITHHELD),
        (math.nan, "share", WITHHELD),
        (math.inf, "ms", WITHHELD),
        (True, "count", WITHHELD),
        ("12", "count", WITHHELD),
    ],
)
def test_quantities_are_written_one_way(value: object, unit: str, expected: str) -> None:
    assert quantity(value, unit) == expected  # type: ignore[arg-type] - parametrized


@given(st.floats(min_value=1e-6, max_value=9.9e6))
def test_a_written_duration_is_within_half_a_percent_of_the_value(milliseconds: float) -> None:
    digits, unit = quantity(milliseconds, "ms").rsplit(SPACE, 1)
    factor = {"s": 1e3, "ms": 1.0, "µs": 1e-3, "ns": 1e-6}[unit]
    back = float(digits.replace(SPACE, "")) * factor
    assert math.isclose(back, milliseconds, rel_tol=5.1e-3, abs_tol=5.1e-7)


def test_characters_that_lie_become_visible() -> None:
    assert safe_text("a\u202eb\u200bc\x1b[31m\n\u2028") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+001B⟩[31m ⟨U+2028⟩"
    assert safe_text("\ud800") == "⟨U+D800⟩"


def test_long_text_is_cut_and_says_so() -> None:
    assert safe_text("x" * 50, limit=10) == "xxxxxxxxxx… (50 characters)"


def test_numbers_of_a_sentence_are_set_off_and_the_rest_escaped() -> None:
    sentence = "Rank 1<b> waits 12.5 ms; 1F1B gives 27.3 %, 2.40× & more."
    assert str(emphasised(sentence)) == (
        "Rank 1&lt;b&gt; waits <b>12.5 ms</b>; 1F1B gives <b>27.3 %</b>, <b>2.40×</b> &amp; more."
    )


def test_reading_a_review_never_raises() -> None:
    review = {"a": {"b": None}, "c": [1, 2], "d": "one", "e": math.nan}
    assert at(review, "a", "b", "x") is None
    assert at(review, "c", "x") is None
    assert texts(review, "d") == ["one"]
    assert texts(review, "c") == ["1", "2"]
    assert texts(review, "a") == []
    assert number(review["e"]) is None


def test_a_missing_value_is_shown_with_its_reason() -> None:
    review = {
        "mfu": {"mfu": None, "hfu": 0.5},
        "quality": {
            "withheld": [{"metric": "mfu", "reason": "paced run"}, {"metric": "bubble.x", "reason": "few ranks"}]
        },
    }
    assert shown(review, "share", "mfu", "mfu") == "withheld: paced run"
    assert shown(review, "share", "mfu", "hfu") == f"50.0{N}%"
    assert withheld_reason(review, "bubble") == "few ranks"
    assert withheld_reason(review, "memory") == "the review gives no value and no reason"


MARKS = {
    **palette.PHASES,
    **{f"odd {phase}": color for phase, color in palette.ODD_CHUNKS.items()},
    **palette.BUBBLE_PARTS,
    **palette.OWNERS,
    **palette.COLLECTIVE_PARTS,
    "loss": palette.LOSS,
    "result": palette.RESULT,
    "reference": palette.REFERENCE,
}


@pytest.mark.parametrize("name", MARKS)
def test_marks_stand_out_from_both_pages(name: str) -> None:
    # WCAG 2.2, success criterion 1.4.11: 3:1 for graphical objects
    assert palette.contrast(MARKS[name], palette.LIGHT_PAGE) >= 3
    assert palette.contrast(MARKS[name], palette.DARK_PAGE) >= 3


@pytest.mark.parametrize("color", [*palette.PHASES.values(), *palette.ODD_CHUNKS.values()])
def test_numbers_in_bars_can_be_read(color: str) -> None:
    # WCAG 2.2, success criterion 1.4.3: 4.5:1 for text
    assert palette.contrast(color, palette.ink_on(color)) >= 4.5


def test_contrast_is_the_standards() -> None:
    # Published examples: black on white is 21:1; #767676 on white is the lightest grey that reaches 4.5:1
    assert palette.contrast("#000000", "#ffffff") == 21
    assert palette.contrast("#767676", "#ffffff") >= 4.5 > palette.contrast("#777777", "#ffffff")


@given(st.floats(min_value=0, max_value=1))
def test_numbers_on_the_heat_scale_can_be_read(share: float) -> None:
    color = palette.blend(share)
    assert palette.contrast(color, palette.ink_on(color)) >= 4.5
