"""Rows of bars: every rank of a small job; of a large one a stage or host together, with outliers kept."""

from __future__ import annotations

import polars as pl
from report_cases import pipeline_case

from reports.sections.material import Material
from reports.sections.rows import MAX_GROUPS, MAX_OUTLIERS, rows_of

REVIEW = pipeline_case()[0]


def values(number: int, apart: dict[int, float] | None = None) -> pl.DataFrame:
    """Ranks of about 3, each a little different, but for those given."""
    found = [(rank, (apart or {}).get(rank, 3.0 + 0.01 * (rank % 5))) for rank in range(number)]
    return pl.DataFrame(found, schema={"rank": pl.Int64, "value": pl.Float64}, orient="row")


def hosts(number: int, each: int) -> Material:
    ranks = pl.DataFrame({"rank": range(number), "host": [f"h{rank // each}" for rank in range(number)]})
    return Material(REVIEW, {"ranks": ranks})


def test_each_rank_of_a_small_job_has_its_row() -> None:
    rows = rows_of(hosts(12, 4), values(12))
    assert rows.names == [f"rank {rank}" for rank in range(12)]
    assert rows.said == ""


def test_ranks_of_a_host_share_a_row_and_outliers_keep_theirs() -> None:
    rows = rows_of(hosts(40, 8), values(40, {11: 9.0}), [30])
    assert rows.names == [
        "host 0 · 8 ranks", "host 1 · 7 ranks", "rank 11", "host 2 · 8 ranks", "host 3 · 7 ranks", "rank 30", "host 4 · 8 ranks",
    ]  # fmt: skip
    means = dict(rows.means(values(40, {11: 9.0})).iter_rows())
    assert means[2] == 9.0
    assert 3.0 < means[1] < 3.05, "the outlier is not in the mean of its host"


def test_rows_are_bounded_however_many_ranks_differ() -> None:
    for material, number in ((hosts(960, 8), 960), (Material(REVIEW, {}), 1000)):
        rows = rows_of(material, values(number, {rank: 9.0 + rank for rank in range(7, number, 31)}))
        assert len(rows.rows) <= MAX_GROUPS + MAX_OUTLIERS
        assert sorted(rank for row in rows.rows for rank in row.ranks) == list(range(number))


def test_a_clean_large_job_has_no_outlier() -> None:
    assert rows_of(hosts(64, 8), values(64)).said.endswith("row.")
