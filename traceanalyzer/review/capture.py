"""The part of the review that says whether the capture shows what the job does when nobody looks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class CaptureCheckFigures(Struct, frozen=True, kw_only=True):
    """One check of the capture."""

    check: Annotated[
        str, Meta(description="`profiled_step`, `orphan_kernels`, `profiler_overhead`, `warm_up` or `open_end`.")
    ]
    passed: Annotated[bool | None, Meta(description="null where it cannot be told.")]
    value: Annotated[float | None, Meta(description="A share; null where it cannot be told.")]
    limit: Annotated[float, Meta(description="The largest value that passes.")]
    text: Annotated[str, Meta(description="What was found, or why nothing can be said.")]
