"""Real paced runs against theory, repeated. The figures are kept in docs/measurements.md; a distorted run proves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.runs]


def reviewed(folder: Path, *options: str) -> dict[str, Any]:
    """The review of a fresh run; skips where the host distorted it."""
    for arguments in (
        ["run", *options, "--out", str(folder)],
        ["analyze", str(folder), "--json", str(folder) + ".json"],
    ):
        subprocess.run([sys.executable, "-m", "traceanalyzer", *arguments], check=True, timeout=300)
    review = json.loads(Path(str(folder) + ".json").read_text())
    if review["validity"]["verdict"] == "distorted":
        pytest.skip(f"the host distorted the run: {review['validity']['reasons']}")
    return review


@pytest.mark.parametrize(
    ("options", "share"),
    [
        (["pipeline", "--schedule", "1F1B"], 3 / 11),
        (["pipeline", "--schedule", "GPipe"], 3 / 11),
        (["pipeline", "--ranks", "3", "--microbatches", "5", "--forward-ms", "60", "--backward-ms", "120"], 2 / 7),
    ],
    ids=["1F1B", "GPipe", "P=3 M=5"],
)
def test_the_bubble_of_a_paced_run_is_the_textbooks(tmp_path: Path, options: list[str], share: float) -> None:
    review = reviewed(tmp_path / "run", *options)
    print("measured", review["bubble"]["measured_share"], "theory", share)
    assert review["bubble"]["measured_share"] == pytest.approx(share, rel=0.02)


def test_a_hot_rank_is_named_and_its_wait_is_what_its_tokens_take(tmp_path: Path) -> None:
    hot = reviewed(tmp_path / "hot", "experts", "--routing", "hot", "--hot-factor", "2.4")["all_to_all"]
    (group,) = hot["groups"]
    print("combine wait", group["combine_wait_ms"], "from tokens", hot["theory"]["combine_wait_ms"])
    assert hot["rank_load_max_over_mean"] == pytest.approx(2.4, rel=0.01)
    assert group["rank_load_max_over_mean_from_splits"] == pytest.approx(hot["rank_load_max_over_mean"], rel=0.01)
    assert hot["slowest_rank"] == 1
    assert group["combine_wait_ms"] == pytest.approx(hot["theory"]["combine_wait_ms"], rel=0.1)


def test_a_router_without_preference_is_within_chance_and_costs_noise(tmp_path: Path) -> None:
    review = reviewed(tmp_path / "uniform", "experts", "--routing", "uniform")
    even, steps = review["all_to_all"], review["step"]["duration_ms"]
    print("ratio", even["rank_load_max_over_mean"], "cost", even["imbalance_cost_ms"], "steps", steps["values"])
    assert even["rank_load_max_over_mean"] <= even["theory"]["chance_rank_high"]
    assert even["imbalance_cost_ms"] <= 0.05 * steps["median"]


def test_mfu_by_the_trace_and_by_the_loops_clock_agree(tmp_path: Path) -> None:
    mfu = reviewed(tmp_path / "dense", "dense")["mfu"]
    print("trace", mfu["mfu"], "clock", mfu["mfu_wall_clock"], "unprofiled", mfu["mfu_unprofiled"])
    assert mfu["mfu"] == pytest.approx(mfu["mfu_wall_clock"], rel=0.02)
