"""Communication of real multi-rank traces. The expected figures come from the files themselves, read anew here."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from launched.communication_run import Measured, measure

pytestmark = pytest.mark.corpus
WHOLE = {"torchrec-a2a-v100/run4": 4, "torchrec-resnet18": 2, "megatron-tp2-v100": 2, "dlrm8-v100": 8}
"""Sets all of whose ranks were captured."""


@pytest.fixture(scope="module", params=WHOLE)
def whole(request: pytest.FixtureRequest, corpus: Path) -> Measured:
    return measure(corpus / request.param)


def test_every_collective_of_a_step_is_matched_on_all_members(whole: Measured) -> None:
    table = whole.collectives
    in_step = table.filter(pl.col("step").is_not_null())
    assert in_step.height > 20
    assert in_step["unmatched"].null_count() == in_step.height
    assert (in_step["num_present"] == in_step["num_members"]).all()
    rest = table.filter(pl.col("step").is_null())
    assert set(rest["unmatched"]) <= {"launched before the capture or outside its steps"}


def test_both_bases_agree_to_within_clock_residual_and_spread_of_ends(whole: Measured) -> None:
    residual = whole.tables.clock.residual_ns
    assert residual is not None
    assert residual < 200_000
    both = whole.collectives.filter(pl.col("wait_durations_ns").is_not_null() & pl.col("wait_clock_ns").is_not_null())
    spread = pl.col("end_ns").max().over("match") - pl.col("end_ns").min().over("match")
    apart = (pl.col("wait_durations_ns") - pl.col("wait_clock_ns")).abs()
    assert both.filter(apart > spread + 2 * residual).is_empty()
    if both.height:
        assert both["wait_durations_ns"].sum() == pytest.approx(both["wait_clock_ns"].sum(), rel=0.1)


def test_solved_clocks_keep_causality(whole: Measured) -> None:
    """On the solved clocks no member of an all-reduce ends before another has started, beyond the residual."""
    table = whole.collectives.filter((pl.col("kind") == "all_reduce") & pl.col("match").is_not_null())
    residual = whole.tables.clock.residual_ns or 0
    late = table.group_by("match").agg(pl.col("start_ns").max() - pl.col("end_ns").min())
    assert late.filter(pl.col("start_ns") > 2 * residual).is_empty()


def raw_events(folder: Path) -> list[list[dict[str, Any]]]:
    return [json.loads(gzip.decompress(file.read_bytes()))["traceEvents"] for file in sorted(folder.glob("*.gz"))]


def nth_all_reduce(ranks: list[list[dict[str, Any]]], n: int) -> float:
    """Shortest duration in seconds of the n-th all-reduce kernel over the ranks (these captures are whole)."""
    found = []
    for events in ranks:
        kernels = [e for e in events if e.get("cat") == "kernel" and "AllReduce" in e["name"]]
        found.append(sorted(kernels, key=lambda e: e["ts"])[n]["dur"])
    return min(found) * 1e-6


@pytest.mark.parametrize(
    ("name", "members", "n", "num_bytes"),
    [
        ("megatron-tp2-v100", 2, 0, 6144 * 4),
        ("megatron-tp2-v100", 2, 12, 6144 * 4),
        ("dlrm8-v100", 8, 0, 394_241 * 4),
    ],
)
def test_bus_bandwidth_is_that_of_a_calculation_by_hand(
    corpus: Path, name: str, members: int, n: int, num_bytes: int
) -> None:
    """2(n-1)/n x bytes ÷ shortest duration."""
    table = measure(corpus / name).collectives.filter((pl.col("kind") == "all_reduce") & (pl.col("rank") == 0))
    row = table.sort("start_ns").row(n, named=True)
    assert row["send_bytes"] == num_bytes
    by_hand = 2 * (members - 1) / members * num_bytes / nth_all_reduce(raw_events(corpus / name), n)
    assert row["bus_bytes_per_second"] == pytest.approx(by_hand, rel=1e-6)


def reference(corpus: Path) -> dict[str, dict[str, str]]:
    with (corpus / "reference.csv").open(encoding="utf-8") as lines:
        return {row["file"].removesuffix(".gz"): row for row in csv.DictReader(lines)}


@pytest.mark.parametrize(
    "name", [*WHOLE, "nanogpt-h100/baseline", "torchao-ep-moe-b200", "nccl-args-a100", "deepseek-dualpipe-h800"]
)
def test_communication_by_name_is_that_of_the_independent_reference(corpus: Path, name: str) -> None:
    """The reference counts what DeepEP does before an exchange as communication too."""
    tables = measure(corpus / name).tables
    known = reference(corpus)
    communicates = pl.col("kind").is_in(["communication", "barrier"]) | pl.col("name").cast(pl.String).str.contains(
        "get_dispatch_layout"
    )
    duration = (pl.col("end_ns") - pl.col("start_ns")).sum()
    by_rank = tables.kernels.filter(communicates).group_by("rank").agg(pl.len(), duration.alias("ns"))
    for rank, count, total in by_rank.rows():
        row = known[Path(tables.ranks.filter(rank=rank)["file"].item()).name.removesuffix(".gz")]
        assert count == int(row["n_comm"])
        assert total / 1000 == pytest.approx(float(row["comm_sum_us"]), abs=0.001)


def test_an_exchange_is_transfer_and_its_notification_is_not(corpus: Path) -> None:
    """DeepSeek's own trace: 16 exchanges of 80452 µs, 16 notifications of 32578 µs, 16 attention kernels of 21965 µs."""
    kernels = measure(corpus / "deepseek-dualpipe-h800").tables.kernels
    totals = kernels.group_by(pl.col("kind").cast(pl.String)).agg(
        pl.len(), (pl.col("end_ns") - pl.col("start_ns")).sum() // 1000
    )
    found = {kind: (count, total) for kind, count, total in totals.rows()}
    assert found["communication"] == (16, 80_452)
    assert found["barrier"] == (16, 32_578)
    assert found["attention"] == (16, 21_965)


def test_split_sizes_of_a_real_exchange_are_read(corpus: Path) -> None:
    table = measure(corpus / "torchao-ep-moe-b200").collectives.filter(pl.col("step").is_not_null())
    assert table.height == 30
    large = table.filter(pl.col("send_bytes") > 1_000_000).row(0, named=True)
    assert large["send_splits"] == [4096, 4096]
    assert large["send_bytes"] == 58_720_256 * 2
    assert large["role"] == "ep"
    assert set(table["unmatched"]) == {"members were not captured"}


@pytest.mark.parametrize("prefix", ["1f1b_native", "1f1b_runtime", "dualpipev"])
def test_clocks_from_messages_of_gloo_hold_the_truth_of_one_host(corpus: Path, tmp_path: Path, prefix: str) -> None:
    """These ranks shared a clock, so every solved offset must be zero to within its residual."""
    for file in (corpus / "gloo-torch213").glob(f"{prefix}_rank*.json.gz"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    measured = measure(tmp_path)
    table = measured.tables.clocks
    assert measured.tables.clock.basis == "same_host"
    assert table["solved_offset_ns"].null_count() == 0
    assert (table["solved_offset_ns"].abs() <= table["solved_residual_ns"]).all()
    assert table["solved_residual_ns"].max() < 2_000_000
    matched = measured.p2p.filter(pl.col("match").is_not_null())
    assert matched.height == measured.p2p.height
