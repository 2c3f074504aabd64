"""From a folder of tiny traces to the review."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from inputs.tiny_trace import BASE_NS, TinyRank, run_of
from launched.gpipe_run import GPIPE, review_of, with_job

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import json_schema, to_json

# GPipe, P=2, M=2, forward 10 ms, backward 20 ms, nothing late: bubble (P-1)/(M+P-1) = 1/3.


def clocks(*offsets: int, uncertainty: int = 1000) -> list[dict[str, Any]]:
    """Rank records on one host each, with constant clock offsets in nanoseconds."""
    return [
        {
            "rank": rank,
            "host": f"host{rank}",
            "pid": 100 + rank,
            "cores": [0],
            **{
                when: {"offset_ns": offset, "uncertainty_ns": uncertainty, "at_ns": BASE_NS + at}
                for when, at in (("clock_start", 0), ("clock_end", 10**9))
            },
        }
        for rank, offset in enumerate(offsets)
    ]


def test_a_perfect_gpipe_has_exactly_the_textbook_bubble(tmp_path: Path) -> None:
    review = review_of(with_job(run_of(tmp_path, GPIPE)))
    bubble = review["bubble"]
    assert bubble["measured_share"] == pytest.approx(1 / 3, abs=1e-12)
    assert bubble["theory"]["closed_form_share"] == pytest.approx(1 / 3)
    assert bubble["theory"]["simulated_share"] == pytest.approx(1 / 3)
    assert bubble["measured_ratio"] == pytest.approx(1 / 2)
    assert review["job"]["schedule"] == {"value": "GPipe", "source": "inferred", "confidence": 1.0, "basis": None}
    assert [stage["overhead_ms"] for stage in bubble["stages"]] == [0.0, 0.0]
    assert [stage["transfer_ms"] for stage in bubble["stages"]] == [None, None]
    assert bubble["phase_ms"] == 90


def test_the_bubble_needs_no_run_json(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    without = review_of(tmp_path)["bubble"]
    assert review_of(with_job(tmp_path))["bubble"] == without


def test_offsets_of_ranks_that_share_a_clock_are_not_applied(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    without = review_of(tmp_path)["bubble"]
    records = [record | {"host": "alpha"} for record in clocks(0, 700)]
    assert review_of(with_job(tmp_path, ranks=records))["bubble"] == without


def test_ranks_of_different_hosts_are_put_on_one_clock(tmp_path: Path) -> None:
    for rank, line in enumerate(GPIPE):
        alone = tmp_path / "alone"
        run_of(alone, GPIPE)
        trace = TinyRank(rank, 2, host=f"host{rank}", shift_us=rank * 5000)
        for item in line.split():
            name, times = item.split("@")
            start, end = times.split("-")
            trace.annotate(f"compute:{name}", float(start), float(end))
        trace.step(1, 0, 90_000).write(tmp_path / "run")
    unknown = review_of(tmp_path / "run")
    assert unknown["bubble"] is None
    assert unknown["quality"]["clock_basis"] == "unknown"
    assert any("hosts" in item["reason"] for item in unknown["quality"]["withheld"] if item["metric"] == "bubble")
    aligned = review_of(with_job(tmp_path / "run", ranks=clocks(0, 5_000_000)))
    assert aligned["quality"]["clock_basis"] == "recorded"
    assert aligned["quality"]["clock_residual_ns"] == 1000
    assert aligned["bubble"]["measured_share"] == review_of(tmp_path / "alone")["bubble"]["measured_share"]


def test_a_missing_rank_withholds_the_jobs_bubble(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    (tmp_path / "traces" / "rank00001.json").unlink()
    for verdict in ("sampled", "partial"):  # run.json promises all ranks; without it they were sampled by design
        review = review_of(tmp_path)
        with_job(tmp_path)
        assert review["bubble"] is None
        assert review["quality"]["verdict"] == verdict
        assert any("1 of 2 ranks" in line for line in review["warnings"])


def test_a_slow_stage_shows_as_bubble_beyond_theory(tmp_path: Path) -> None:
    slow = [
        "0F0@0-10 0F1@10-20 0B0@70-90 0B1@100-120",
        "1F0@10-25 1F1@25-40 1B0@40-70 1B1@70-100",
    ]
    review = review_of(run_of(tmp_path, slow))
    bubble = review["bubble"]
    assert bubble["measured_share"] > bubble["theory"]["simulated_share"] + 0.03
    (finding,) = (item for item in review["findings"] if item["id"] == "bubble.is_the_schedules")
    assert not finding["passed"]
    assert finding["rank"] == 1
    assert finding["worth_ms"] is None  # a size beside theory is no saving: what repairs save is replayed
    assert "even out the stages" in finding["action"]


def test_a_stage_that_computes_less_is_named_for_the_waiting_of_its_rank(tmp_path: Path) -> None:
    short = [
        "0F0@0-10 0F1@10-20 0B0@100-105 0B1@130-135",
        "1F0@10-20 1F1@20-30 1B0@70-100 1B1@100-130",
        "2F0@20-30 2F1@30-40 2B0@40-70 2B1@70-100",
    ]
    review = review_of(run_of(tmp_path, short))
    theory = review["bubble"]["theory"]
    assert (theory["simulated_share"], theory["own_times_share"]) == (0.5, pytest.approx(1 - 190 / (3 * 135)))
    (finding,) = (item for item in review["findings"] if item["id"] == "bubble.is_the_schedules")
    assert (finding["passed"], finding["rank"]) == (False, 0)
    assert "mostly because stages are unequal" in finding["evidence"]
    assert "those of rank 0 take least" in finding["action"]


def test_a_run_without_pipeline_invents_no_bubble(tmp_path: Path) -> None:
    TinyRank(0, 1).step(1, 0, 50).event("aten::mm", 5, 20, "cpu_op").write(tmp_path)
    review = review_of(tmp_path)
    assert review["bubble"] is None
    assert {tile["id"]: tile["status"] for tile in review["headline"]["tiles"]} == {
        "compute": "neutral",
        "step_time": "neutral",
    }
    owners = {row["owner"]: row["ms"] for row in review["accounting"]["owners"]}
    assert owners == pytest.approx({"compute": 0.015, "host": 0.035})


def test_review_satisfies_the_schema_in_the_package(tmp_path: Path) -> None:
    stored = json.loads(resources.files("traceanalyzer.review").joinpath("review.schema.json").read_text())
    assert stored == json_schema(), (
        "run `python -c 'from traceanalyzer.review import schema_text as text; print(text(), end=\"\")' "
        "> traceanalyzer/review/review.schema.json`"
    )
    review = analyze(read(run_of(tmp_path, GPIPE))).review
    jsonschema.validate(json.loads(to_json(review)), stored)


def at(value: Any, names: list[str]) -> Any:
    """What stands at a path; of a list, what stands there in each of its entries."""
    if not names or value is None:
        return value
    if isinstance(value, list):
        return [at(item, names) for item in value]
    return at(value[names[0]], names[1:])


def test_withheld_metrics_are_null_and_null_headlines_are_explained(tmp_path: Path) -> None:
    review = review_of(run_of(tmp_path, GPIPE))
    withheld = {item["metric"] for item in review["quality"]["withheld"]}
    assert {"all_to_all", "mfu.mfu"} <= withheld
    for path in withheld:
        assert at(review, path.split(".")) in (None, [None, None]), path


def test_mfu_of_a_paced_run_is_withheld(tmp_path: Path) -> None:
    peak = {"flops_per_second": 1e9, "shape": [8, 8, 8], "dtype": "float32", "num_threads": 1}
    hardware = {"device": "cpu", "measured_peak": peak}
    run_of(tmp_path, GPIPE)
    paced = review_of(with_job(tmp_path, compute_mode="paced", hardware=hardware))
    assert paced["mfu"]["mfu"] is None
    assert any("paced" in item["reason"] for item in paced["quality"]["withheld"] if item["metric"] == "mfu.mfu")
    real = review_of(with_job(tmp_path, hardware=hardware))
    # Per layer 4·8·8 attention weights and 2·8·16 MLP, logits 8·32: 2 FLOPs each; a query reads half the sequence.
    forward = 2 * (2 * (4 * 8 * 8 + 2 * 8 * 16) + 8 * 32) + 2 * (2 * 2 * 8 * 8 / 2)
    assert real["mfu"]["flops_per_step"] == 3 * forward * 64
    assert real["mfu"]["mfu"] == pytest.approx(3 * forward * 64 / (0.09 * 1e9 * 2))
    assert paced["waterfall"] == []
    peak_bar, *losses = real["waterfall"]
    assert (peak_bar["ms"], peak_bar["mfu_points"]) == (90, 100)
    assert sum(bar["ms"] for bar in losses) == pytest.approx(90)
    assert losses[-1]["mfu_points"] == pytest.approx(100 * real["mfu"]["mfu"])


def test_a_step_that_lacks_a_rank_is_not_whole(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    first = TinyRank(0, 2)
    for step, shift in ((1, 0), (2, 100_000), (3, 200_000)):  # rank 1 has step 1 only
        for item in GPIPE[0].split():
            name, times = item.split("@")
            start, end = times.split("-")
            first.annotate(f"compute:{name}", float(start) + shift, float(end) + shift)
        first.step(step, shift, shift + 90_000)
    first.write(tmp_path)
    review = review_of(tmp_path)
    assert [row["step"] for row in review["bubble"]["steps"]] == [1]
    assert review["bubble"]["measured_share"] == pytest.approx(1 / 3)


def test_clocks_that_contradict_the_dependencies_withhold_the_bubble(tmp_path: Path) -> None:
    for rank, line in enumerate(GPIPE):
        trace = TinyRank(rank, 2, shift_us=rank * 50_000)  # one host by name, two clocks in truth
        for item in line.split():
            name, times = item.split("@")
            start, end = times.split("-")
            trace.annotate(f"compute:{name}", float(start), float(end))
        trace.step(1, 0, 90_000).write(tmp_path)
    review = review_of(tmp_path)
    assert review["bubble"] is None
    (reason,) = (item["reason"] for item in review["quality"]["withheld"] if item["metric"] == "bubble")
    assert "before what it needs" in reason


def test_replicas_that_cannot_be_separated_are_no_pipeline(tmp_path: Path) -> None:
    run_of(tmp_path, [GPIPE[0], GPIPE[0], GPIPE[1], GPIPE[1]])
    review = review_of(tmp_path)
    assert review["bubble"] is None
    assert any("same stage" in item["reason"] for item in review["quality"]["withheld"])


def test_one_stage_is_no_pipeline(tmp_path: Path) -> None:
    review = review_of(run_of(tmp_path, ["0F0@0-10 0B0@10-30"]))
    assert review["bubble"] is None


def test_a_declared_schedule_gives_no_closed_form_to_another_order(tmp_path: Path) -> None:
    odd = ["0F0@0-10 0F1@10-20 0B1@60-80 0B0@80-100", "1F0@10-20 1B0@20-40 1F1@40-50 1B1@50-60"]
    review = review_of(with_job(run_of(tmp_path, odd), schedule="1F1B"))
    theory = review["bubble"]["theory"]
    assert theory["closed_form_share"] is None
    assert theory["simulated_share"] is not None
    assert review["job"]["schedule"]["source"] == "declared"
    unknown = review_of(with_job(tmp_path, schedule="MyOwnOrder"))
    assert unknown["bubble"]["theory"] == theory
