"""Does the capture show what the job does when nobody looks? Five checks, each with its figure and limit."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.ledger.intervals import covered_within
from traceanalyzer.review.vocabulary import CaptureCheckName
from traceanalyzer.review.words import milliseconds, percent

MAX_SLOWDOWN = 0.05
"""Profiled step over unprofiled step, less one."""
MAX_ORPHAN_SHARE = 0.01
"""Device time of kernels without launch record, of all inside the step windows: they are in no step's account."""
MAX_OVERHEAD_SHARE = 0.02
"""Time in which the profiler itself worked on the host, of the rank's steps."""
MAX_WARM_UP = 0.2
"""First captured step over the median of the others, less one."""
_FEWEST_STEPS = 3


@dataclass(frozen=True, slots=True)
class CaptureCheck:
    """One check; `value` is None if it cannot be made, and `text` then says why."""

    name: CaptureCheckName
    value: float | None
    limit: float
    text: str

    @property
    def passed(self) -> bool | None:
        """None if it is unknown."""
        return None if self.value is None else self.value <= self.limit


def capture_checks(
    *,
    steps: pl.DataFrame,
    kernels: pl.DataFrame,
    overhead: pl.DataFrame,
    profiled_ms: float | None,
    unprofiled_ms: float | None,
) -> list[CaptureCheck]:
    """Every check of a capture.

    `steps` is `STEPS`, `kernels` is `KERNELS`; `overhead` is `rank`, `start_ns`, `end_ns` of what the profiler recorded of
    its own work; `profiled_ms` and `unprofiled_ms` are the same step with and without it.
    """
    return [
        _slowdown(profiled_ms, unprofiled_ms),
        _orphans(kernels, steps),
        _overhead(overhead, steps),
        _warm_up(steps),
        _open_end(steps),
    ]


def _slowdown(profiled_ms: float | None, unprofiled_ms: float | None) -> CaptureCheck:
    name = "profiled_step"
    if not profiled_ms or not unprofiled_ms:
        return CaptureCheck(name, None, MAX_SLOWDOWN, "the run recorded no step without the profiler")
    value = profiled_ms / unprofiled_ms - 1
    than = f"{percent(abs(value))} {'longer' if value > 0 else 'shorter'} than"
    text = f"profiled steps last {milliseconds(profiled_ms)}, {than} the {milliseconds(unprofiled_ms)} without the profiler"
    return CaptureCheck(name, value, MAX_SLOWDOWN, text)


def _orphans(kernels: pl.DataFrame, steps: pl.DataFrame) -> CaptureCheck:
    name = "orphan_kernels"
    if kernels.is_empty():
        return CaptureCheck(name, None, MAX_ORPHAN_SHARE, "no device in these traces")
    span = steps.group_by("rank").agg(
        pl.col("start_ns").min().alias("first_ns"), pl.col("end_ns").max().alias("last_ns")
    )
    inside = (
        kernels.filter(pl.col("kind").ne_missing(pl.lit("copy")))
        .select("rank", "start_ns", "end_ns", "launch_start_ns")
        .join(span, on="rank")
        .filter((pl.col("start_ns") >= pl.col("first_ns")) & (pl.col("start_ns") < pl.col("last_ns")))
    )
    time = pl.col("end_ns") - pl.col("start_ns")
    orphan = pl.col("launch_start_ns").is_null()
    total, lost, count = inside.select(
        time.sum().alias("total"), time.filter(orphan).sum().alias("lost"), orphan.sum().alias("count")
    ).row(0)
    if not total:
        return CaptureCheck(name, None, MAX_ORPHAN_SHARE, "no kernel inside the steps")
    text = f"{count:,} of {inside.height:,} kernels in the steps, {percent(lost / total)} of device time, have no launch record"
    return CaptureCheck(name, lost / total, MAX_ORPHAN_SHARE, text)


def _overhead(overhead: pl.DataFrame, steps: pl.DataFrame) -> CaptureCheck:
    name = "profiler_overhead"
    if overhead.is_empty() or steps.is_empty():
        return CaptureCheck(name, None, MAX_OVERHEAD_SHARE, "the traces do not record the profiler's own work")
    windows = steps.group_by("rank").agg(pl.col("start_ns").min(), pl.col("end_ns").max()).sort("rank")
    shares = covered_within(windows, overhead, "start_ns", "end_ns", "own_ns").select(
        "rank", (pl.col("own_ns") / (pl.col("end_ns") - pl.col("start_ns")).clip(1)).alias("share")
    )
    worst, share = shares.sort("share", "rank", descending=[True, False]).row(0)
    text = f"the profiler worked on rank {worst}'s host for {percent(share)} of its steps"
    return CaptureCheck(name, share, MAX_OVERHEAD_SHARE, text)


def _warm_up(steps: pl.DataFrame) -> CaptureCheck:
    name = "warm_up"
    lengths = (
        steps.filter(~pl.col("open_end"))
        .group_by("step")
        .agg((pl.col("end_ns") - pl.col("start_ns")).max().alias("ns"))
        .sort("step")["ns"]
    )
    rest = lengths[1:].median()
    if len(lengths) < _FEWEST_STEPS or not isinstance(rest, (int, float)) or not rest:
        return CaptureCheck(name, None, MAX_WARM_UP, f"needs {_FEWEST_STEPS} whole steps, found {len(lengths)}")
    value = float(lengths[0]) / rest - 1
    text = f"the first captured step lasts {milliseconds(lengths[0] / 1e6)}, the median of the others {milliseconds(rest / 1e6)}"
    return CaptureCheck(name, value, MAX_WARM_UP, text)


def _open_end(steps: pl.DataFrame) -> CaptureCheck:
    name = "open_end"
    if steps.is_empty():
        return CaptureCheck(name, None, 0.0, "no step")
    num_open = steps.filter("open_end").height
    share = num_open / steps.height
    which = (
        "the only step window ends"
        if steps.height == 1
        else f"{num_open} of {steps.height:,} step windows {'ends' if num_open == 1 else 'end'}"
    )
    unknown = f", so {'its' if num_open == 1 else 'their'} true length is not known" if num_open else ""
    text = f"{which} with the capture and not with a next step{unknown}"
    return CaptureCheck(name, share, 0.0, text)
