"""The ledger's second axis on whole runs: phases against planted truth, and against the bubble's own sums."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.tiny_trace import TinyRank, run_of
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.tables.steps.parts import device_passes, main_thread_passes, optimizer_on_device, optimizer_ranges
from traceanalyzer.tables.steps.windows import steps
from traceanalyzer.traces import read_traces


def by_phase(analysis: Analysis) -> dict[tuple[int, int, str], int]:
    table = analysis.tables["accounting"]
    sums = table.group_by("rank", "step", pl.col("phase").cast(pl.String)).agg(pl.col("duration_ns").sum())
    return {(rank, step, phase): ns for rank, step, phase, ns in sums.iter_rows()}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("labels", ["runtime", None])
def test_optimizer_and_gradient_exchange_are_the_planted_ones(labels: str | None, tmp_path: Path) -> None:
    job = Job(pp=2, dp=2, labels=labels, num_microbatches=4, ranks_per_host=2)
    planted = plant(job, Faults(), tmp_path)
    found = by_phase(analyze(read(planted.traces)))
    for rank in range(job.world_size):
        for step in (1, 2):
            own: list[dict[str, Any]] = [
                op for op in planted.truth.device_ops if op["rank"] == rank and op["step"] == step
            ]
            updates = [op["end_ns"] - op["start_ns"] for op in own if op["kind"] == "optimizer"]
            assert found[rank, step, "optimizer"] == pytest.approx(sum(updates), abs=2_000)
            backward = max(op["end_ns"] for op in own if op["action"] and "B" in op["action"] and op["kind"] == "gemm")
            synced = [(op["start_ns"], op["end_ns"]) for op in own if op["kind"] == "all_reduce"]
            covered = set()
            for start, end in synced:
                covered.update(range(max(start, backward) // 1000, end // 1000))
            assert found[rank, step, "grad_sync"] == pytest.approx(len(covered) * 1000, abs=100_000)
            assert found[rank, step, "F"] > 0
            assert found[rank, step, "B"] > found[rank, step, "F"]


def test_time_between_chunks_is_what_the_bubble_finds_in_the_ranks_own_window(tmp_path: Path) -> None:
    lines = ["0F0@10-20 0F1@20-30 0B0@60-80 0B1@80-100", "1F0@22-32 1B0@32-52 1F1@53-63 1B1@63-83"]
    analysis = analyze(read(run_of(tmp_path, lines, step_us=120)))
    found = by_phase(analysis)
    spans = {
        (rank, step): span - chunk
        for rank, step, span, chunk in analysis.tables["bubble"]
        .select("rank", "step", "span_ns", "chunk_ns")
        .iter_rows()
    }
    assert {key: found[*key, "between_chunks"] for key in spans} == spans == {(0, 1): 30_000, (1, 1): 1_000}
    assert [found[rank, 1, "before_chunks"] for rank in (0, 1)] == [10_000, 22_000]
    assert found[0, 1, "F"] == 20_000
    assert found[1, 1, "other"] == 37_000


def test_phases_of_the_review_sum_to_its_owners_and_are_printed(tmp_path: Path) -> None:
    lines = ["0F0@0-10 0B0@40-60", "1F0@12-22 1B0@22-38"]
    review = analyze(read(run_of(tmp_path, lines))).review
    account = review.accounting
    for row in account.owners:
        assert sum(cell.ms for cell in account.phases if cell.owner == row.owner) == pytest.approx(row.ms)
    head = next(line for line in reports.text(review, {}).splitlines() if line.split()[:1] == ["owner"])
    phases = ["forward", "backward", "before chunks", "between chunks"]
    assert re.split(r" {2,}", head.strip()) == ["owner", "share", "in all", *phases]


def test_without_labels_autograd_separates_backward_from_forward(tmp_path: Path) -> None:
    trace = TinyRank(0, 1)
    trace.event("aten::mm", 0, 10, "cpu_op").event("aten::mul", 12, 20, "cpu_op")
    trace.event("autograd::engine::evaluate_function: MmBackward0", 25, 40, "cpu_op").event(
        "aten::mm", 26, 39, "cpu_op"
    )
    trace.event("autograd::engine::evaluate_function: AddBackward0", 41, 45, "cpu_op")
    trace.event("aten::linear", 46, 50, "cpu_op").event("autograd::engine::evaluate_function: X", 51, 60, "cpu_op")
    trace.annotate("Optimizer.step#AdamW.step", 65, 75).annotate("Optimizer.step#inner", 66, 70)
    trace.event("aten::_foreach_add_", 66, 70, "cpu_op").step(1, 0, 90).write(tmp_path)
    found = by_phase(analyze(read(tmp_path)))
    assert {phase: ns for (_, _, phase), ns in found.items()} == {
        "F": 24_000, "B": 29_000, "optimizer": 10_000, "between_chunks": 7_000, "other": 20_000,
    }  # fmt: skip
    events = read_traces(tmp_path).events
    passes = main_thread_passes(events, steps(events))
    assert passes["phase"].to_list() == ["F", "B", "F", "B"]
    assert optimizer_ranges(events).height == 1


def test_on_devices_the_launching_thread_shows_backward_and_names_the_optimizer(tmp_path: Path) -> None:
    job = Job(pp=1, labels=None, num_microbatches=2, global_norm=False)
    planted = plant(job, Faults(), tmp_path)
    traces = read_traces(planted.traces)
    tables = analyze(read(planted.traces)).tables
    first = device_passes(tables["kernels"]).filter(pl.col("step") == 1)
    assert first["phase"].to_list() == ["F", "B", "F", "B"]
    ranges = optimizer_ranges(traces.events)
    assert ranges.is_empty()
    by_name = optimizer_on_device(ranges, tables["kernels"])
    truth = sorted(op["start_ns"] for op in planted.truth.device_ops if op["kind"] == "optimizer" and op["step"] > 0)
    assert by_name["start_ns"].to_list() == pytest.approx(truth, abs=1_000)
