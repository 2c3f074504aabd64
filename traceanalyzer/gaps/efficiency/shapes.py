"""Recorded shapes set against what was declared and what the device could do: FLOPs as declared, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.efficiency.declaration import Training
from traceanalyzer.gaps.efficiency.operators import RecordedOperators, recorded_flops
from traceanalyzer.gaps.efficiency.step_flops import step_flops
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.measurements.efficiency.roofline import roofline
from traceanalyzer.review import RooflineShape, Withheld
from traceanalyzer.theory.model.flops import Convention

MAX_SHAPES = 12
"""Shapes listed in the review; the table `roofline` has all."""


@dataclass(frozen=True, slots=True)
class EfficiencyGap(SubjectPart):
    """Roofline and the check of the declared FLOPs."""

    table: pl.DataFrame
    """From `measurements.roofline.roofline`, over all captured steps."""
    shapes: list[RooflineShape]
    flops: tuple[float, float] | None
    """Of a step: by the recorded shapes, and as declared; None if they cannot be compared."""
    recompute: tuple[str, Recomputed] | None
    """What the job declares to compute again, and what the traces show."""
    recomputed: Recomputed
    """What the traces show of it."""
    withheld: tuple[Withheld, ...]
    timed: pl.DataFrame
    """Recorded operators of all steps with their shapes and device time."""

    @property
    def sections(self) -> Mapping[str, object]:
        """Shapes that lose most."""
        return {"roofline": self.shapes}

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """The roofline."""
        return {"roofline": self.table}


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
    flops = _declared_flops(operators, utilisation.training, windows)
    recompute = None if declared is None else (declared, operators.recomputed)
    return EfficiencyGap(table, shapes, flops, recompute, operators.recomputed, withheld, operators.timed)


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


def _declared_flops(
    operators: RecordedOperators, trained: Training | None, windows: pl.DataFrame
) -> tuple[float, float] | None:
    """FLOPs of a step by the recorded shapes and as declared: only where every device's step is here and every shape read.

    The full-attention convention counts as kernels are called; what one stage computes says nothing of the others.
    """
    recorded = recorded_flops(operators, windows, trained.num_devices) if trained else None
    if trained is None or recorded is None or not trained.hardware_flops_known:
        return None
    counted = step_flops(trained, Convention.FULL_ATTENTION)
    return None if counted is None else (recorded, counted.hardware)
