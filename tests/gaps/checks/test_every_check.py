"""No check is without an input that fails it and one that passes it: planted runs, or what their numbers are by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.registry import CHECKS, findings
from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.review import (
    AllToAll,
    AttributionMs,
    Bubble,
    Culprit,
    DimensionBytes,
    Finding,
    RankMemory,
    RemedyWorth,
    ValidityFigures,
)
from traceanalyzer.schema import CAUSE

LINE = Job(pp=3, num_microbatches=5, num_steps=2)
FLAT = {"pp": 1, "num_microbatches": 2, "num_steps": 2, "steps_ahead": 0}
DATA = Job(**FLAT, dp=3)
EXPERTS = Job(**FLAT, dp=4, ep=4, moe_layers=2, gradient_bytes=1 << 16)
RING = Job(**FLAT, dp=3, context=3)
LATE = {(1, step, position): 9_000_000 for step in range(3) for position in range(10)}
PLANTED: Mapping[str, tuple[Job, Job, Faults]] = {
    "bubble.is_the_schedules": (LINE, LINE, Faults(slow_compute={1: 1.6})),
    "pipeline.stage": (LINE, LINE, Faults(slow_compute={2: 1.4})),
    "schedule.best": (replace(LINE, pp=1, num_microbatches=2), LINE, Faults()),
    "pipeline.starts_on_time": (LINE, replace(LINE, steps_ahead=0), Faults(host_stall_ns=LATE)),
    "pipeline.transfer": (LINE, replace(LINE, p2p_bytes=512 << 20), Faults()),
    "pipeline.jitter": (LINE, replace(LINE, num_steps=3), Faults(varying_compute=0.6)),
    "ranks.computation": (DATA, DATA, Faults(slow_compute={2: 1.4})),
    "ranks.host": (DATA, DATA, Faults(loading_ns={1: 7_000_000})),
    "ranks.late_starts": (DATA, DATA, Faults(late_start_ns={0: 2_000_000})),
    "ranks.link": (EXPERTS, EXPERTS, Faults(slow_link={2: 5.0})),
    "sequence.balanced": (RING, replace(RING, context_layout="contiguous"), Faults()),
    "experts.balanced": (EXPERTS, replace(EXPERTS, moe_hot_share=0.4), Faults()),
}
"""A clean job, and a job with a fault that fails the check."""


def unknown(**verdict: Any) -> ValidityFigures:
    fields = {"cpu_pressure_share": 0.4, "involuntary_switches_per_second": None, "action_spread": 0.2, "reasons": []}
    return msgspec.convert(fields | {"verdict": "unknown"} | verdict, ValidityFigures)


def by_cause(cause: str, ms: float) -> Judged:
    """A phase of 100 ms that one cause makes longer."""
    parts = dict.fromkeys(CAUSE.categories, 0.0) | {cause: ms}
    bubble = Bubble(
        measured_share=None, measured_ratio=None, span_share=None, idle_share=None, transfer_share=None, share_of_step=None,
        overhead_share=None, phase_ms=None, theory=None, stages=[], steps=[],
        attribution_ms=AttributionMs(measured=100 + ms, ideal=100, schedule=30, **parts),
        culprits=[msgspec.convert({"cause": cause, "culprit": 3, "stages": [1], "ms": ms}, Culprit)],
        worth=[msgspec.convert({"remedy": "mend", "cause": cause, "rank": 3, "stage": None, "ms": 0.8 * ms}, RemedyWorth)],
        replay_error=0.001, stragglers_separable=True,
    )  # fmt: skip
    return Judged(validity=unknown(), bubble=bubble, step_ms=120.0)


def exchanges(**facts: Any) -> Judged:
    """All-to-alls of steps of 100 ms."""
    required = [
        "groups", "wait_share", "transfer_share", "exposed_share", "rank_load_max_over_mean", "expert_load_max_over_mean",
        "chance_max_over_mean", "slowest_rank", "imbalance_cost_ms", "imbalance_cost_spread_ms", "bus_bandwidth_gbps",
        "loads_source", "theory",
    ]  # fmt: skip
    fields = dict.fromkeys(required) | {"groups": []} | facts
    return Judged(validity=unknown(), all_to_all=msgspec.convert(fields, AllToAll), step_ms=100.0)


def placed(saved_ms: float) -> Judged:
    advice = {
        "rank_load_before": 1.4, "rank_load_after": 1.05, "held_out": True, "num_redundant": 0, "saved_ms": saved_ms, "num_moved": 6,
    }  # fmt: skip
    return exchanges(placement=advice)


def linked(saved_ms: float) -> Judged:
    port = {"group": [0, 1, 2, 3], "rank": 2, "side": "row", "excess_us": 900.0}
    return exchanges(slow_ports=[port], worth=[{"remedy": "repaired_link", "ms": saved_ms}])


def sourced(max_over_mean: float) -> Judged:
    sent = {
        "unit": "rank", "side": "sent", "max_over_mean": max_over_mean, "max_vio": max_over_mean - 1, "cv": 0.0, "gini": 0.0,
        "entropy_share": 1.0, "num_idle": 0.0,
    }  # fmt: skip
    return exchanges(loads=[sent], fullest_source=2)


def crossing(num_groups: int) -> Judged:
    sent = DimensionBytes(
        dimension="tp", num_groups=4, num_crossing=num_groups, example=[6, 7] if num_groups else [], num_ranks=8, within_bytes=2e6,
        between_bytes=1e6, unplaced_bytes=0, num_unknown=0,
    )  # fmt: skip
    return Judged(validity=unknown(), dimension_bytes=[sent])


def holding(peak_bytes: int) -> Judged:
    held = RankMemory(
        rank=0, stage=[0], in_flight=3, in_flight_basis="loop", predicted_in_flight=3, peak_bytes=peak_bytes, predicted_bytes=1000,
        peak_allocated_bytes=None, peak_reserved_bytes=None,
    )  # fmt: skip
    return Judged(validity=unknown(), memory=[held])


BY_HAND: Mapping[str, tuple[Judged, Judged]] = {
    "timeline.faithful": (Judged(validity=unknown(verdict="faithful")), Judged(validity=unknown(verdict="distorted"))),
    **{
        f"pipeline.{cause}": (by_cause(cause, 0.5), by_cause(cause, 20.0))
        for cause in ("straggler", "chunk_comm", "overlap_dp", "host")
    },
    "placement.tensor_parallel": (crossing(0), crossing(1)),
    "experts.sources": (sourced(1.02), sourced(1.6)),
    "experts.placement": (placed(0.5), placed(9.0)),
    "all_to_all.links": (linked(0.5), linked(9.0)),
    "memory.activations": (holding(1100), holding(1300)),
    "flops.as_declared": (
        Judged(validity=unknown(), flops=(1.001e12, 1e12)),
        Judged(validity=unknown(), flops=(1.2e12, 1e12)),
    ),
    "recompute.as_declared": (
        Judged(validity=unknown(), recompute=("full", Recomputed(value="full", basis="operators"))),
        Judged(validity=unknown(), recompute=("none", Recomputed(value="full", basis="operators"))),
    ),
}
"""What passes and what fails, of checks whose faults the planted traces do not hold, or whose finding a rank's replaces."""


def failed(found: list[Finding], check: str) -> list[Finding]:
    return [each for each in found if each.id == check and not each.passed]


def test_every_check_has_an_input_that_fails_it_and_one_that_passes_it() -> None:
    assert {check.id for check in CHECKS} == {*PLANTED, *BY_HAND}
    assert not set(PLANTED) & set(BY_HAND)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_fails_its_check_and_a_clean_run_does_not(check: str, tmp_path: Path) -> None:
    clean, job, faults = PLANTED[check]
    plant(clean, Faults(), tmp_path / "clean")
    plant(job, faults, tmp_path / "fault")
    assert failed(analyze(read(tmp_path / "clean")).review.findings, check) == []
    (finding,) = failed(analyze(read(tmp_path / "fault")).review.findings, check)
    assert finding.action
    assert finding.evidence


@pytest.mark.parametrize("check", BY_HAND)
def test_numbers_beyond_its_limit_fail_a_check_and_others_pass_it(check: str) -> None:
    passes, fails = BY_HAND[check]
    (passing,) = [each for each in findings(passes) if each.id == check]
    assert passing.passed
    (finding,) = failed(findings(fails), check)
    assert finding.action
