"""The roofline in the report."""

from __future__ import annotations

from reports.sections.efficiency import roofline_grid

SHAPE = {
    "name": "aten::_scaled_mm", "kind": "gemm", "dtype": "c10::BFloat16", "shape": "8x16 16x4", "num_calls": 3.0, "ms": 4.0,
    "flops_per_second": 6.11e14, "bound": "compute", "roof_share": 0.617, "lost_ms": 1.5,
}  # fmt: skip


def test_shapes_as_a_table() -> None:
    grid = roofline_grid({"roofline": [SHAPE]})
    assert grid is not None
    (row,) = grid.rows
    assert len(row) == len(grid.columns)
    assert row[:3] == ("aten::_scaled_mm", "8x16 16x4", "c10::BFloat16")
    assert [cell.replace("\u202f", " ") for cell in row[3:]] == [
        "1.50 ms",
        "4.00 ms",
        "611 TFLOP/s",
        "61.7 %",
        "compute",
    ]


def test_without_shapes_there_is_no_table() -> None:
    assert roofline_grid({"roofline": []}) is None
    assert roofline_grid({}) is None
