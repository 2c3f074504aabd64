"""Queries of agents end: by their answer, or by the bound on time or memory, and then as a refusal."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.agents.bounded import answer_within, select_within
from traceanalyzer.errors import UsageError
from traceanalyzer.queries.selection import Selection

KERNELS = {"kernels": pl.DataFrame({"rank": [0, 0, 1], "start_ns": [0, 5, 9], "end_ns": [4, 9, 20]})}
MANY = {"kernels": pl.DataFrame({"rank": range(200_000)})}
HEAVY = "select count(*) from kernels a cross join kernels b where a.rank * b.rank % 7 = 3"


def test_an_answer_is_the_one_without_bounds() -> None:
    found = answer_within(KERNELS, "select rank, sum(duration_ns) as ns from kernels group by rank order by rank", 1)
    assert (found.frame.rows(), found.num_rows) == ([(0, 8)], 2)


@pytest.mark.wide
def test_a_query_that_takes_too_long_or_too_much_is_refused() -> None:
    with pytest.raises(UsageError, match="takes more than"):
        answer_within(MANY, HEAVY, 5, seconds=4.0, most_bytes=3 << 30)
    with pytest.raises(UsageError, match=r"more than 0\.01 seconds"):
        answer_within(KERNELS, "select * from kernels", 5, seconds=0.01)


def test_what_cannot_be_answered_keeps_its_message() -> None:
    with pytest.raises(UsageError, match="cannot be answered") as refused:
        answer_within(KERNELS, "select nothing from kernels", 5)
    assert "columns of kernels" in refused.value.hint


@pytest.mark.wide
def test_a_condition_is_bounded_as_a_query_is() -> None:
    kernels = KERNELS["kernels"]
    found = select_within(kernels, Selection(where="rank = 0", sort="-start_ns", limit=1), "kernels")
    assert (found.frame.rows(), found.num_rows) == ([(0, 5, 9)], 2)
    with pytest.raises(UsageError, match=r"no column|unable to find") as refused:
        select_within(kernels, Selection(where="nothing = 1"), "kernels")
    assert "columns of kernels" in refused.value.hint
    with pytest.raises(UsageError, match=r"more than 0\.01 seconds"):
        select_within(kernels, Selection(where="rank = 0"), "kernels", seconds=0.01)
