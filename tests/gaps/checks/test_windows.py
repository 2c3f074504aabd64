"""The moment that a finding is shown at."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.gaps.checks.windows import with_windows
from traceanalyzer.review import Finding
from traceanalyzer.schema import ACTIONS, COLLECTIVE_SPLITS, COLLECTIVES, P2P_SPLITS, conform, empty

WAITS = [
    {"rank": 0, "kind": "all_to_all", "late_rank": 2, "start_ns": 100, "end_ns": 190, "wait_ns": 60},
    {"rank": 1, "kind": "all_to_all", "late_rank": 2, "start_ns": 300, "end_ns": 420, "wait_ns": 110},
    {"rank": 2, "kind": "all_to_all", "late_rank": 2, "start_ns": 500, "end_ns": 700, "wait_ns": 190},
    {"rank": 0, "kind": "all_to_all", "late_rank": 1, "start_ns": 800, "end_ns": 990, "wait_ns": 180},
    {"rank": 0, "kind": "all_reduce", "late_rank": 2, "start_ns": 1000, "end_ns": 1900, "wait_ns": 800},
]


def finding(name: str, rank: int | None) -> Finding:
    return Finding(
        id=name, title="", passed=False, worth_ms=1.0, worth_mfu_points=None, evidence="", action="", rank=rank,
        start_ns=None, end_ns=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rank", "window"), [(2, (300, 410)), (1, (800, 980)), (0, (None, None)), (None, (None, None))]
)
def test_a_hot_rank_shows_where_another_waits_longest_for_it_even_without_a_pipeline(
    rank: int | None, window: tuple[int | None, int | None]
) -> None:
    exchanges = conform(pl.DataFrame(WAITS), COLLECTIVE_SPLITS)
    nothing = (empty(ACTIONS), empty(P2P_SPLITS), empty(COLLECTIVES))
    (found,) = with_windows([finding("experts.balanced", rank)], *nothing, exchanges)
    assert (found.start_ns, found.end_ns) == window
