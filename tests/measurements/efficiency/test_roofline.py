"""Time lost to the roof, by shape."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.hardware import find_device
from traceanalyzer.measurements.efficiency.roofline import covered_share, number_formats, operator_times, roofline
from traceanalyzer.measurements.efficiency.shape_flops import shape_flops
from traceanalyzer.schema import EVENTS, KERNELS, conform
from traceanalyzer.tables.computation.kernels import kernels
from traceanalyzer.traces.read import read_traces


def operators(*rows: tuple[str, list[list[int]], int, int], dtype: str = "c10::BFloat16") -> pl.DataFrame:
    """Operators of (name, input sizes, start, end) on one thread."""
    events = [
        {
            "rank": 0, "cycle": 0, "index": index, "thread": "1", "ph": "X", "category": "cpu_op", "name": name,
            "start_ns": start, "duration_ns": end - start,
            "args": json.dumps({"Input Dims": sizes, "Input type": [dtype] * len(sizes)}),
        }
        for index, (name, sizes, start, end) in enumerate(rows)
    ]  # fmt: skip
    return shape_flops(conform(pl.DataFrame(events), EVENTS))


def launched(*rows: tuple[int | None, int, int], kind: str = "gemm", thread: str = "1") -> pl.DataFrame:
    """Kernels of (launch, start, end)."""
    names = ["launch_start_ns", "start_ns", "end_ns"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Int64), orient="row")
    more = {"rank": 0, "cycle": 0, "index": 0, "launch_thread": thread, "kind": kind, "name": "k", "stream": 7}
    return conform(frame.with_columns(**{name: pl.lit(value) for name, value in more.items()}), KERNELS)


SQUARE = [[100, 100], [100, 100]]  # 2e6 FLOPs, 60 000 bytes


def test_device_time_is_that_of_the_kernels_an_operator_launched() -> None:
    table = operators(("aten::mm", SQUARE, 0, 10), ("aten::mm", SQUARE, 20, 30), ("aten::mm", SQUARE, 40, 50))
    device = launched((2, 100, 150), (9, 150, 160), (22, 160, 260), (15, 260, 300), (None, 0, 50))
    timed = operator_times(table, device)
    assert timed["duration_ns"].to_list() == [60, 100, None]  # the third one's kernel was not recorded
    assert operator_times(table, launched((2, 100, 150), thread="2"))["duration_ns"].to_list() == [None] * 3
    # Launched compute: 50 + 10 + 100 + 40, of which the kernel launched at 15 belongs to no known operator.
    assert covered_share(timed, device).rows() == [(0, 0.8)]


def test_on_a_cpu_an_operator_s_time_is_its_own() -> None:
    table = operators(("aten::mm", SQUARE, 0, 10), ("aten::mm", SQUARE, 20, 35))
    assert operator_times(table, pl.DataFrame(schema=KERNELS))["duration_ns"].to_list() == [10, 15]


def test_compute_bound_by_hand() -> None:
    timed = operators(("aten::mm", SQUARE, 0, 1000), ("aten::mm", SQUARE, 1000, 4000)).with_columns(
        duration_ns=pl.col("end_ns") - pl.col("start_ns")
    )
    (row,) = roofline(timed, {"bf16": 2e12}, 1e12).rows(named=True)
    assert row == {
        "name": "aten::mm",
        "kind": "gemm",
        "dtype": "c10::BFloat16",
        "shape": "100x100 100x100",
        "num_calls": 2,
        "duration_ns": 4000,
        "flops": 4_000_000,
        "bytes": 120_000,
        "flops_per_second": 1e12,
        "roof_flops_per_second": pytest.approx(2e12),
        "bound": "compute",
        "roof_share": pytest.approx(0.5),
        "lost_ns": 2000,
    }


def test_memory_bound_by_hand() -> None:
    timed = operators(("aten::mm", SQUARE, 0, 1000)).with_columns(duration_ns=pl.lit(1000))
    row = roofline(timed, {"bf16": 1e13}, 1e11).row(0, named=True)  # 0.2 us of arithmetic, 0.6 us of memory
    assert (row["bound"], row["lost_ns"], row["roof_share"]) == ("memory", 400, pytest.approx(0.6))
    unknown = roofline(timed, {"bf16": 1e13}, None).row(0, named=True)
    assert (unknown["bound"], unknown["lost_ns"]) == ("compute", 800)


def test_a_roof_that_is_exceeded_or_unknown_is_withheld() -> None:
    timed = operators(("aten::mm", SQUARE, 0, 1000)).with_columns(duration_ns=pl.lit(1000))
    for peaks in ({"bf16": 1e12}, {"fp16": 1e13}, {}):
        row = roofline(timed, peaks, None).row(0, named=True)
        assert row["flops_per_second"] == 2e12
        assert [row[name] for name in ("roof_flops_per_second", "bound", "roof_share", "lost_ns")] == [None] * 4


def test_largest_loss_first_and_fused_causal_attention_by_half() -> None:
    sizes = [[1, 1, 64, 32]] * 3
    causal = {"Input Dims": sizes, "Input type": ["float"] * 3, "Concrete Inputs": ["", "", "", "0.", "True"]}
    event = {
        "rank": 0, "cycle": 0, "index": 0, "thread": "1", "ph": "X", "category": "cpu_op", "start_ns": 0,
        "duration_ns": 10, "name": "aten::_scaled_dot_product_flash_attention", "args": json.dumps(causal),
    }  # fmt: skip
    attention = shape_flops(conform(pl.DataFrame([event]), EVENTS))
    multiplication = operators(("aten::mm", SQUARE, 20, 30), dtype="float")
    timed = pl.concat([attention, multiplication]).with_columns(duration_ns=pl.lit(10_000))
    found = roofline(timed, {"fp32": 1e12}, None)
    half = 2 * 64 * 64 * (32 + 32) // 2
    assert found["kind"].to_list() == ["attention", "gemm"]
    assert found["flops"].to_list() == [half, 2_000_000]
    assert found["lost_ns"].to_list() == [round(10_000 - half / 1000), 8_000]


def test_flops_by_number_format() -> None:
    table = pl.concat(
        [
            operators(("aten::mm", SQUARE, 0, 1), ("aten::mm", SQUARE, 1, 2), ("aten::mm", SQUARE, 2, 3)),
            operators(("aten::_scaled_mm", SQUARE, 3, 4), dtype="c10::Float8_e4m3fn"),
            operators(("aten::mm", [[], []], 5, 6)),
        ]
    )
    assert number_formats(table).rows() == [("bf16", 6_000_000, 0.75), ("fp8", 2_000_000, 0.25)]


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("file", "covered"),
    [("singles-h100/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz", 1.0), ("nanogpt-h100/baseline", 0.836)],
)
def test_real_traces(file: str, covered: float, corpus: Path) -> None:
    events = read_traces(corpus / file).events
    device, spec = kernels(events), find_device("NVIDIA H100 80GB HBM3")
    timed = operator_times(shape_flops(events), device)
    (rank,) = covered_share(timed, device).rows()
    assert rank[1] == pytest.approx(covered, abs=0.001)  # flash-attn's own operators have no shapes that are read here
    found = roofline(timed, spec.flops_per_second, spec.memory_bytes_per_second)
    assert found["lost_ns"].null_count() == 0  # nothing was faster than the H100's published peaks allow
    assert found["roof_share"].is_between(0, 0.85).all()
