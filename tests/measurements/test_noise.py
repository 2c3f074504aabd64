"""Noise of the median step."""

from __future__ import annotations

import numpy as np
import pytest

from traceanalyzer.measurements.capture.noise import step_noise


def test_noise_is_half_the_bootstrap_interval_of_the_median() -> None:
    values = np.random.default_rng(5).normal(100.0, 4.0, 41)
    found = step_noise(values.tolist())
    assert found is not None
    assert not found.is_assumed
    drawn = np.random.default_rng(99).choice(values, (20_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    assert found.half_width_ns == pytest.approx((high - low) / 2, rel=0.1)
    assert step_noise(values[::-1].tolist()) == found


@pytest.mark.parametrize("num", [1, 4])
def test_noise_of_few_steps_is_assumed_and_said(num: int) -> None:
    found = step_noise([90.0, 110.0, 90.0, 110.0][-num:])
    assert found is not None
    assert found.is_assumed
    assert found.half_width_ns == pytest.approx({1: 2.2, 4: 2.0}[num])
    assert found.basis.startswith("2% of the median assumed")


def test_equal_steps_have_no_noise() -> None:
    found = step_noise([7.0] * 5)
    assert found is not None
    assert (found.half_width_ns, found.is_assumed) == (0.0, False)
    assert step_noise([]) is None
