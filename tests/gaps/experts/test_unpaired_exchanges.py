"""All-to-alls without a partner, and communication kernels that only their call explains."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review
from traceanalyzer.traces import read_traces

WORLD = 3


def event(category: str, name: str, start: int, duration: int, lane: int = 1, **args: Any) -> dict[str, Any]:
    place = (0, lane) if category == "kernel" else (1, 1)
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": place[0],
        "tid": place[1],
        "ts": start,
        "dur": duration,
        "args": args,
    }


def communication(
    start: int, correlation: int, call: dict[str, Any], kernel: str, *, told: bool
) -> list[dict[str, Any]]:
    """A call, its launch and its kernel; `told`: the kernel carries the call's arguments too."""
    group = {"Process Group Name": "0", "Process Group Ranks": str(list(range(WORLD))), "Group size": WORLD}
    arguments = {"dtype": "Float", **group, **call}
    return [
        event("cpu_op", "record_param_comms", start, 10, **arguments),
        event("cuda_runtime", "hipExtLaunchKernel", start + 3, 3, correlation=correlation),
        event(
            "kernel", kernel, start + 40, 100, lane=9, correlation=correlation, stream=9, **(arguments if told else {})
        ),
    ]


def written(folder: Path, of_rank: dict[int, list[dict[str, Any]]]) -> Path:
    folder.mkdir()
    for rank, events in of_rank.items():
        document = {
            "distributedInfo": {"rank": rank, "world_size": WORLD, "backend": "nccl"},
            "deviceProperties": [{"id": 0, "name": "AMD Instinct MI300X", "numSms": 304}],
            "traceEvents": events,
        }  # fmt: skip
        (folder / f"rank{rank}.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    return folder


def step(number: int) -> list[dict[str, Any]]:
    start = number * 1000
    return [
        event("user_annotation", f"ProfilerStep#{number}", start, 999),
        event("cuda_runtime", "hipExtLaunchKernel", start + 1, 3, correlation=1 + number * 100),
        event("kernel", "Cijk_Ailk_Bljk", start + 20, 600, lane=7, correlation=1 + number * 100, stream=7),
    ]


SENT = [[[7, 1, 2], [3, 3, 3]], [[9, 2, 1], [4, 4, 1]], [[8, 3, 3], [2, 5, 2]]]
"""Rows by source rank, exchange and receiving rank."""


def embedding_tables(folder: Path, ranks: tuple[int, ...] = (0, 1, 2)) -> Review:
    """Two exchanges a step, without a computation between that a combine would follow."""
    of_rank: dict[int, list[dict[str, Any]]] = {}
    for rank in ranks:
        rows: list[dict[str, Any]] = []
        for number in range(2):
            rows += step(number)
            for index, sent in enumerate(SENT[rank]):
                received = [SENT[source][index][rank] for source in range(WORLD)]
                call = {
                    "Collective name": "all_to_allv", "In msg nelems": 16 * sum(sent), "Out msg nelems": 16 * sum(received),
                    "In split size": str(sent), "Out split size": str(received),
                }  # fmt: skip
                at = number * 1000 + 640 + 150 * index
                rows += communication(at, 2 + index + number * 100, call, "ncclDevKernel_SendRecv(x)", told=True)
        of_rank[rank] = rows
    return analyze(read(written(folder, of_rank))).review


def test_split_sizes_of_all_members_show_the_load(tmp_path: Path) -> None:
    review = embedding_tables(tmp_path / "run")
    received = [
        [sum(SENT[source][index][rank] for source in range(WORLD)) for rank in range(WORLD)] for index in range(2)
    ]
    ratios = [max(loads) * WORLD / sum(loads) for loads in received]
    assert review.all_to_all is not None
    assert review.all_to_all.rank_load_max_over_mean is not None
    assert abs(review.all_to_all.rank_load_max_over_mean - sum(ratios) / 2) < 1e-9
    assert review.all_to_all.loads_source == "unpaired_splits"
    assert review.all_to_all.imbalance_cost_ms is None
    reasons = {item.metric: item.reason for item in review.quality.withheld}
    assert "not a dispatch with a combine" in reasons["all_to_all.imbalance_cost_ms"]
    assert "mean number of rows" in str(review.headline)


def test_a_missing_member_withholds_the_load(tmp_path: Path) -> None:
    review = embedding_tables(tmp_path / "run", ranks=(0, 2))
    assert review.all_to_all is None or review.all_to_all.rank_load_max_over_mean is None


def generic(folder: Path, *, called: bool) -> Path:
    """RCCL's one kernel for everything; without arguments unless the call has them."""
    of_rank: dict[int, list[dict[str, Any]]] = {}
    for rank in range(WORLD):
        call: dict[str, Any] = {"Collective name": "_reduce_scatter_base", "In msg nelems": 900, "Out msg nelems": 300}
        rows = [*step(0), *communication(650, 2, call, "ncclDevKernel_Generic_2(ncclWork*)", told=False)]
        of_rank[rank] = rows if called else [row for row in rows if row["name"] != "record_param_comms"]
    return written(folder, of_rank)


@pytest.mark.wide
def test_the_call_shows_what_a_generic_kernel_did(tmp_path: Path) -> None:
    folder = generic(tmp_path / "called", called=True)
    assert "comm.no_metadata" not in read_traces(folder).defects["code"].to_list()
    collectives = analyze(read(folder)).tables["collectives"]
    assert collectives["kind"].cast(pl.String).to_list() == ["reduce_scatter"] * WORLD


def test_a_kernel_without_call_is_a_defect(tmp_path: Path) -> None:
    folder = generic(tmp_path / "silent", called=False)
    assert "comm.no_metadata" in read_traces(folder).defects["code"].to_list()
