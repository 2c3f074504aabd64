from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.charts import palette
from reports.page.html import emphasised
from reports.page.text import safe_text
from traceanalyzer.review.words import NOTHING, Unit, milliseconds, percent, quantity


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.2727, "share", "27.3%"),
        (1.0, "share", "100%"),
        (0.0588, "share", "5.88%"),
        (0.00414, "share", "0.41%"),
        (1669.2, "ms", "1.67 s"),
        (999.7, "ms", "1.00 s"),
        (12_345.0, "ms", "12.3 s"),
        (0.0425, "ms", "42.5 µs"),
        (0.000_25, "ms", "250 ns"),
        (0, "ms", "0 ms"),
        (-50.25, "ms", "−50.2 ms"),
        (38_693, "ns", "38.7 µs"),
        (2.3984, "ratio", "2.40×"),
        (4, "count", "4"),
        (120_345, "count", "120,345"),
        (4.2e11, "flops", "420 GFLOP"),
        (9.89e14, "flops_per_second", "989 TFLOP/s"),
        (3 * 2**20, "bytes", "3.00 MiB"),
        (9.996, "number", "10.0"),
        (None, "ms", NOTHING),
        (math.nan, "share", NOTHING),
        (math.inf, "ms", NOTHING),
    ],
)
def test_quantities_are_written_one_way(value: float | None, unit: Unit, expected: str) -> None:
    assert quantity(value, unit) == expected


@given(st.floats(min_value=1e-6, max_value=9.9e6))
def test_a_written_duration_is_within_half_a_percent_of_the_value(value: float) -> None:
    digits, unit = milliseconds(value).split()
    back = float(digits.replace(",", "")) * {"s": 1e3, "ms": 1.0, "µs": 1e-3, "ns": 1e-6}[unit]
    assert math.isclose(back, value, rel_tol=5.1e-3, abs_tol=5.1e-7)


@given(st.floats(min_value=1e-5, max_value=1))
def test_a_written_share_is_within_a_twentieth_of_the_value(share: float) -> None:
    assert math.isclose(float(percent(share).removesuffix("%")) / 100, share, rel_tol=0.051)


def test_characters_that_lie_become_visible() -> None:
    assert safe_text("a\u202eb\u200bc\x1b[31m\n\u2028") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+001B⟩[31m ⟨U+2028⟩"
    assert safe_text("\ud800") == "⟨U+D800⟩"


def test_long_text_is_cut_and_says_so() -> None:
    assert safe_text("x" * 5000, limit=10) == "xxxxxxxxxx… (5,000 characters)"


def test_numbers_of_a_sentence_are_set_off_and_the_rest_escaped() -> None:
    sentence = "Rank 1<b> waits 3, 12.5 ms; 1F1B gives 27.3%, 2.40× & 1,234 ms."
    assert str(emphasised(sentence)) == (
        "Rank 1&lt;b&gt; waits 3, <b>12.5 ms</b>; 1F1B gives <b>27.3%</b>, <b>2.40×</b> &amp; <b>1,234 ms</b>."
    )


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
