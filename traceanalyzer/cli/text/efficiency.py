"""Matrix multiplications of a review as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from traceanalyzer.review.words import flops_rate, percent

_SHOWN = 5


def roofline_lines(shapes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The shapes that lose most time to their roof."""
    if not shapes:
        return
    yield "Matrix multiplications by time lost to the roof (per rank and step; all in the table roofline)"
    yield "     lost ms         ms  of roof  bound      reached          operator and shape"
    for row in shapes[:_SHOWN]:
        rate = flops_rate(row["flops_per_second"])
        yield (
            f"  {row['lost_ms']:>10.3f} {row['ms']:>10.3f}  {percent(row['roof_share']):>7}  {row['bound']:<9}"
            f"  {rate:<15}  {row['name']} {row['shape']} {row['dtype']}"
        )
