"""Mixed jobs: losses are those of one process, and measured volumes are those of theory, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("torch", reason="reference jobs need torch")

import torch
from launched.run_jobs import losses, ranges, run_job

from instrumented_runs.mixes.ring import positions, visible_pairs
from instrumented_runs.mixes.settings import MixSettings
from instrumented_runs.settle import settle
from traceanalyzer.analysis.assemble import read
from traceanalyzer.analysis.measure import measure
from traceanalyzer.errors import UsageError
from traceanalyzer.measurements.communication.placed_bytes import placed_bytes
from traceanalyzer.theory.experts.volumes import ExpertLayer
from traceanalyzer.theory.interconnect.dimension_volumes import (
    ContextExchange,
    context_parallel_bytes,
    data_parallel_elements,
    pipeline_bytes,
    tensor_parallel_bytes,
)

SIZES = {"num_steps": 1, "num_unprofiled_steps": 1}
PARAMETERS = 64 * 32 + 32 * 32 + (32 + 64 * 32) + 2 * (2 * 32 + 4 * 32 * 32 + 3 * 32 * 64)
"""Of the default model: embeddings, head, two layers."""
BOUNDARY = 2 * 32 * 32 * 4
"""Bytes of one microbatch between layers: 2 sequences, 32 tokens, 32 wide."""


def run(folder: Path, compute: str = "real", **changes: Any) -> tuple[MixSettings, list[float]]:
    folder.mkdir()
    settings, files = settle("mix", str(folder), compute, None, {**SIZES, **changes})
    assert isinstance(settings, MixSettings)
    for name, text in files.items():
        (folder / name).write_text(text)
    run_job("mix", settings)
    return settings, losses(folder, settings.num_ranks)


def sent(folder: Path, role: str) -> tuple[dict[str, float], int]:
    """Bytes that rank 0 sends in the profiled step, by kind, and those of all ranks' messages."""
    tables = measure(read(str(folder))).tables
    found: dict[str, float] = {}
    for kind in ("all_reduce", "all_gather", "reduce_scatter"):
        of = tables.collectives.filter((pl.col("kind") == kind) & (pl.col("role") == role) & (pl.col("rank") == 0))
        large = of.filter(pl.col("send_bytes") > 4)  # the loss, one number, travels by itself
        table = placed_bytes(large, tables.p2p.clear(), tables.ranks)
        found[kind] = float(table["within_bytes"].sum() + table["unplaced_bytes"].sum())
    sends = tables.p2p.filter((pl.col("direction") == "send") & (pl.col("role") == role) & pl.col("step").is_not_null())
    return found, int(sends["bytes"].sum())


ALONE = {"dp": 1, "num_microbatches": 4}
MIXES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "FSDP2, gathered and reduced every time": ({"dp": 2, "zero": 3}, ALONE),
    "TP inside a stage": ({"tp": 2}, {}),
    "CP, zig-zag": ({"cp": 2}, {}),
    "experts in a pipeline": ({"pp": 2, "dp": 2, "ep": 2, "num_experts": 4}, ALONE | {"num_experts": 4}),
    "DDP": ({"dp": 2}, ALONE),
    "ZeRO-1": ({"dp": 2, "zero": 1}, ALONE),
    "ZeRO-2": ({"dp": 2, "zero": 2}, ALONE),
    "FSDP2, reduced once": ({"dp": 2, "zero": 3, "reduce_once": True}, ALONE),
    "CP, contiguous": ({"cp": 2, "sequence_cut": "contiguous"}, {}),
    "full recompute": ({"recompute": "full"}, {}),
    "selective recompute": ({"recompute": "selective"}, {}),
    "pipeline": ({"pp": 2}, {}),
    "naive pipeline": ({"pp": 2, "schedule": "Sequential"}, {}),
    "pipeline with DDP": ({"pp": 2, "dp": 2}, ALONE),
    "pipeline with FSDP2": ({"pp": 2, "dp": 2, "zero": 3, "reduce_once": True}, ALONE),
    "pipeline with TP": ({"pp": 2, "tp": 2}, {}),
}


@pytest.mark.runs
@pytest.mark.wide
@pytest.mark.parametrize("name", MIXES)
def test_a_mix_trains_as_one_process_does(tmp_path: Path, name: str) -> None:
    mixed, alone = MIXES[name]
    _, found = run(tmp_path / "mix", **mixed)
    _, expected = run(tmp_path / "one", **alone)
    assert found == pytest.approx(expected, abs=2e-4)
    assert min(found[1:]) < found[0]


@pytest.mark.runs
@pytest.mark.wide
@pytest.mark.parametrize(
    ("changes", "elements"),
    [
        ({"zero": 0}, data_parallel_elements(0, 2, 2)),
        ({"zero": 1}, data_parallel_elements(1, 2, 2)),
        ({"zero": 2}, data_parallel_elements(2, 2, 2)),
        ({"zero": 3}, data_parallel_elements(3, 2, 2)),
        ({"zero": 3, "reduce_once": True}, (2 * 2 + 1) / 2),
    ],
    ids=["DDP 2", "ZeRO-1 2", "ZeRO-2 1+M", "ZeRO-3 3M", "ZeRO-3 2M+1"],
)
def test_volumes_of_replicas_are_those_of_zero(tmp_path: Path, changes: dict[str, Any], elements: float) -> None:
    """Two microbatches, two replicas: passes over the weights, each (n - 1)/n of them."""
    run(tmp_path / "run", dp=2, **changes)
    assert sum(sent(tmp_path / "run", "dp")[0].values()) == elements * PARAMETERS * 4


@pytest.mark.runs
@pytest.mark.wide
def test_volumes_of_tensor_parallelism_are_those_of_theory(tmp_path: Path) -> None:
    run(tmp_path / "run", tp=2)
    found, _ = sent(tmp_path / "run", "tp")
    assert found["all_gather"] + found["reduce_scatter"] == 2 * 2 * tensor_parallel_bytes(BOUNDARY, 2)


@pytest.mark.runs
@pytest.mark.wide
@pytest.mark.parametrize("cut", ["contiguous", "zigzag"])
def test_volumes_and_balance_of_a_ring_are_those_of_theory(tmp_path: Path, cut: str) -> None:
    """Paced by visible pairs: the time of attention over the mean is that of the published balance (136 and 392 pairs)."""
    run(tmp_path / "run", "paced", cp=2, sequence_cut=cut, attention_us_per_pair=40.0)
    _, messages = sent(tmp_path / "run", "cp")
    theory = context_parallel_bytes(2 * 16, 2 * 32, 0, 4, 2, ContextExchange.RING)
    assert messages == 2 * 2 * 2 * theory  # ranks, layers, microbatches
    spent = [sum(end - start for _, start, end in ranges(tmp_path / "run", rank, "cp:attention")) for rank in (0, 1)]
    expected = 2 * 392 / (136 + 392) if cut == "contiguous" else 1.0
    assert max(spent) / (sum(spent) / 2) == pytest.approx(expected, abs=0.06)


@pytest.mark.runs
@pytest.mark.wide
def test_volumes_of_a_pipeline_are_those_of_theory(tmp_path: Path) -> None:
    run(tmp_path / "run", pp=2)
    assert sent(tmp_path / "run", "pp")[1] == pipeline_bytes(BOUNDARY, 2, 1, 2)


@pytest.mark.runs
@pytest.mark.wide
def test_volumes_of_experts_in_a_pipeline_are_those_of_theory(tmp_path: Path) -> None:
    """PP=2×EP=2: messages of both pipelines, rows and counts of both expert groups, gradients beside the experts."""
    run(tmp_path / "run", pp=2, dp=2, ep=2, num_experts=4)
    tables = measure(read(str(tmp_path / "run"))).tables
    messages = tables.p2p.filter((pl.col("direction") == "send") & pl.col("step").is_not_null())
    assert messages["bytes"].sum() == 2 * pipeline_bytes(BOUNDARY, 2, 1, 2)
    calls = tables.collectives.filter(pl.col("send_bytes") > 4)  # the loss, one number, travels by itself
    assert set(calls["group"].unique()) == {"0,1", "2,3"}
    exchanges = calls.filter(pl.col("kind") == "all_to_all").with_columns(pl.col("send_splits").list.len() > 0)
    assert exchanges["role"].unique().to_list() == ["ep"]
    layer = ExpertLayer(
        tokens_per_rank=64, experts_per_token=2, num_experts=4, hidden_size=32, bytes_per_element=4, num_ranks=2
    )
    # dispatch and combine, forward and backward, of a layer per stage and two microbatches; each moves k·S
    assert exchanges.filter("send_splits")["send_bytes"].sum() == 4 * 2 * 2 * (2 * layer.group_bytes)
    assert exchanges.filter(~pl.col("send_splits"))["send_bytes"].sum() == 4 * 2 * 4 * 8  # ranks, microbatches, experts
    reduced = calls.filter(pl.col("kind") == "all_reduce").sort("rank")["send_bytes"].to_list()
    beside = 32 + 4 * 32 * 32 + 2 * 32 + 4 * 32  # norms, attention and router of a layer
    first, last = 4 * (beside + 64 * 32 + 32 * 32), 4 * (beside + 32 + 64 * 32)
    assert reduced == [first, first, last, last]


@pytest.mark.parametrize(
    ("size", "length", "cut", "work"),
    [
        (2, 32, "contiguous", [136, 392]),
        (2, 32, "zigzag", [264, 264]),
        (4, 64, "contiguous", [136, 392, 648, 904]),
        (4, 64, "zigzag", [520] * 4),
        (8, 128, "zigzag", [1032] * 8),
    ],
)
def test_visible_pairs_of_every_rank(size: int, length: int, cut: str, work: list[int]) -> None:
    everything = torch.arange(length)
    assert [visible_pairs(positions(length, place, size, cut), everything) for place in range(size)] == work


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pp": 3}, "num_layers 2 does not divide by 3"),
        ({"tp": 3}, "num_heads 4 does not divide by 3"),
        ({"cp": 2, "tp": 2}, "choose cp or tp"),
        ({"dp": 4, "ep": 2, "num_experts": 4}, "ep = dp"),
        ({"num_ranks": 3}, "is 1, not 3"),
        ({"zero": 4}, "zero is 4"),
        ({"pp": 2, "dp": 2, "zero": 3}, "reduce_once = true"),
    ],
)
def test_mixes_that_nothing_makes_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        MixSettings(folder="", **changes)
    assert says in f"{caught.value.message} {caught.value.hint}"
