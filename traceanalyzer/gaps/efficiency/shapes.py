"""Recorded shapes set against what was declared and what the device could do: FLOPs as declared, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.efficiency.declaration import Training
from traceanalyzer.gaps.efficiency.operators import MAX_DIFFERENCE, RecordedOperators, recorded_flops
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.measurements.efficiency.roofline import roofline
from traceanalyzer.review.efficiency import RooflineShape
from traceanalyzer.review.result import Finding, Withheld
from traceanalyzer.review.words import flops_count, percent
from traceanalyzer.theory.model.flops import Convention, flops_per_token

MAX_SHAPES = 12
"""Shapes listed in the review; the table `roofline` has all."""


@dataclass(frozen=True, slots=True)
class EfficiencyGap:
    """Roofline and the check of the declared FLOPs."""

    table: pl.DataFrame
    """From `measurements.roofline.roofline`, over all captured steps."""
    shapes: list[RooflineShape]
    findings: list[Finding]
    withheld: tuple[Withheld, ...]


def efficiency_gap(
    operators: RecordedOperators, utilisation: UtilisationGap, windows: pl.DataFrame, declared: str | None = None
) -> EfficiencyGap:
    """Judge the recorded operators. `windows` is `STEPS`, `declared` the declared recomputation."""
    roofs = utilisation.roofs
    inside = operators.timed.join(windows.select("rank", "step").unique(), on=["rank", "step"], how="semi")
    # Times that the host or a pace distorted say nothing of a kernel.
    rates: Mapping[str, float] = roofs.flops_per_second if utilisation.faithful else {}
    table = roofline(inside, rates, roofs.memory_bytes_per_second)
    shapes = _listed(table, windows.select("rank", "step").n_unique())
    reason = _why_no_roof(utilisation) if table.height and not shapes else None
    withheld = () if reason is None else (Withheld(metric="roofline", reason=reason),)
    findings = _declared_flops(operators, utilisation.training, windows)
    return EfficiencyGap(table, shapes, [*findings, *_declared_recompute(operators.recomputed, declared)], withheld)


def _why_no_roof(utilisation: UtilisationGap) -> str:
    if not utilisation.faithful and utilisation.reason is not None:
        return utilisation.reason
    return "no peak is known for the number formats of the recorded operators (give --peak-tflops and --dtype)"


def _listed(table: pl.DataFrame, num_windows: int) -> list[RooflineShape]:
    """The shapes that lose most, where the roof of any is known."""
    known = table.filter(pl.col("lost_ns").is_not_null()).head(MAX_SHAPES)
    return [
        RooflineShape(
            name=row["name"],
            kind=row["kind"],
            dtype=row["dtype"],
            shape=row["shape"],
            num_calls=row["num_calls"] / num_windows,
            ms=row["duration_ns"] / 1e6 / num_windows,
            flops_per_second=row["flops_per_second"],
            bound=row["bound"],
            roof_share=row["roof_share"],
            lost_ms=row["lost_ns"] / 1e6 / num_windows,
        )
        for row in known.iter_rows(named=True)
    ]


def _declared_flops(operators: RecordedOperators, trained: Training | None, windows: pl.DataFrame) -> list[Finding]:
    """Whether the recorded shapes are the declared job's: only where every device's step is here and every shape read.

    The full-attention convention counts as kernels are called; what one stage computes says nothing of the others.
    """
    recorded = recorded_flops(operators, windows, trained.num_devices) if trained else None
    if trained is None or recorded is None or not trained.hardware_flops_known:
        return []
    counted = flops_per_token(
        trained.model, trained.sequence_length, Convention.FULL_ATTENTION, recompute=trained.recompute
    )
    return [_finding(recorded, float(counted.hardware * trained.tokens_per_step))]


def _declared_recompute(found: Recomputed, declared: str | None) -> list[Finding]:
    """Whether what is declared to be computed again is; `partial` agrees with whatever recomputes."""
    if declared is None or found.value is None:
        return []
    passed = declared == found.value or (found.value == "partial" and declared != "none")
    return [
        Finding(
            id="recompute.as_declared",
            title="Backward recomputes as declared" if passed else "Backward does not recompute as declared",
            passed=passed,
            worth_ms=None,
            worth_mfu_points=None,
            evidence=f"declared {declared}, recorded {found.value}: {found.basis}",
            action=None
            if passed
            else "HFU and memory are of the declared job: correct --recompute, or look for why it differs",
        )
    ]


def _finding(recorded: float, declared: float) -> Finding:
    difference = recorded / declared - 1
    passed = abs(difference) <= MAX_DIFFERENCE
    more = "an optimizer that multiplies matrices (Muon), undeclared recompute or a larger model"
    less = "fewer tokens than declared, a forward pass alone, attention that skips what is masked, or a smaller model"
    return Finding(
        id="flops.as_declared",
        title="The recorded shapes are the declared job's"
        if passed
        else "The recorded shapes are not the declared job's",
        passed=passed,
        worth_ms=None,
        worth_mfu_points=None,
        evidence=(
            f"{flops_count(recorded)} per step recorded, {flops_count(declared)} declared (every key counted, recompute "
            f"included): {percent(difference, 2)} apart"
        ),
        action=None if passed else f"MFU is of the declared job: look for {more if difference > 0 else less}",
    )
