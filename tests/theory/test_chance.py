"""Imbalance by chance: against enumeration, closed forms, published figures and an independent simulation."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.errors import DomainError
from traceanalyzer.theory.experts import chance
from traceanalyzer.theory.experts.chance import expected_max_over_mean, load_cv


def enumerate_loads(num_tokens: int, top_k: int, experts: int, groups: int) -> list[list[int]]:
    """The groups' loads under every equally likely routing."""
    per_group = experts // groups
    routings = product(combinations(range(experts), top_k), repeat=num_tokens)
    return [
        [sum(expert // per_group == group for token in routing for expert in token) for group in range(groups)]
        for routing in routings
    ]


SMALL = [(1, 1, 4, 4), (3, 2, 4, 4), (3, 2, 4, 2), (2, 3, 6, 3), (5, 1, 3, 3), (4, 2, 4, 1), (2, 4, 4, 2), (2, 1, 6, 2)]


@pytest.mark.parametrize(("num_tokens", "top_k", "experts", "groups"), SMALL)
def test_expected_value_is_that_of_enumeration(num_tokens: int, top_k: int, experts: int, groups: int) -> None:
    loads = enumerate_loads(num_tokens, top_k, experts, groups)
    mean = Fraction(num_tokens * top_k, groups)
    exact = sum(Fraction(max(values)) / mean for values in loads) / len(loads)
    band = expected_max_over_mean(num_tokens, top_k, experts, groups)
    assert abs(band.expected - float(exact)) <= 4 * band.standard_error + 1e-12
    assert band.low >= min(max(values) / mean for values in loads) - 1e-12
    assert band.high <= max(max(values) / mean for values in loads) + 1e-12


@pytest.mark.parametrize(("num_tokens", "top_k", "experts", "groups"), SMALL)
def test_spread_is_exactly_that_of_enumeration(num_tokens: int, top_k: int, experts: int, groups: int) -> None:
    loads = enumerate_loads(num_tokens, top_k, experts, groups)
    mean = num_tokens * top_k / groups
    variance = sum((values[0] - mean) ** 2 for values in loads) / len(loads)
    assert load_cv(num_tokens, top_k, experts, groups) == pytest.approx(math.sqrt(variance) / mean, abs=1e-12)


@pytest.mark.parametrize(("num_tokens", "top_k", "experts", "groups"), [*SMALL[:5], (3, 1, 2, 2), (3, 1, 6, 2)])
def test_skewness_is_exactly_that_of_enumeration(num_tokens: int, top_k: int, experts: int, groups: int) -> None:
    loads = np.array([values[0] for values in enumerate_loads(num_tokens, top_k, experts, groups)])
    away = loads - loads.mean()
    exact = (away**3).mean() / (away**2).mean() ** 1.5
    assert chance._skewness(num_tokens, top_k, experts, groups) == pytest.approx(exact, abs=1e-9)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("groups", "expected", "cv"),
    [(256, 1.25, 0.087), (64, 1.10, 0.043), (8, 1.02, 0.0144)],
)
def test_a_layer_of_deepseek_v3(groups: int, expected: float, cv: float) -> None:
    # 4096 tokens, 8 of 256 experts: per expert, per rank of 64, per rank of 8 (an independent simulation)
    band = expected_max_over_mean(4096, 8, 256, groups)
    assert band.expected == pytest.approx(expected, abs=0.006)
    assert band.low < expected < band.high
    assert load_cv(4096, 8, 256, groups) == pytest.approx(cv, abs=0.0005)


@given(tokens=st.integers(1, 10**6), experts=st.integers(2, 512), data=st.data())
def test_floor_of_the_spread_over_experts(tokens: int, experts: int, data: st.DataObject) -> None:
    top_k = data.draw(st.integers(1, experts))
    floor = math.sqrt((1 - top_k / experts) / (tokens * top_k / experts))
    assert load_cv(tokens, top_k, experts) == pytest.approx(floor, rel=1e-9, abs=1e-12)


def test_two_groups_have_a_closed_form_in_the_limit() -> None:
    # Loads are mean ± d with d normal, so the larger is over the mean by E|d| = sd * sqrt(2 / pi).
    band = expected_max_over_mean(1_000_000, 1, 2, 2)
    assert band.basis == "normal"
    assert band.expected - 1 == pytest.approx(load_cv(1_000_000, 1, 2) * math.sqrt(2 / math.pi), rel=0.05)


@pytest.mark.parametrize(
    ("tokens", "top_k", "experts", "groups"), [(5000, 8, 256, 256), (20000, 2, 64, 64), (4096, 8, 64, 8)]
)
def test_normal_limit_takes_over_without_a_step(
    tokens: int, top_k: int, experts: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed = expected_max_over_mean(tokens, top_k, experts, groups)
    monkeypatch.setattr(chance, "EXACT_CHOICES", 0)
    normal = expected_max_over_mean(tokens, top_k, experts, groups)
    assert (routed.basis, normal.basis) == ("routing", "normal")
    assert normal.expected == pytest.approx(routed.expected, abs=0.004)
    assert normal.low == pytest.approx(routed.low, abs=0.01)
    assert normal.high == pytest.approx(routed.high, abs=0.02)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("tokens", "top_k", "experts", "groups"), [(512, 2, 8, 4), (4096, 8, 256, 64), (16384, 8, 64, 8)]
)
def test_the_band_holds_as_often_as_it_says(tokens: int, top_k: int, experts: int, groups: int) -> None:
    rng = np.random.default_rng(7)
    band = expected_max_over_mean(tokens, top_k, experts, groups)
    held = 0
    for _ in range(200):
        chosen = np.argpartition(rng.random((tokens, experts), dtype=np.float32), top_k - 1, axis=1)[:, :top_k]
        loads = np.bincount(chosen.ravel() // (experts // groups), minlength=groups)
        held += band.holds(loads.max() * groups / loads.sum())
    assert held >= 190  # 198 expected; fewer than 190 of 200 has a chance below 1e-5


def test_a_mean_over_layers_and_steps_scatters_less() -> None:
    one = expected_max_over_mean(4096, 2, 8, 8)
    many = expected_max_over_mean(4096, 2, 8, 8, num_draws=100)
    endless = expected_max_over_mean(4096, 2, 8, 8, num_draws=1_000_000)
    assert one.expected == many.expected == endless.expected
    assert many.high - many.low == pytest.approx((one.high - one.low) / 10, rel=0.35)
    assert endless.high - endless.low < 1e-3
    assert one.low < many.low < many.expected < many.high < one.high


def test_a_hot_rank_is_no_chance() -> None:
    band = expected_max_over_mean(2048, 2, 8, 4, num_draws=5)
    assert not band.holds(2.4)
    assert not band.holds(1.0)  # no router without preference is that even
    assert band.holds(band.expected)


def test_the_same_question_has_the_same_answer() -> None:
    assert expected_max_over_mean(777, 2, 16, 4) == expected_max_over_mean(777, 2, 16, 4)


def test_certain_loads() -> None:
    for band in (expected_max_over_mean(9, 4, 4, 2), expected_max_over_mean(9, 2, 4, 1)):
        assert (band.expected, band.low, band.high, band.basis) == (1, 1, 1, "exact")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 4, 4), "0 tokens"),
        ((8, 5, 4, 4), "to 5 of 4 experts"),
        ((8, 0, 4, 4), "to 0 of 4 experts"),
        ((8, 1, 6, 4), "do not split evenly over 4 groups"),
        ((8, 1, 4, 0), "over 0 groups"),
    ],
)
def test_what_chance_does_not_know(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        expected_max_over_mean(*arguments)
