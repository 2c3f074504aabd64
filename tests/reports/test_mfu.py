"""The roofline in the report."""

from __future__ import annotations

from reports.sections.devices.roofline import roofline_grid
from traceanalyzer.review import RooflineShape

SHAPE = RooflineShape(
    name="aten::_scaled_mm", kind="gemm", dtype="c10::BFloat16", shape="8x16 16x4", num_calls=3.0, ms=4.0,
    flops_per_second=6.11e14, bound="compute", roof_share=0.617, lost_ms=1.5,
)  # fmt: skip


def test_shapes_as_a_table() -> None:
    grid = roofline_grid([SHAPE])
    assert grid is not None
    (row,) = grid.rows
    assert len(row) == len(grid.columns)
    assert row == (
        *("1.50 ms", "4.00 ms", "61.7%", "compute", "611 TFLOP/s", "c10::BFloat16"),
        "aten::_scaled_mm 8x16 16x4",
    )


def test_without_shapes_there_is_no_table() -> None:
    assert roofline_grid([]) is None
