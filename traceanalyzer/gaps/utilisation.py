"""MFU of a run: model FLOPs by a named convention, a peak with its origin, the step time from the trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.review import ConventionMfu, Mfu, Withheld
from traceanalyzer.hardware import MeasuredPeak
from traceanalyzer.job import Job
from traceanalyzer.measurements.mfu import median_step, utilisation, wall_clock_step_ns
from traceanalyzer.measurements.validity import Validity
from traceanalyzer.theory.flops import Convention, Recompute, flops_per_token


@dataclass(frozen=True, slots=True)
class UtilisationGap:
    """The MFU section of the review."""

    figures: Mfu
    withheld: tuple[Withheld, ...]


def utilisation_gap(
    windows: pl.DataFrame, step_records: pl.DataFrame, job: Job | None, validity: Validity
) -> UtilisationGap:
    """MFU and HFU of the median step; withheld with the reason where the run cannot carry them."""
    reason = _why_not(job, validity)
    figures = _figures(windows, step_records, job, measured=reason is None)
    if reason is None:
        return UtilisationGap(figures, ())
    return UtilisationGap(
        figures, (Withheld(metric="mfu.mfu", reason=reason), Withheld(metric="mfu.hfu", reason=reason))
    )


def _why_not(job: Job | None, validity: Validity) -> str | None:
    if job is None:
        return "the model's shape and the tokens per step are not known without run.json"
    if job.compute_mode == "paced":
        return "paced run: each computation is followed by a sleep, so its time is not the hardware's"
    if job.hardware is None or job.hardware.measured_peak is None:
        return "no peak is known: this run measured no matrix multiply on its device"
    if validity.verdict == "distorted":
        return f"the host distorted the timeline: {'; '.join(validity.reasons)}"
    return None


def _figures(windows: pl.DataFrame, step_records: pl.DataFrame, job: Job | None, *, measured: bool) -> Mfu:
    if job is None:
        return Mfu(**dict.fromkeys(Mfu.__struct_fields__) | {"conventions": []})  # type: ignore[arg-type]
    recompute = Recompute(job.recompute or "none")
    flops = flops_per_token(job.model, job.sequence_length, recompute=recompute)
    per_step, hardware_per_step = flops.total * job.tokens_per_step, flops.hardware * job.tokens_per_step
    peak = job.hardware.measured_peak if job.hardware else None
    step_ns = median_step(windows)[1] if windows.height else None

    def share(flops_per_step: float, duration_ns: float | None) -> float | None:
        if not measured or peak is None or not duration_ns:
            return None
        return utilisation(flops_per_step, duration_ns, peak.flops_per_second, job.layout.world_size)

    unprofiled_ns = job.unprofiled_step_ms * 1e6 if job.unprofiled_step_ms else None
    return Mfu(
        mfu=share(per_step, step_ns),
        hfu=share(hardware_per_step, step_ns),
        mfu_wall_clock=share(per_step, wall_clock_step_ns(step_records, windows)),
        mfu_unprofiled=share(per_step, unprofiled_ns),
        flops_per_step=per_step,
        hardware_flops_per_step=hardware_per_step,
        flops_per_token=flops.total,
        tokens_per_step=job.tokens_per_step,
        peak_flops_per_device=peak.flops_per_second if peak else None,
        peak_basis=_peak_basis(peak) if peak else None,
        num_devices=job.layout.world_size,
        convention=flops.convention.value,
        conventions=[_in_convention(job, name, lambda count: share(count, step_ns)) for name in Convention],
        predicted_mfu=None,
    )


def _in_convention(job: Job, convention: Convention, share: Callable[[float], float | None]) -> ConventionMfu:
    count = flops_per_token(job.model, job.sequence_length, convention).total * job.tokens_per_step
    return ConventionMfu(name=convention.value, flops_per_step=count, mfu=share(count))


def _peak_basis(peak: MeasuredPeak) -> str:
    m, k, n = peak.shape
    threads = f"{peak.num_threads} thread{'s' if peak.num_threads > 1 else ''}"
    return f"measured GEMM {m}×{k}×{n} {peak.dtype}, {threads}, best of {len(peak.samples) or 1}"
