"""The parts of `review.json` about single matrix multiplications."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class RooflineShape(Struct, frozen=True, kw_only=True):
    """One shape of a matrix multiplication or attention against its roof; times are means per rank and step."""

    name: Annotated[str, Meta(description="Operator, as the profiler recorded it.")]
    kind: Annotated[str, Meta(description="`gemm` or `attention`.")]
    dtype: str | None
    shape: Annotated[str, Meta(description="Sizes of the factors, or of query, key and value.")]
    num_calls: Annotated[float, Meta(description="Per rank and step.")]
    ms: float
    flops_per_second: float
    bound: Annotated[str | None, Meta(description="`compute` or `memory`; null where the roof is not known.")]
    roof_share: Annotated[float | None, Meta(description="Reached share of the roof.")]
    lost_ms: Annotated[float | None, Meta(description="Time beyond what the roof allows.")]
