"""Slices of ranks hold every row once and never divide a rank."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.tables import by_rank
from traceanalyzer.tables.by_rank import rank_slices


@pytest.fixture
def kernels() -> pl.DataFrame:
    return pl.DataFrame({"rank": [7, 2, 2, 5, 5, 5, 9], "index": [0, 1, 2, 3, 4, 5, 6]})


def test_ranks_are_cut_in_order_and_stay_whole(kernels: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_rank, "ROWS_AT_ONCE", 3)
    windows = pl.DataFrame({"rank": [0, 2, 5, 6, 7, 9, 11]})
    found = [(own["index"].to_list(), steps["rank"].to_list()) for own, steps in rank_slices(kernels, windows)]
    assert found == [([1, 2], [0, 2]), ([0, 3, 4, 5], [5, 6, 7]), ([6], [9, 11])]


def test_few_rows_are_one_slice_as_they_are(kernels: pl.DataFrame) -> None:
    ((own, other),) = rank_slices(kernels, kernels.clear())
    assert own is kernels
    assert other.is_empty()
